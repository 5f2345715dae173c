package director

import (
	"github.com/prometheus/client_golang/prometheus"

	"freshet/internal/director/lists"
)

// metrics are the director's own; the counts by status are those of the access record.
type metrics struct {
	best    [lists.NumSteps]prometheus.Counter // by rule
	loads   *prometheus.CounterVec
	changed *prometheus.GaugeVec
	made    prometheus.Gauge
	size    *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	best := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "freshet_director_answers_total",
		Help: "Requests answered, by the rule by which the first mirror was found: netblock, asn, request (of a country), country, continent, global; none if no mirror was.",
	}, []string{"best"})
	m := &metrics{
		loads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "freshet_director_loads_total",
			Help: "Readings of input files, by result: ok, or failed, and what was read before stays in use.",
		}, []string{"input", "result"}),
		changed: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "freshet_director_input_timestamp_seconds",
			Help: "When the input file that is in use was changed last, in seconds since 1970.",
		}, []string{"input"}),
		made: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "freshet_director_snapshot_timestamp_seconds",
			Help: "When the snapshot that is in use was made, by what it says, in seconds since 1970.",
		}),
		size: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "freshet_director_snapshot_size",
			Help: "How many hosts and directories the snapshot in use has.",
		}, []string{"of"}),
	}
	for s := range m.best {
		m.best[s] = best.WithLabelValues(lists.Step(s).String())
	}
	reg.MustRegister(best, m.loads, m.changed, m.made, m.size)
	return m
}
