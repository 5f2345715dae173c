package edge

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/internal/accesslog"
	"freshet/internal/edge/diskcache"
	"freshet/internal/histogram"
)

// outcome is how a request was answered.
type outcome uint8

const (
	outcomeOwn outcome = iota
	outcomeHit
	outcomeStale
	outcomeJoin
	outcomeMiss
	outcomePass
	outcomeError
	outcomes
)

func (o outcome) String() string {
	return [outcomes]string{"own", "hit", "hit-stale", "join", "miss", "pass", "error"}[o]
}

// outcomeOf finds an outcome by its word.
func outcomeOf(word string) outcome {
	switch word {
	case "hit":
		return outcomeHit
	case "hit-stale":
		return outcomeStale
	case "join":
		return outcomeJoin
	case "miss":
		return outcomeMiss
	case "pass":
		return outcomePass
	case "error":
		return outcomeError
	}
	return outcomeOwn
}

// metrics are the edge's own; the counts by status are those of the access
// record.
type metrics struct {
	requests    [outcomes]prometheus.Counter
	failures    *prometheus.CounterVec // requests with outcome "error:REASON"
	bytes       [outcomes]prometheus.Counter
	ttfb        *histogram.Vec // by outcome
	took        *histogram.Vec // by outcome
	phases      *histogram.Vec // by phase
	fetches     *prometheus.CounterVec
	generations *prometheus.CounterVec
	events      prometheus.Counter
	purged      prometheus.Counter
	orders      *prometheus.CounterVec // by mode
}

func newMetrics(reg prometheus.Registerer, store *diskcache.Store, sites []*site) *metrics {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "freshet_edge_requests_total",
		Help: "Requests by outcome: hit, hit-stale, join (read along with another request's fetch), miss, pass (not cacheable), own (made by the edge itself, such as robots.txt or a redirect), error:REASON.",
	}, []string{"outcome"})
	bytes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "freshet_edge_response_bytes_total",
		Help: "Bytes of response bodies, by outcome.",
	}, []string{"outcome"})
	var names [outcomes]string
	for o := range names {
		names[o] = outcome(o).String()
	}
	m := &metrics{
		failures: requests,
		ttfb: histogram.NewVec(prometheus.Opts{
			Name: "freshet_edge_first_byte_seconds",
			Help: "Time from a request's header to the first byte of its answer, by outcome. Requests whose client left before are not in it.",
		}, "outcome", names[:]...),
		took: histogram.NewVec(prometheus.Opts{
			Name: "freshet_edge_request_seconds",
			Help: "Time from a request's header to the end of its answer, by outcome.",
		}, "outcome", names[:]...),
		phases: histogram.NewVec(prometheus.Opts{
			Name: "freshet_edge_upstream_seconds",
			Help: "Time of requests to origins, by phase: connect and tls if a connection was made, first_byte from the begin to the header of the answer, total to its end.",
		}, "phase", "connect", "tls", "first_byte", "total"),
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "freshet_edge_fetches_total",
			Help: "Requests made to origins, by their result: ok, not-modified, missing, other, or the reason of the failure.",
		}, []string{"result"}),
		generations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "freshet_edge_generations_total",
			Help: "New root files of sets, by kind of set and result: shown, or the reason why what was held is shown still.",
		}, []string{"kind", "result"}),
		events: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "freshet_edge_events_total", Help: "Events of hubs that were applied.",
		}),
		purged: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "freshet_edge_purged_total", Help: "Stored answers that an event made stale.",
		}),
		orders: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "freshet_edge_purges_total", Help: "Purges that were ordered, by mode: soft or hard.",
		}, []string{"mode"}),
	}
	for o, name := range names {
		if outcome(o) != outcomeError {
			m.requests[o] = requests.WithLabelValues(name)
		}
		m.bytes[o] = bytes.WithLabelValues(name)
	}
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	reg.MustRegister(
		requests, bytes, m.ttfb, m.took, m.phases, m.fetches, m.generations, m.events, m.purged, m.orders,
		gauge("freshet_edge_store_bytes", "Bytes the store takes on disk.", func() float64 { return float64(store.Stat().Used) }),
		gauge("freshet_edge_store_limit_bytes", "Bytes the store may take on disk.", func() float64 { return float64(store.Size()) }),
		gauge("freshet_edge_store_failing", "1 while answers cannot be stored or the disk has less room than the store should have: alert on it.", func() float64 {
			if store.Alert() != nil {
				return 1
			}
			return 0
		}),
		gauge("freshet_edge_store_disk_short_bytes", "Bytes that the disk of the store lacks for what the store may become: alert on it, the store will be smaller.", func() float64 {
			short, _ := store.Short() // a disk that cannot be asked is failing
			return float64(short)
		}),
		gauge("freshet_edge_store_bans", "Purges by key, prefix or site that are still compared with stored answers.", func() float64 { return float64(store.Bans()) }),
		gauge("freshet_edge_store_entries", "Answers in the store.", func() float64 { return float64(store.Stat().Entries) }),
	)
	for i, pool := range store.Stat().Pools {
		labels := prometheus.Labels{"pool": pool.Name}
		reg.MustRegister(
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "freshet_edge_store_pool_bytes", ConstLabels: labels,
				Help: "Bytes of stored answers, by pool: payload (named by content) and metadata (everything else).",
			}, func() float64 { return float64(store.Stat().Pools[i].Used) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "freshet_edge_store_pool_share_bytes", ConstLabels: labels,
				Help: "Bytes that a pool may take however much the other wants; while that has less, it takes more.",
			}, func() float64 { return float64(store.Stat().Pools[i].Share) }),
		)
	}
	for _, s := range sites {
		labels := prometheus.Labels{"site": s.label()}
		reg.MustRegister(
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "freshet_edge_fetches", ConstLabels: labels,
				Help: "Requests to the origins of a site that are under way for the store, bodies included.",
			}, func() float64 { running, _ := s.line.Held(); return float64(running) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "freshet_edge_fetches_waiting", ConstLabels: labels,
				Help: "Requests that wait until fewer are under way to the origins of a site.",
			}, func() float64 { _, waiting := s.line.Held(); return float64(waiting) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "freshet_edge_passes", ConstLabels: labels,
				Help: "Answers and uploads of a site that are being passed on, because they are not for the store.",
			}, func() float64 { running, _ := s.passes.Held(); return float64(running) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "freshet_edge_passes_waiting", ConstLabels: labels,
				Help: "Requests that wait until fewer of a site are passed on.",
			}, func() float64 { _, waiting := s.passes.Held(); return float64(waiting) }),
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

// note counts a request that was answered. It is called with each access
// record, before the line is written, so that the metrics and the log agree.
func (m *metrics) note(r *accesslog.Record) {
	o := outcomeOf(r.Outcome)
	if o == outcomeOwn { // it never came to the cache
		if r.Reason != "" {
			o = outcomeError
		}
		r.Outcome = o.String()
	}
	if o == outcomeError {
		m.failures.WithLabelValues("error:" + r.Reason).Inc()
	} else {
		m.requests[o].Inc()
	}
	m.bytes[o].Add(float64(r.Bytes))
	if r.FirstByte > 0 {
		m.ttfb.At(int(o)).Observe(r.FirstByte)
	}
	m.took.At(int(o)).Observe(r.Took)
}

// asked notes how long a request to an origin took.
func (m *metrics) asked(a *asking) {
	for i, d := range [...]time.Duration{a.trace.Connect, a.trace.TLS, a.firstByte, time.Duration(a.total.Load())} {
		if d > 0 {
			m.phases.At(i).Observe(d)
		}
	}
}
