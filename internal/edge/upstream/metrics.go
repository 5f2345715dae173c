package upstream

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/internal/histogram"
)

// Metrics are those of all origins of an edge.
type Metrics struct {
	reg      prometheus.Registerer
	failures *prometheus.CounterVec
	second   *prometheus.CounterVec
}

// NewMetrics registers the metrics. It must be called once per registry.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		reg: reg,
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "freshet_edge_origin_failures_total", Help: "Requests to an origin that failed, by reason.",
		}, []string{"site", "origin", "reason"}),
		second: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "freshet_edge_second_tries_total",
			Help: "Requests that asked a second origin, by why: failed (the first did), slow (hedged), slow_won (hedged, and it was faster).",
		}, []string{"site", "why"}),
	}
	reg.MustRegister(m.failures, m.second)
	return m
}

// OriginMetrics are those of one origin.
type OriginMetrics struct {
	fails  func(Reason)
	phases *histogram.Vec // connect, tls, first_byte
}

func (m OriginMetrics) failed(reason Reason) {
	if m.fails != nil {
		m.fails(reason)
	}
}

func (m OriginMetrics) observe(tr *Trace) {
	if m.phases == nil {
		return
	}
	for i, d := range [...]time.Duration{tr.Connect, tr.TLS, tr.FirstByte} {
		if d > 0 {
			m.phases.At(i).Observe(d)
		}
	}
}

// Watch gives a group its metrics, before its first use.
func (m *Metrics) Watch(site string, g *Group) {
	g.second = func(why string) { m.second.WithLabelValues(site, why).Inc() }
	for _, o := range g.Origins {
		name := o.Name()
		labels := prometheus.Labels{"site": site, "origin": name}
		o.Metrics = OriginMetrics{
			fails: func(reason Reason) { m.failures.WithLabelValues(site, name, string(reason)).Inc() },
			phases: histogram.NewVec(prometheus.Opts{
				Name: "freshet_edge_origin_seconds", ConstLabels: labels,
				Help: "Time to connect, to shake hands (tls) and to the header of the answer or the failure (first_byte), by origin.",
			}, "phase", "connect", "tls", "first_byte"),
		}
		m.reg.MustRegister(
			o.Metrics.phases,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "freshet_edge_origin_in_flight", ConstLabels: labels, Help: "Requests that an origin has not answered to the end.",
			}, func() float64 { return float64(o.InFlight()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "freshet_edge_origin_up", ConstLabels: labels, Help: "0 while an origin is left alone because it failed.",
			}, func() float64 {
				if o.Healthy() {
					return 1
				}
				return 0
			}),
		)
	}
}
