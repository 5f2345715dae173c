package hub

import (
	"github.com/prometheus/client_golang/prometheus"

	"freshet/api/hubapi"
	"freshet/internal/hub/deltas"
)

// addDeltas makes the counters of static deltas.
func (m *metrics) addDeltas(reg prometheus.Registerer) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"repo"}, labels...))
		reg.MustRegister(c)
		return c
	}
	m.deltas = counter("freshet_hub_deltas_total", "Static deltas published.")
	m.deltaBytes = counter("freshet_hub_delta_bytes_total", "Bytes that a client fetches by each of these deltas, summed.")
	m.deltaSaved = counter("freshet_hub_delta_saved_bytes_total", "Bytes that a client fetches less by each of these deltas than by single objects, summed.")
	m.deltaLeases = counter("freshet_hub_delta_leases_total", "Static deltas given to workers on other machines, by what came of it: accepted, refused, failed, released or lost.", "result")
}

// queueGauges show how much there is to do for those who make deltas.
func queueGauges(q *deltas.Queue) []prometheus.Collector {
	gauge := func(name, help string, making bool) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			n := 0
			for _, one := range q.Status() {
				if one.Making == making {
					n++
				}
			}
			return float64(n)
		})
	}
	return []prometheus.Collector{
		gauge("freshet_hub_deltas_waiting", "Static deltas that nobody makes yet: when it grows and grows, more workers are needed.", false),
		gauge("freshet_hub_deltas_making", "Static deltas that the hub or workers make.", true),
	}
}

// delta counts a delta that was made and published.
func (m *metrics) delta(repo string, d hubapi.MadeDelta) {
	m.deltas.WithLabelValues(repo).Inc()
	m.deltaBytes.WithLabelValues(repo).Add(float64(d.Size))
	if d.Instead > d.Size {
		m.deltaSaved.WithLabelValues(repo).Add(float64(d.Instead - d.Size))
	}
}
