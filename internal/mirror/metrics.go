package mirror

import (
	"github.com/prometheus/client_golang/prometheus"

	"freshet/api/mirrorapi"
)

// metrics are those of syncs.
type metrics struct {
	syncs   *prometheus.CounterVec
	fetched *prometheus.CounterVec
	took    *prometheus.CounterVec
}

// newMetrics registers what is counted, and what is looked up when somebody asks.
func (m *mirror) newMetrics(reg *prometheus.Registry) *metrics {
	of := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		reg.MustRegister(c)
		return c
	}
	reg.MustRegister(newStateCollector(m))
	return &metrics{
		syncs: of("freshet_mirror_syncs_total",
			"Syncs that have ended, by result: published, unchanged, failed, refused or canceled; and by the reason word of those that did not end well.", "project", "result", "reason"),
		fetched: of("freshet_mirror_fetched_bytes_total", "Bytes of files that syncs have fetched, by where they came from: upstream or siblings.", "project", "source"),
		took:    of("freshet_mirror_sync_time_total", "Seconds that syncs have taken.", "project"),
	}
}

// ended counts a sync.
func (c *metrics) ended(r mirrorapi.Report) {
	c.syncs.WithLabelValues(r.Project, string(r.Result), string(r.Reason)).Inc()
	c.took.WithLabelValues(r.Project).Add(max(0, r.Ended.Sub(r.Began).Seconds()))
	for source, amount := range r.Fetched {
		c.fetched.WithLabelValues(r.Project, source).Add(float64(amount.Bytes))
	}
}

// stateCollector tells how projects are at the moment of the question.
type stateCollector struct {
	m                                         *mirror
	checked, published, files, bytes, failing *prometheus.Desc
	following, events                         *prometheus.Desc
}

func newStateCollector(m *mirror) *stateCollector {
	of := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, []string{"project"}, nil)
	}
	return &stateCollector{
		m:         m,
		checked:   of("freshet_mirror_checked_timestamp_seconds", "When what is served was last found to be the newest, in seconds since 1970."),
		published: of("freshet_mirror_published_timestamp_seconds", "Since when the generation that is served is served, in seconds since 1970."),
		files:     of("freshet_mirror_files", "Files of the generation that is served."),
		bytes:     of("freshet_mirror_bytes", "Bytes of the files of the generation that is served."),
		failing:   of("freshet_mirror_failures", "Syncs in a row that did not end well."),
		following: of("freshet_mirror_following", "Whether all upstreams of the project that tell of changes are followed: 1, else 0; absent if there are none."),
		events:    of("freshet_mirror_events_total", "How often upstreams have told of something new of the project."),
	}
}

// Describe implements [prometheus.Collector].
func (c *stateCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.checked, c.published, c.files, c.bytes, c.failing, c.following, c.events} {
		to <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *stateCollector) Collect(to chan<- prometheus.Metric) {
	for name := range c.m.cfg().Projects {
		gauge := func(d *prometheus.Desc, v float64) {
			to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, name)
		}
		st := c.m.scheduler.Status(name)
		gauge(c.failing, float64(st.Failures))
		if !st.Good.IsZero() {
			gauge(c.checked, float64(st.Good.Unix()))
		}
		c.collectFollows(name, to)
		p, err := c.m.store.Project(name, nil)
		if err != nil {
			continue // the status tells
		}
		if now := p.Current(); now != nil {
			info := now.Info()
			gauge(c.published, float64(info.Switched.Unix()))
			gauge(c.files, float64(info.Files))
			gauge(c.bytes, float64(info.Bytes))
		}
	}
}

// collectFollows tells how the upstreams of a project are followed.
func (c *stateCollector) collectFollows(name string, to chan<- prometheus.Metric) {
	follows := c.m.now.Load().listener.Follows(name)
	if len(follows) == 0 {
		return
	}
	following, events := 1.0, int64(0)
	for _, f := range follows {
		if f.State != mirrorapi.FollowFollowing {
			following = 0
		}
		events += f.Events
	}
	to <- prometheus.MustNewConstMetric(c.following, prometheus.GaugeValue, following, name)
	to <- prometheus.MustNewConstMetric(c.events, prometheus.CounterValue, float64(events), name)
}
