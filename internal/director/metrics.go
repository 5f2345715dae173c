package director

import (
	"maps"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/internal/director/lists"
	"freshet/internal/director/redirect"
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

// redirectMetrics are those of the redirector.
type redirectMetrics struct {
	answers [redirect.NumOutcomes]prometheus.Counter // by outcome
	mirrors counts
}

func newRedirectMetrics(reg prometheus.Registerer) *redirectMetrics {
	answers := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "freshet_director_file_answers_total",
		Help: "Requests for paths of projects, by outcome: mirror and origin (where clients were sent), not_modified, document (a metalink or a hash), list (of mirrors), refused.",
	}, []string{"outcome"})
	m := new(redirectMetrics)
	for o := range m.answers {
		m.answers[o] = answers.WithLabelValues(redirect.Outcome(o).String())
	}
	reg.MustRegister(answers, &m.mirrors)
	return m
}

// counts are what mirrors were given. The zero value is ready for use.
type counts struct {
	mu sync.Mutex
	of map[string]*redirect.Count
}

// count returns what is counted for a mirror.
func (c *counts) count(mirror string) *redirect.Count {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = make(map[string]*redirect.Count)
	}
	if c.of[mirror] == nil {
		c.of[mirror] = new(redirect.Count)
	}
	return c.of[mirror]
}

// bytes is how long the files are together that clients were sent to a mirror for.
func (c *counts) bytes(mirror string) int64 { return c.count(mirror).Bytes.Load() }

// keep forgets all mirrors but those that known reports.
func (c *counts) keep(known func(mirror string) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.of, func(mirror string, _ *redirect.Count) bool { return !known(mirror) })
}

// What is told of each mirror.
func redirectsDesc() *prometheus.Desc {
	return prometheus.NewDesc("freshet_director_mirror_redirects_total", "Clients that were sent to the mirror.", []string{"mirror"}, nil)
}

func redirectedDesc() *prometheus.Desc {
	return prometheus.NewDesc("freshet_director_mirror_redirected_bytes_total",
		"Length of the files that clients were sent to the mirror for, whether they fetched all of them or not. Requests for the head or a part of a file do not count.", []string{"mirror"}, nil)
}

// Describe implements [prometheus.Collector].
func (c *counts) Describe(to chan<- *prometheus.Desc) {
	to <- redirectsDesc()
	to <- redirectedDesc()
}

// Collect implements [prometheus.Collector].
func (c *counts) Collect(to chan<- prometheus.Metric) {
	redirects, redirected := redirectsDesc(), redirectedDesc()
	c.mu.Lock()
	defer c.mu.Unlock()
	for mirror, n := range c.of {
		to <- prometheus.MustNewConstMetric(redirects, prometheus.CounterValue, float64(n.Redirects.Load()), mirror)
		to <- prometheus.MustNewConstMetric(redirected, prometheus.CounterValue, float64(n.Bytes.Load()), mirror)
	}
}
