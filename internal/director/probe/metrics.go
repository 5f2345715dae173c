package probe

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what is counted; what is known now is collected from the state.
type metrics struct {
	looks   *prometheus.CounterVec
	reports *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, p *Prober) *metrics {
	m := &metrics{
		looks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "freshet_director_looks_total",
			Help: "Looks at mirrors and origins, by result: ok, or the reason why a look was bad.",
		}, []string{"result"}),
		reports: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "freshet_director_reports_total",
			Help: "Reports of mirrors that were taken, by what they tell: missing, wrong, slow, error, load.",
		}, []string{"what"}),
	}
	reg.MustRegister(m.looks, m.reports, collector{p})
	return m
}

func (m *metrics) looked(o outcome) {
	result := string(o.why)
	if o.why == Fine {
		result = "ok"
	}
	m.looks.WithLabelValues(result).Inc()
}

// collector tells of the state.
type collector struct{ *Prober }

func waysDesc() *prometheus.Desc {
	return prometheus.NewDesc("freshet_director_ways",
		"Ways to mirrors (each project by each scheme over each family of addresses), by whether clients are sent there (works) or why not.",
		[]string{"scheme", "family", "state"}, nil)
}

func blindDesc() *prometheus.Desc {
	return prometheus.NewDesc("freshet_director_blind",
		"1 if the director itself reaches nobody over the family of addresses: alert on it.", []string{"family"}, nil)
}

func expiryDesc() *prometheus.Desc {
	return prometheus.NewDesc("freshet_director_mirror_certificate_expiry_timestamp_seconds",
		"When the first certificate of a mirror ends, in seconds since 1970.", []string{"mirror"}, nil)
}

// Describe implements [prometheus.Collector].
func (collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- waysDesc()
	ch <- blindDesc()
	ch <- expiryDesc()
}

// Collect implements [prometheus.Collector].
func (c collector) Collect(ch chan<- prometheus.Metric) {
	type key struct {
		scheme Scheme
		family Family
		state  string
	}
	counts := make(map[key]int)
	expires := make(map[string]time.Time)
	s := c.State()
	for w, h := range s.All() {
		state := string(h.Why)
		if h.Works {
			state = "works"
		}
		counts[key{w.Scheme, w.Family, state}]++
		if end, ok := expires[w.Mirror]; !w.isOrigin() && !h.Expires.IsZero() && (!ok || h.Expires.Before(end)) {
			expires[w.Mirror] = h.Expires
		}
	}
	for k, n := range counts {
		ch <- prometheus.MustNewConstMetric(waysDesc(), prometheus.GaugeValue, float64(n), k.scheme.String(), k.family.String(), k.state)
	}
	for mirror, end := range expires {
		ch <- prometheus.MustNewConstMetric(expiryDesc(), prometheus.GaugeValue, float64(end.Unix()), mirror)
	}
	for _, f := range []Family{IPv4, IPv6} {
		blind := 0.0
		if s.Blind(f) {
			blind = 1
		}
		ch <- prometheus.MustNewConstMetric(blindDesc(), prometheus.GaugeValue, blind, f.String())
	}
}
