package scan

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/api/directorapi"
)

type metrics struct {
	scans   *prometheus.CounterVec
	seconds *prometheus.CounterVec
	expired prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		scans: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "freshet_director_scans_total",
			Help: "Scans that have ended, by the way of scanning, and by result: ok, or the reason why it failed.",
		}, []string{"how", "result"}),
		seconds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "freshet_director_scan_seconds_total",
			Help: "How long the scans took that have ended, by the way of scanning.",
		}, []string{"how"}),
		expired: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "freshet_director_inventories_expired_total",
			Help: "Mirrors' inventories that are not used any more, since no scan has succeeded for too long.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.scans, m.seconds, m.expired)
	}
	return m
}

func (m *metrics) ended(how directorapi.How, result string, took time.Duration) {
	m.scans.WithLabelValues(string(how), result).Inc()
	m.seconds.WithLabelValues(string(how)).Add(max(0, took.Seconds()))
}
