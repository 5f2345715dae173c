package main

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"

	"freshet/bench/measure"
)

// ours is the server that the others are compared with.
const ours = "freshet"

// load is what is asked of a server.
type load struct {
	paths  []string
	conns  int
	close  bool // a connection for each request
	once   bool // each path once, then it is over
	rate   int  // requests/s at most; 0: as many as can be
	origin bool // the origin is asked as well
	tls    bool // by TLS
	h2     *multiplexed
}

// benchCase is a load and what is expected of it.
type benchCase struct {
	name  string
	goals goals
	// load makes the load of the next sample.
	load func() load
	// warmed are the paths that are in the cache before; nil: none.
	warmed []string
	p99    goals // of the 99th percentile of the time to the end of an answer
}

// goals are the highest ratio to each peer; 0: none is set.
type goals map[string]float64

func (g goals) has(name string) bool {
	_, ok := g[name]
	return ok
}

func cases(cfg config) []benchCase {
	var small []string
	for i := range objects {
		small = append(small, objectPath(i))
	}
	hits := func(name string, l load, g goals) benchCase {
		return benchCase{name: name, goals: g, load: func() load { return l }, warmed: l.paths}
	}
	beaten := func(g goals) goals { // on every row of small objects
		g["varnish"], g["trafficserver"] = min1(g["varnish"]), min1(g["trafficserver"])
		g["varnish-log"] = g["varnish"]
		return g
	}
	list := []benchCase{
		hits("small-c64", load{paths: small, conns: 64}, beaten(goals{"nginx-log": 1.00, "nginx-cache": 0.75, "varnish": 0.45})),
		hits("small-c512", load{paths: small, conns: 512}, beaten(goals{"nginx-log": 1.05, "nginx-cache": 0.75, "varnish": 0.45})),
		hits("one-c64", load{paths: []string{kilobyte}, conns: 64}, beaten(goals{"nginx-log": 1.00, "nginx-cache": 0.75})),
		hits("large-c4", load{paths: []string{large}, conns: 4}, goals{"nginx-log": 1.10, "nginx-cache": 0, "varnish": 0, "trafficserver": 0}),
		hits("small-5k/s", load{paths: small, conns: 64, rate: 5000}, beaten(goals{"nginx-log": 1.30, "nginx-cache": 0})),
		hits("close-c32", load{paths: []string{kilobyte}, conns: 32, close: true}, goals{"nginx-log": 0, "nginx-cache": 0, "varnish": 0, "trafficserver": 0}),
	}
	list[0].p99 = goals{"nginx-log": 1.5, "nginx-cache": 0}
	list[4].p99 = goals{"nginx-log": 1.5, "nginx-cache": 0}

	list = append(list, tlsCases(small)...)

	all := goals{"nginx-cache": 0.70, "varnish": 0, "trafficserver": 0}
	round := 0
	unseen := func(prefix string, n int, path func(i int) string) func() load {
		return func() load {
			round++
			l := load{conns: 64, once: true, origin: true}
			for i := range n {
				l.paths = append(l.paths, fmt.Sprintf("/%s/%d-%d%s", prefix, round, i, path(i%objects)))
			}
			return l
		}
	}
	tenMB := func(int) string { return tenMegabytes }
	eight := func(next func() load) func() load {
		return func() load {
			l := next()
			l.conns = 8
			return l
		}
	}
	list = append(list, acceptanceCases(cfg, unseen)...)
	return append(list,
		benchCase{name: "cold-fill", goals: all, load: unseen("fresh", cfg.cold, objectPath)},
		benchCase{name: "cold-10MB", goals: goals{"nginx-cache": 1.20, "varnish": 0, "trafficserver": 0}, load: eight(unseen("fresh", 24, tenMB))},
		benchCase{name: "pass", goals: goals{"nginx-cache": 1.50, "varnish": 0, "trafficserver": 0}, load: unseen("pass", cfg.cold, objectPath)},
		benchCase{name: "pass-10MB", goals: goals{"nginx-cache": 1.10, "varnish": 0, "trafficserver": 0}, load: eight(unseen("pass", 24, tenMB))},
	)
}

func min1(goal float64) float64 {
	if goal == 0 {
		return 1
	}
	return goal
}

// report prints the lines of a case.
func (c *benchCase) report(out io.Writer, servers []*server, figures map[string]*figure, verbose bool) {
	mine := figures[ours]
	for _, peer := range slices.Sorted(maps.Keys(c.goals)) {
		if f := figures[peer]; f != nil {
			measure.Line(out, c.name+":"+peer, measure.Median(mine.cpu), measure.Median(f.cpu), c.goals[peer])
		}
	}
	for _, peer := range slices.Sorted(maps.Keys(c.p99)) {
		if f := figures[peer]; f != nil {
			measure.Line(out, c.name+"-p99ms:"+peer, measure.Median(mine.p99), measure.Median(f.p99), c.p99[peer])
		}
	}
	for _, s := range servers {
		if f := figures[s.name]; s.build && f != nil {
			ratio, err := paired(mine, f)
			_, _ = fmt.Fprintf(out, "# %s: %.3f ± %.3f of %s\n", c.name, ratio, err, s.name)
		}
	}
	if !verbose {
		return
	}
	for _, s := range servers {
		if f := figures[s.name]; f != nil {
			_, _ = fmt.Fprintf(out, "# %s %s: %.2f µs, %.5g requests/s, p99 %.2f ms, %d samples\n",
				c.name, s.name, measure.Median(f.cpu), measure.Median(f.rps), measure.Median(f.p99), len(f.cpu))
		}
	}
}

// paired compares round by round: the mean of the ratios, and its standard error.
func paired(mine, other *figure) (mean, deviation float64) {
	var ratios []float64
	for round, cpu := range mine.rounds {
		if its := other.rounds[round]; its > 0 {
			ratios = append(ratios, cpu/its)
			mean += cpu / its
		}
	}
	n := float64(len(ratios))
	mean /= n
	for _, r := range ratios {
		deviation += (r - mean) * (r - mean)
	}
	return mean, math.Sqrt(deviation / (n - 1) / n)
}
