package deltaworker

import "github.com/prometheus/client_golang/prometheus"

// metrics counts what a worker does.
type metrics struct {
	deltas   *prometheus.CounterVec
	seconds  prometheus.Histogram
	fetched  prometheus.Counter
	uploaded prometheus.Counter
	busy     prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		deltas: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "freshet_delta_worker_deltas_total",
			Help: "Static deltas, by what came of them: accepted, refused, failed, released or lost.",
		}, []string{"result"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "freshet_delta_worker_seconds",
			Help:    "Time to fetch the commits of a delta and to make it.",
			Buckets: prometheus.ExponentialBuckets(0.1, 3, 9),
		}),
		fetched: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "freshet_delta_worker_fetched_bytes_total",
			Help: "Bytes of objects fetched from the hub.",
		}),
		uploaded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "freshet_delta_worker_uploaded_bytes_total",
			Help: "Bytes of deltas uploaded to the hub.",
		}),
		busy: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "freshet_delta_worker_busy",
			Help: "Deltas being made now.",
		}),
	}
	reg.MustRegister(m.deltas, m.seconds, m.fetched, m.uploaded, m.busy)
	return m
}
