package director

import (
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

// listener passes on to versions what listings tell.
type listener struct{ r *redirector }

// Pointers implements [scan.Listener].
func (l listener) Pointers(project string) []string { return l.r.versions.Pointers(project) }

// Listed implements [scan.Listener].
func (l listener) Listed(mirror, project string, all bool, found map[string]inventory.Entry, at time.Time) {
	l.r.versions.Listed(mirror, project, all, found, at)
}

// Heard implements [scan.Listener].
func (l listener) Heard(mirror, project string) {
	if mirror == "" {
		l.r.versions.Hasten(project, "")
		return
	}
	l.r.versions.Heard(mirror, project)
}

// samples is an inventory for those who look at mirrors. It has a few short files of each
// project at hand.
type samples struct {
	inventory *inventory.Inventory
	// doubt says that a mirror seems not to have a file.
	doubt func(project string, h inventory.Holder, path string)

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
	sampleSize  = 512              // files, and twice as many short ones
	sampleEvery = 10 * time.Minute // or at once, if there is none
	shortFile   = 256 << 10        // bytes
)

func newSamples(v *inventory.Inventory, doubt func(project string, h inventory.Holder, path string)) *samples {
	return &samples{inventory: v, doubt: doubt, of: make(map[string]*sample)}
}

// Origin implements [probe.Inventory].
func (s *samples) Origin(project, path string) (probe.File, bool) {
	f, ok := s.inventory.Project(project).Find(path)
	return probe.File{Path: path, Size: f.Size, SHA256: f.SHA256, HasSHA256: f.HasSHA256()}, ok
}

// Missing implements [probe.Inventory].
func (s *samples) Missing(mirror, project, path string) {
	if h, ok := s.inventory.Lookup(mirror); ok {
		s.doubt(project, h, path)
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
	var lasting, mutable []string
	for _, path := range view.Sample(2*sampleSize, isShort) {
		if layout.Tree(path).Mutable() {
			mutable = append(mutable, path)
		} else {
			lasting = append(lasting, path)
		}
	}
	return [3][]string{lasting, mutable, view.Sample(sampleSize, func(size int64) bool { return !isShort(size) })}
}

func isShort(size int64) bool { return 0 < size && size <= shortFile }
