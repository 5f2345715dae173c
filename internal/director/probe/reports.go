package probe

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"freshet/api/directorapi"
)

// Reporter is who tells something.
type Reporter struct {
	// Name tells reporters apart.
	Name string
	// Weight is how much a report counts, more than 0 and at most 1, which is enough
	// for a look.
	Weight float64
}

const (
	// lookFrom is the weight of reports, of one mirror and project, that lead to a look.
	lookFrom = 1
	// fade is in which time the weight of a report halves.
	fade = time.Minute
	// again is how often the same reporter is listened to on the same matter.
	again = time.Minute
	// mostHeard, mostOfOne, mostSlow and mostFiles bound what is remembered of a
	// mirror's project, in all and of one reporter.
	mostHeard, mostOfOne, mostSlow, mostFiles = 128, 16, 64, 32
	// filesPerLook is how many files that were reported a look asks for.
	filesPerLook = 4
	// maxPath is the longest path that is taken.
	maxPath = 1024
	// loadFor is how long a load counts that was told.
	loadFor = 5 * time.Minute
	// slowest is the load that reports of slowness come to at most; slowMany reporters
	// make half of that, and what they said is worth half after slowFor.
	slowest  = 0.85
	slowMany = 3
	slowFor  = 10 * time.Minute
)

// holding is a project on a mirror.
type holding struct{ mirror, project string }

// suspicion is what was reported of a holding.
type suspicion struct {
	reports weight
	heard   map[heard]time.Time
	files   []string          // not looked at yet
	slow    map[string]weight // by reporter: the last report of each counts
}

// heard is what a reporter said.
type heard struct{ reporter, what, path string }

// weight is one that fades.
type weight struct {
	weight float64
	at     time.Time
}

// left is what is left of it, if it halves in this time.
func (w weight) left(now time.Time, half time.Duration) float64 {
	return w.weight * math.Exp2(-float64(now.Sub(w.at))/float64(half))
}

// slowness is the load that reports of it come to.
func (s *suspicion) slowness(now time.Time) float64 {
	sum := 0.0
	for _, w := range s.slow {
		sum += w.left(now, slowFor)
	}
	return slowest * (1 - math.Exp2(-sum/slowMany))
}

// load is what a mirror told of itself.
type load struct {
	load float64
	at   time.Time
}

// Report takes what somebody saw of a mirror, or a mirror of itself. It does not wait.
// The error says what is wrong with the report, which has no effect then.
func (p *Prober) Report(by Reporter, r directorapi.Report) error {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.What == reportLoad {
		return p.takeLoad(r, now)
	}
	project, file, err := p.locate(r.Path)
	if err != nil {
		return err
	}
	h := holding{r.Mirror, project}
	if len(p.waysOf(h)) == 0 {
		return fmt.Errorf("mirror %q: not in the catalogue with the project %q, or disabled", r.Mirror, project)
	}
	switch r.What {
	case reportMissing, reportWrong, reportSlow, reportError:
	default:
		return fmt.Errorf("what: %q is none of missing, wrong, slow, error and load", r.What)
	}
	p.metrics.reports.WithLabelValues(r.What).Inc()
	p.suspect(h, by, r.What, file, now)
	return nil
}

// The words of reports.
const (
	reportMissing = "missing"
	reportWrong   = "wrong"
	reportSlow    = "slow"
	reportError   = "error"
	reportLoad    = "load"
)

// takeLoad takes what a mirror tells of its load.
func (p *Prober) takeLoad(r directorapi.Report, now time.Time) error {
	switch {
	case !(r.Load >= 0 && r.Load <= 1): // nor anything else that is no number
		return fmt.Errorf("load: want 0 to 1, got %v", r.Load)
	case !slices.ContainsFunc(p.opt.Catalogue.Current().Mirrors, func(m directorapi.Mirror) bool { return m.Name == r.Mirror }):
		return fmt.Errorf("mirror %q: not in the catalogue", r.Mirror)
	}
	p.metrics.reports.WithLabelValues(reportLoad).Inc()
	before := p.currentLoads()[r.Mirror]
	p.loads[r.Mirror] = load{r.Load, now}
	p.publish(p.currentLoads()[r.Mirror] != before)
	return nil
}

// locate finds the project of a path on the director, and the path within.
func (p *Prober) locate(name string) (project, file string, err error) {
	if len(name) > maxPath {
		return "", "", fmt.Errorf("path: longer than %d bytes", maxPath)
	}
	for i := range p.opt.Catalogue.Current().Projects {
		c := &p.opt.Catalogue.Current().Projects[i]
		if file, ok := strings.CutPrefix(name, c.Path); ok {
			return c.Name, file, nil
		}
	}
	return "", "", fmt.Errorf("path %q: in no project", name)
}

// waysOf are those of a holding that are followed.
func (p *Prober) waysOf(h holding) (ways []*way) {
	for _, scheme := range []Scheme{HTTP, HTTPS} {
		for _, family := range []Family{IPv4, IPv6} {
			if w := p.ways[Way{h.mirror, h.project, scheme, family}]; w != nil {
				ways = append(ways, w)
			}
		}
	}
	return ways
}

// suspect weighs a report, and looks when there is enough.
func (p *Prober) suspect(h holding, by Reporter, what, file string, now time.Time) {
	s := p.suspects[h]
	if s == nil {
		s = &suspicion{heard: make(map[heard]time.Time), slow: make(map[string]weight)}
		p.suspects[h] = s
	}
	if !s.hear(heard{by.Name, what, file}, now) {
		return
	}
	counts := min(max(by.Weight, 0), 1)
	switch what {
	case reportSlow:
		if _, again := s.slow[by.Name]; again || len(s.slow) < mostSlow {
			s.slow[by.Name] = weight{counts, now}
		}
		if p.currentLoads()[h.mirror]-p.state.Load().Load(h.mirror) >= loadStep {
			p.publish(true)
		}
	case reportMissing, reportWrong:
		if file != "" && len(s.files) < mostFiles && !slices.Contains(s.files, file) {
			s.files = append(s.files, file)
		}
	}
	s.reports = weight{s.reports.left(now, fade) + counts, now}
	if s.reports.weight < lookFrom {
		return
	}
	s.reports.weight = 0
	p.nudge(h)
}

// nudge makes all ways of a holding be looked at now.
func (p *Prober) nudge(h holding) {
	for _, w := range p.waysOf(h) {
		select {
		case w.nudge <- struct{}{}:
		default: // it will look anyway
		}
	}
}

// hear reports whether a reporter is listened to: not when he repeats himself, nor when
// he or all together have said too much within a minute.
func (s *suspicion) hear(said heard, now time.Time) bool {
	maps.DeleteFunc(s.heard, func(_ heard, at time.Time) bool { return now.Sub(at) >= again })
	if _, repeated := s.heard[said]; repeated || len(s.heard) >= mostHeard {
		return false
	}
	of := 0
	for other := range s.heard {
		if other.reporter == said.reporter {
			of++
		}
	}
	if of >= mostOfOne {
		return false
	}
	s.heard[said] = now
	return true
}

// loadStep is how much a load differs before readers are told of it at once.
const loadStep = 0.05

// takeSuspects returns files that were reported of a way's holding, for a look at them.
func (p *Prober) takeSuspects(w Way) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.suspects[holding{w.Mirror, w.Project}]
	if s == nil || !p.health[w].Works {
		return nil
	}
	n := min(len(s.files), filesPerLook)
	files := s.files[:n:n]
	s.files = s.files[n:]
	return files
}

// forgetSuspects drops what was reported long ago.
func (p *Prober) forgetSuspects(now time.Time) {
	maps.DeleteFunc(p.suspects, func(h holding, s *suspicion) bool {
		maps.DeleteFunc(s.heard, func(_ heard, at time.Time) bool { return now.Sub(at) >= again })
		return len(s.heard) == 0 && len(s.files) == 0 && s.slowness(now) < loadStep || len(p.waysOf(h)) == 0
	})
}

// forgetLoads drops loads that do not count any more, and reports whether there are
// other ones than readers know of.
func (p *Prober) forgetLoads(now time.Time) (changed bool) {
	maps.DeleteFunc(p.loads, func(_ string, l load) bool { return now.Sub(l.at) >= loadFor })
	return !maps.Equal(p.state.Load().loads, p.currentLoads())
}

// currentLoads are those of the mirrors of which there is anything to tell.
func (p *Prober) currentLoads() map[string]float64 {
	now := time.Now()
	loads := make(map[string]float64)
	for mirror, l := range p.loads {
		if now.Sub(l.at) < loadFor {
			loads[mirror] = l.load
		}
	}
	for h, s := range p.suspects {
		if slow := s.slowness(now); slow >= loadStep {
			loads[h.mirror] = max(loads[h.mirror], slow)
		}
	}
	return loads
}
