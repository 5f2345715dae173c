package director

import (
	"math/rand/v2"
	"sync"
	"time"

	"freshet/internal/director/probe"
	"freshet/internal/director/versions"
	"freshet/internal/inventory"
	"freshet/internal/layout"
)

// reasons are versions to whom reasons are words.
type reasons struct{ *versions.Versions }

// Behind implements network.Versions.
func (r reasons) Behind(mirror, project, repository string) (why string, since time.Time) {
	word, since := r.Versions.Behind(mirror, project, repository)
	return string(word), since
}

// samples is an inventory for those who look at mirrors. It has a few short files of each
// project at hand.
type samples struct {
	inventory *inventory.Inventory

	mu sync.Mutex
	of map[string]*sample // by project
}

// sample are files of a project.
type sample struct {
	taken time.Time
	files [3][]string // those to prefer first
}

func (s *sample) empty() bool { return len(s.files[0])+len(s.files[1])+len(s.files[2]) == 0 }

const (
	sampleSize  = 512              // files
	sampleEvery = 10 * time.Minute // or at once, if there is none
	shortFile   = 256 << 10        // bytes
)

func newSamples(v *inventory.Inventory) *samples {
	return &samples{inventory: v, of: make(map[string]*sample)}
}

// Origin implements [probe.Inventory].
func (s *samples) Origin(project, path string) (probe.File, bool) {
	f, ok := s.inventory.Project(project).Find(path)
	return probe.File{Path: path, Size: f.Size, SHA256: f.SHA256, HasSHA256: f.HasSHA256()}, ok
}

// Missing implements [probe.Inventory].
func (s *samples) Missing(mirror, project, path string) {
	if h, ok := s.inventory.Lookup(mirror); ok {
		s.inventory.Project(project).Doubt(h, path)
	}
}

// Sample implements [probe.Inventory].
func (s *samples) Sample(mirror, project string, n uint64) (probe.File, bool) {
	h, ok := s.inventory.Lookup(mirror)
	if !ok {
		return probe.File{}, false
	}
	view := s.inventory.Project(project).View()
	for _, files := range s.sample(project, view) {
		for i := range files {
			path := files[(n+uint64(i))%uint64(len(files))]
			// What is known of it may be more than when the sample was taken.
			if f, ok := view.Find(path); ok && f.Holders.Has(h) {
				return probe.File{Path: path, Size: f.Size, SHA256: f.SHA256, HasSHA256: f.HasSHA256()}, true
			}
		}
	}
	return probe.File{}, false
}

// sample is a sample of a project's files, of a recent state of its tree.
func (s *samples) sample(project string, view inventory.View) [3][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	have := s.of[project]
	if have == nil || time.Since(have.taken) > sampleEvery || have.empty() && view.Len() > 0 {
		have = &sample{taken: time.Now(), files: takeSample(view)}
		s.of[project] = have
	}
	return have.files
}

// takeSample takes some of the origin's files at random: short ones that never change,
// other short ones, and the rest. A mirror may have none of the first.
func takeSample(view inventory.View) [3][]string {
	var lasting, short, others reservoir
	for path, f := range view.Files("") {
		to := &others
		switch {
		case f.Size == 0 || f.Size > shortFile:
		case layout.Tree(path).Mutable():
			to = &short
		default:
			to = &lasting
		}
		to.add(path)
	}
	return [3][]string{lasting.files, short.files, others.files}
}

// reservoir keeps some of all that is added, each with the same chance.
type reservoir struct {
	files []string
	seen  int
}

func (r *reservoir) add(path string) {
	r.seen++
	at := len(r.files)
	if at == sampleSize {
		if at = rand.IntN(r.seen); at >= sampleSize {
			return
		}
	} else {
		r.files = append(r.files, "")
	}
	r.files[at] = path
}
