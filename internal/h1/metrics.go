package h1

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts connections and what becomes of their requests. A nil Metrics
// counts nothing.
type Metrics struct {
	open     prometheus.Gauge
	accepted prometheus.Counter
	loans    prometheus.Counter
	gifts    [oddities]prometheus.Counter
}

// NewMetrics registers the metrics in reg. It must be called once per role and
// registry.
func NewMetrics(role string, reg prometheus.Registerer) *Metrics {
	labels := prometheus.Labels{"role": role}
	handovers := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "freshet_http_handovers_total", ConstLabels: labels,
		Help: "Requests left to the general server, by why: answer (none at hand), protocol, or what is unusual in the request.",
	}, []string{"why"})
	m := &Metrics{
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "freshet_http_connections", ConstLabels: labels,
			Help: "Connections open, without those left to the general server for good.",
		}),
		accepted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "freshet_http_connections_total", ConstLabels: labels,
			Help: "Connections accepted.",
		}),
		loans: handovers.WithLabelValues("answer"),
	}
	m.gifts[plain] = handovers.WithLabelValues("protocol")
	for o := plain + 1; o < oddities; o++ {
		m.gifts[o] = handovers.WithLabelValues(o.String())
	}
	reg.MustRegister(handovers, m.open, m.accepted)
	return m
}

func (m *Metrics) opened() {
	if m != nil {
		m.open.Inc()
		m.accepted.Inc()
	}
}

func (m *Metrics) closed() {
	if m != nil {
		m.open.Dec()
	}
}

func (m *Metrics) lent() {
	if m != nil {
		m.loans.Inc()
	}
}

func (m *Metrics) gave(why oddity) {
	if m != nil {
		m.gifts[why].Inc()
	}
}
