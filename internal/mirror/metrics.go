package mirror

import (
	"github.com/prometheus/client_golang/prometheus"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/room"
)

// metrics are those of syncs.
type metrics struct {
	syncs   *prometheus.CounterVec
	fetched *prometheus.CounterVec
	took    *prometheus.CounterVec
	gone    *prometheus.CounterVec
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
		gone: of("freshet_mirror_dropped_total",
			"What had to make room on a full disk, by what it was: staged (what an interrupted sync has fetched), generation (an old one, before its grace time was over), project (all of it).", "project", "what"),
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
	churn, drained, held, damaged             *prometheus.Desc
	size, free, reserve                       *prometheus.Desc // of the disk, by what
	planned, full, short, smart               *prometheus.Desc
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
		churn:     of("freshet_mirror_churn_bytes", "About how many bytes of the project are new each day."),
		drained:   of("freshet_mirror_drained", "1: the project was taken off the disk, which was full; 0: it was not."),
		damaged:   of("freshet_mirror_damaged_files", "Files that a check (freshet mirror verify) has found damaged or missing, and that were not repaired since."),
		held:      of("freshet_mirror_held", "1: an operator holds the project, which gets nothing new; 0: it is synced."),
		size:      prometheus.NewDesc("freshet_mirror_disk_size", "What the file system has: bytes, or inodes if it counts them.", []string{"unit"}, nil),
		free:      prometheus.NewDesc("freshet_mirror_disk_free", "What is free of it: bytes, or inodes.", []string{"unit"}, nil),
		reserve:   prometheus.NewDesc("freshet_mirror_disk_reserve", "What is to stay free of it: bytes, or inodes.", []string{"unit"}, nil),
		planned:   prometheus.NewDesc("freshet_mirror_disk_planned_bytes", "What old generations are going to take besides what they take, until their grace time is over.", nil, nil),
		full:      prometheus.NewDesc("freshet_mirror_disk_full_timestamp_seconds", "When the disk has no more than its reserve, if it goes on to fill as in the last two weeks, in seconds since 1970; absent: not within a year, or not known.", nil, nil),
		smart:     prometheus.NewDesc("freshet_mirror_disks_failing", "How many things disks find wrong with themselves (SMART): freshet mirror doctor says which.", nil, nil),
		short:     prometheus.NewDesc("freshet_mirror_disk_short", "1: less than the reserve is free, and nothing more may be dropped, so that nothing new is fetched; 0: there is room.", nil, nil),
	}
}

// Describe implements [prometheus.Collector].
func (c *stateCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.checked, c.published, c.files, c.bytes, c.failing, c.following, c.events, c.churn, c.drained, c.held, c.damaged,
		c.size, c.free, c.reserve, c.planned, c.full, c.short, c.smart,
	} {
		to <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *stateCollector) Collect(to chan<- prometheus.Metric) {
	c.collectDisk(to)
	for name := range c.m.cfg().Projects {
		gauge := func(d *prometheus.Desc, v float64) {
			to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, name)
		}
		st := c.m.scheduler.Status(name)
		gauge(c.failing, float64(st.Failures))
		gauge(c.held, oneIf(st.Hold != nil))
		if !st.Good.IsZero() {
			gauge(c.checked, float64(st.Good.Unix()))
		}
		c.collectFollows(name, to)
		p := c.m.store.Held(name)
		if p == nil {
			continue // it was removed meanwhile
		}
		gauge(c.churn, float64(c.m.keeper.Churn(name).Bytes))
		_, drained := p.Drained()
		gauge(c.drained, oneIf(drained))
		if now := p.Current(); now != nil {
			info := now.Info()
			gauge(c.published, float64(info.Switched.Unix()))
			gauge(c.files, float64(info.Files))
			gauge(c.bytes, float64(info.Bytes))
			if damage, err := c.m.damages.left(name, now); err == nil {
				gauge(c.damaged, float64(damage.count()))
			}
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

func (c *stateCollector) collectDisk(to chan<- prometheus.Metric) {
	d, err := c.m.keeper.Disk()
	if err != nil {
		return // the doctor tells
	}
	gauge := func(desc *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v, labels...)
	}
	for desc, a := range map[*prometheus.Desc]room.Amount{c.size: d.Size, c.free: d.Free, c.reserve: d.Reserve} {
		gauge(desc, float64(a.Bytes), "bytes")
		if d.Size.Inodes > 0 {
			gauge(desc, float64(a.Inodes), "inodes")
		}
	}
	gauge(c.planned, float64(d.Planned.Bytes))
	gauge(c.short, oneIf(d.Alarm != nil))
	gauge(c.smart, float64(c.m.smart.failing()))
	if full := c.m.diskFull(d); !full.IsZero() {
		gauge(c.full, float64(full.Unix()))
	}
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
