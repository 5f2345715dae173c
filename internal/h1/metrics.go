package h1

import "github.com/prometheus/client_golang/prometheus"

// protocol is what is spoken on a connection.
type protocol uint8

const (
	protoH1 protocol = iota
	protoH2
	protocols
)

func (p protocol) String() string { return [...]string{"http/1.1", "h2", ""}[p] }

// Metrics counts connections and what becomes of their requests. A nil Metrics
// counts nothing.
type Metrics struct {
	open     [protocols]prometheus.Gauge
	accepted prometheus.Counter
	others   prometheus.Counter
	gifts    [oddities]prometheus.Counter
	rejected *prometheus.CounterVec
}

// NewMetrics registers the metrics in reg. It must be called once per role and
// registry.
func NewMetrics(role string, reg prometheus.Registerer) *Metrics {
	labels := prometheus.Labels{"role": role}
	handovers := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "freshet_http_handovers_total", ConstLabels: labels,
		Help: "Requests that were no hits, by why: answer (none at hand), or left to the general server with their connection: protocol, or what is unusual in the request.",
	}, []string{"why"})
	open := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "freshet_http_connections", ConstLabels: labels,
		Help: "Connections open, by protocol.",
	}, []string{"protocol"})
	m := &Metrics{
		accepted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "freshet_http_connections_total", ConstLabels: labels,
			Help: "Connections accepted.",
		}),
		others: handovers.WithLabelValues("answer"),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "freshet_http_rejections_total", ConstLabels: labels,
			Help: "Connections refused or cut, and HTTP/2 requests refused, by reason.",
		}, []string{"reason"}),
	}
	for p := range protocols {
		m.open[p] = open.WithLabelValues(p.String())
	}
	for _, why := range rejections() {
		m.rejected.WithLabelValues(string(why))
	}
	m.gifts[plain] = handovers.WithLabelValues("protocol")
	for o := plain + 1; o < oddities; o++ {
		m.gifts[o] = handovers.WithLabelValues(o.String())
	}
	reg.MustRegister(handovers, open, m.accepted, m.rejected)
	return m
}

// Rejected counts a connection or request that was refused or cut.
func (m *Metrics) Rejected(why Rejection) {
	if m != nil {
		m.rejected.WithLabelValues(string(why)).Inc()
	}
}

func (m *Metrics) opened() {
	if m != nil {
		m.open[protoH1].Inc()
		m.accepted.Inc()
	}
}

// changed follows closed when a connection goes on with another protocol.
func (m *Metrics) changed(p protocol) {
	if m != nil {
		m.open[p].Inc()
	}
}

func (m *Metrics) closed(p protocol) {
	if m != nil {
		m.open[p].Dec()
	}
}

// Other counts a request for which no answer was at hand.
func (m *Metrics) Other() {
	if m != nil {
		m.others.Inc()
	}
}

func (m *Metrics) gave(why oddity) {
	if m != nil {
		m.gifts[why].Inc()
	}
}
