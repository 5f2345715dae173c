package hub

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"freshet/api/hubapi"
	"freshet/internal/hub/catalog"
)

// jobMetrics are the metrics of flat-manager, with its names and labels and on
// the public listener, for dashboards and alerts that were made for it. Our own
// are on the admin listener.
type jobMetrics struct {
	registry *prometheus.Registry
	total    *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newJobMetrics() *jobMetrics {
	m := &jobMetrics{
		registry: prometheus.NewRegistry(),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flat_manager_jobs_total",
			Help: "Jobs that have ended.",
		}, []string{"kind", "status", "repo"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "flat_manager_job_duration_seconds",
			Help:    "Time from the start of a job to its end.",
			Buckets: []float64{1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600},
		}, []string{"kind", "status", "repo"}),
	}
	m.registry.MustRegister(m.total, m.seconds)
	return m
}

func (m *jobMetrics) ended(kind hubapi.JobKind, repo string, status hubapi.JobStatus, took time.Duration) {
	labels := []string{compatKind(kind), status.String(), compatRepo(kind, repo)}
	m.total.WithLabelValues(labels...).Inc()
	m.seconds.WithLabelValues(labels...).Observe(took.Seconds())
}

// compatKind is flat-manager's label of a kind of job.
func compatKind(kind hubapi.JobKind) string { return strings.ReplaceAll(kind.String(), "-", "_") }

// compatRepo is flat-manager's label for the repository of a job: its commits
// and checks belong to none.
func compatRepo(kind hubapi.JobKind, repo string) string {
	if repo == "" || kind == hubapi.JobCommit || kind == hubapi.JobCheck {
		return "global"
	}
	return repo
}

// jobCounter counts the queue when it is asked.
type jobCounter struct {
	count            func(context.Context) ([]catalog.JobCount, error)
	queued, underWay *prometheus.Desc
}

func newJobCounter(count func(context.Context) ([]catalog.JobCount, error)) *jobCounter {
	labels := []string{"kind", "repo"}
	return &jobCounter{
		count:    count,
		queued:   prometheus.NewDesc("flat_manager_jobs_queued", "Jobs that wait.", labels, nil),
		underWay: prometheus.NewDesc("flat_manager_jobs_in_progress", "Jobs being worked on.", labels, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *jobCounter) Describe(to chan<- *prometheus.Desc) { to <- c.queued; to <- c.underWay }

// Collect implements prometheus.Collector.
func (c *jobCounter) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), countTimeout)
	defer cancel()
	counts, err := c.count(ctx)
	if err != nil {
		to <- prometheus.NewInvalidMetric(c.queued, err)
		return
	}
	type key struct {
		desc       *prometheus.Desc
		kind, repo string
	}
	sums := make(map[key]float64)
	for _, n := range counts {
		desc := c.queued
		if n.Status == hubapi.JobStarted {
			desc = c.underWay
		}
		sums[key{desc, compatKind(n.Kind), compatRepo(n.Kind, n.Repo)}] += float64(n.Count)
	}
	for k, n := range sums {
		to <- prometheus.MustNewConstMetric(k.desc, prometheus.GaugeValue, n, k.kind, k.repo)
	}
}

// countTimeout bounds the counting of jobs for the metrics.
const countTimeout = 5 * time.Second

// handler answers GET /metrics.
func (m *jobMetrics) handler(count func(context.Context) ([]catalog.JobCount, error)) http.Handler {
	m.registry.MustRegister(newJobCounter(count))
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
}
