package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"freshet/api/watchapi"
)

type metrics struct {
	batches  *prometheus.CounterVec
	overflow *prometheus.CounterVec
	beyond   prometheus.Counter
	last     prometheus.Gauge
}

func newMetrics(e *Emitter) metrics {
	fixed := prometheus.Labels{"role": e.o.Role}
	m := metrics{
		batches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "freshet_telemetry_batches_total", ConstLabels: fixed,
			Help: "Tries to deliver a batch to the watch, by result: delivered, known (it had it already), refused (for good) or failed.",
		}, []string{"result"}),
		overflow: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "freshet_telemetry_dimension_overflow_total", ConstLabels: fixed,
			Help: "Times that something was counted with the label other, because a cube had too many sets of labels in a day, by the cube: alert on it.",
		}, []string{"cube"}),
		beyond: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "freshet_telemetry_unplaced_total", ConstLabels: fixed,
			Help: "Requests that were counted by project alone, because too many ended at once.",
		}),
		last: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "freshet_telemetry_delivered_timestamp_seconds", ConstLabels: fixed,
			Help: "When the watch last took a batch, in seconds since 1970; 0: never.",
		}),
	}
	if e.o.Metrics != nil {
		e.o.Metrics.MustRegister(m.batches, m.overflow, m.beyond, m.last, newStateCollector(e, fixed))
	}
	return m
}

func (m *metrics) delivered(ack watchapi.Ack) {
	result := "delivered"
	if ack.Known {
		result = "known"
	}
	m.batches.WithLabelValues(result).Inc()
	m.last.SetToCurrentTime()
}

// stateCollector tells how it stands with the spool at the moment of the question.
type stateCollector struct {
	e                               *Emitter
	bytes, waiting, dropped, missed *prometheus.Desc
}

func newStateCollector(e *Emitter, fixed prometheus.Labels) *stateCollector {
	of := func(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, fixed) }
	return &stateCollector{
		e:       e,
		bytes:   of("freshet_telemetry_spool_bytes", "Bytes of batches that wait for the watch."),
		waiting: of("freshet_telemetry_spool_batches", "Batches that wait for the watch: alert when they become more and more."),
		dropped: of("freshet_telemetry_dropped_batches_total", "Batches that were dropped because the spool was full or they were too old: alert on it."),
		missed:  of("freshet_telemetry_dropped_requests_total", "Requests that were counted in batches which were dropped."),
	}
}

// Describe implements [prometheus.Collector].
func (c *stateCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.bytes, c.waiting, c.dropped, c.missed} {
		to <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *stateCollector) Collect(to chan<- prometheus.Metric) {
	st := c.e.spool.Stat()
	to <- prometheus.MustNewConstMetric(c.bytes, prometheus.GaugeValue, float64(st.Bytes))
	to <- prometheus.MustNewConstMetric(c.waiting, prometheus.GaugeValue, float64(st.Batches))
	to <- prometheus.MustNewConstMetric(c.dropped, prometheus.CounterValue, float64(st.Dropped.Batches))
	to <- prometheus.MustNewConstMetric(c.missed, prometheus.CounterValue, float64(st.Dropped.Requests))
}
