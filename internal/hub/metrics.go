package hub

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/api/hubapi"
	"freshet/internal/hub/repository"
)

// metrics counts what a hub does, beside the requests that package role counts.
type metrics struct {
	jobs        *prometheus.CounterVec
	jobSeconds  *prometheus.HistogramVec
	jobsNow     *prometheus.GaugeVec
	waits       *prometheus.GaugeVec
	publish     *prometheus.HistogramVec
	told        *prometheus.CounterVec
	summary     *prometheus.GaugeVec
	uploaded    prometheus.Counter
	eventHead   prometheus.Gauge
	compat      *jobMetrics
	scrub       *scrubMetrics
	deltas      *prometheus.CounterVec
	deltaBytes  *prometheus.CounterVec
	deltaSaved  *prometheus.CounterVec
	deltaLeases *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		compat: newJobMetrics(),
		scrub:  newScrubMetrics(reg),
		jobs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "freshet_hub_jobs_total",
			Help: "Jobs ended, by kind, repository and status (ended or broken).",
		}, []string{"kind", "repo", "status"}),
		jobSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "freshet_hub_job_seconds",
			Help:    "Time from the start of a job to its end.",
			Buckets: prometheus.ExponentialBuckets(0.01, 4, 10),
		}, []string{"kind"}),
		jobsNow: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "freshet_hub_jobs_in_progress",
			Help: "Jobs being worked on.",
		}, []string{"kind"}),
		waits: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "freshet_hub_repo_waiting",
			Help: "1 while the publishes of a repository wait, by what for: key (that signs), space (on the disk), database or storage (the bucket): alert on it.",
		}, []string{"repo", "reason"}),
		publish: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "freshet_hub_publish_seconds",
			Help:    "Time a publish takes, of however many builds or of a tree, by repository or tree.",
			Buckets: prometheus.ExponentialBuckets(0.01, 3, 10),
		}, []string{"repo"}),
		told: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "freshet_hub_post_publish_total",
			Help: "Runs of the post-publish command, by repository and result (ok or failed).",
		}, []string{"repo", "result"}),
		summary: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "freshet_hub_summary_bytes",
			Help: "Length of a repository's summary for clients before flatpak 1.9, some of which refuse more than 10 MiB.",
		}, []string{"repo"}),
		uploaded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "freshet_hub_upload_bytes_total",
			Help: "Bytes of files received in uploads, refused ones included.",
		}),
		eventHead: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "freshet_hub_event_head",
			Help: "Serial of the newest event.",
		}),
	}
	m.addDeltas(reg)
	reg.MustRegister(m.jobs, m.jobSeconds, m.jobsNow, m.waits, m.publish, m.told, m.summary, m.uploaded, m.eventHead)
	return m
}

// begin counts a job that starts; the result counts its end.
func (m *metrics) begin(kind hubapi.JobKind, repo string) (ended func(hubapi.JobStatus)) {
	started := time.Now()
	m.jobsNow.WithLabelValues(kind.String()).Inc()
	return func(status hubapi.JobStatus) {
		m.jobsNow.WithLabelValues(kind.String()).Dec()
		if status == hubapi.JobNew {
			return // it has not ended
		}
		m.jobSeconds.WithLabelValues(kind.String()).Observe(time.Since(started).Seconds())
		m.jobs.WithLabelValues(kind.String(), repo, status.String()).Inc()
		m.compat.ended(kind, repo, status, time.Since(started))
	}
}

// repoWaits tells what the publishes of a repository wait for, "" for nothing.
func (m *metrics) repoWaits(repo, reason string) {
	for _, one := range waitReasons() {
		value := 0.0
		if one == reason {
			value = 1
		}
		m.waits.WithLabelValues(repo, one).Set(value)
	}
}

// summaryOf tells how long the summary of a repository is. Without one there is
// nothing to tell.
func (m *metrics) summaryOf(name string, repo *repository.Repository) {
	f, err := repo.OpenFile("summary")
	if err != nil {
		return
	}
	if info, err := f.Stat(); err == nil {
		m.summary.WithLabelValues(name).Set(float64(info.Size()))
	}
	_ = f.Close() // opened for reading
}
