package edge

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/internal/edge/diskcache"
	"freshet/internal/edge/upstream"
)

// outcome is how a request was answered.
type outcome uint8

const (
	outcomeNone outcome = iota
	outcomeHit
	outcomeStale
	outcomeJoin
	outcomeMiss
	outcomePass
	outcomeError
	outcomes
)

func (o outcome) String() string {
	return [...]string{"none", "hit", "hit-stale", "join", "miss", "pass", "error", ""}[o]
}

// metrics are the edge's own; the counts by status are those of the access
// record.
type metrics struct {
	requests [outcomes]prometheus.Counter
	failures *prometheus.CounterVec // requests with outcome "error:REASON"
	bytes    [outcomes]prometheus.Counter
	ttfb     [outcomes]prometheus.Observer
	fetches  *prometheus.CounterVec
	events   prometheus.Counter
	purged   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, store *diskcache.Store, sites []*site) *metrics {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "freshet_edge_requests_total",
		Help: "Requests by outcome: hit, hit-stale, join (read along with another request's fetch), miss, pass (not cacheable), error:REASON.",
	}, []string{"outcome"})
	bytes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "freshet_edge_response_bytes_total",
		Help: "Bytes of response bodies, by outcome.",
	}, []string{"outcome"})
	ttfb := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "freshet_edge_first_byte_seconds",
		Help:    "Time from a request's header to the first byte of its answer, by outcome.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 4, 10),
	}, []string{"outcome"})
	m := &metrics{
		failures: requests,
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "freshet_edge_fetches_total",
			Help: "Requests made to origins, by their result: ok, not-modified, missing, other, or the reason of the failure.",
		}, []string{"result"}),
		events: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "freshet_edge_events_total", Help: "Events of hubs that were applied.",
		}),
		purged: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "freshet_edge_purged_total", Help: "Stored answers that an event made stale.",
		}),
	}
	for o := outcomeHit; o < outcomeError; o++ {
		m.requests[o] = requests.WithLabelValues(o.String())
	}
	for o := outcomeHit; o < outcomes; o++ {
		m.bytes[o] = bytes.WithLabelValues(o.String())
		m.ttfb[o] = ttfb.WithLabelValues(o.String())
	}
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	reg.MustRegister(
		requests, bytes, ttfb, m.fetches, m.events, m.purged,
		gauge("freshet_edge_store_bytes", "Bytes the store takes on disk.", func() float64 { return float64(store.Stat().Used) }),
		gauge("freshet_edge_store_limit_bytes", "Bytes the store may take on disk.", func() float64 { return float64(store.Size()) }),
		gauge("freshet_edge_store_failing", "1 while answers cannot be stored or the disk has less room than the store should have: alert on it.", func() float64 {
			if store.Alert() != nil {
				return 1
			}
			return 0
		}),
		gauge("freshet_edge_store_entries", "Answers in the store.", func() float64 { return float64(store.Stat().Entries) }),
	)
	for _, s := range sites {
		labels := prometheus.Labels{"site": s.label()}
		reg.MustRegister(
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "freshet_edge_event_lag", ConstLabels: labels,
				Help: "Events the edge knows of and has not applied yet.",
			}, func() float64 { return float64(s.lag.Load()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "freshet_edge_following", ConstLabels: labels,
				Help: "1 while every event is applied as it comes.",
			}, func() float64 {
				if s.newsState() == newsFollowing {
					return 1
				}
				return 0
			}),
		)
	}
	return m
}

func (s *site) label() string {
	if s.name == "" {
		return "default"
	}
	return s.name
}

// count notes a finished request.
func (m *metrics) count(o outcome, reason upstream.Reason, bytes int64) {
	if o == outcomeError {
		m.failures.WithLabelValues("error:" + string(reason)).Inc()
	} else if o != outcomeNone {
		m.requests[o].Inc()
	}
	if o != outcomeNone {
		m.bytes[o].Add(float64(bytes))
	}
}

func (m *metrics) firstByte(o outcome, took time.Duration) {
	if o != outcomeNone {
		m.ttfb[o].Observe(took.Seconds())
	}
}
