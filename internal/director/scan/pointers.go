package scan

import (
	"iter"
	"strings"
	"time"

	"freshet/internal/inventory"
)

// pointers picks out of what a mirror tells how it has the pointers of repositories.
type pointers struct {
	key
	told   Listener
	wanted map[string]bool
	found  map[string]inventory.Entry
}

// pointers returns those of a project; nothing is picked if it is the origin that tells.
func (s *Scanner) pointers(k key) *pointers {
	p := &pointers{key: k, told: s.o.Told}
	if p.told == nil || k.mirror == "" {
		return p
	}
	p.wanted, p.found = make(map[string]bool), make(map[string]inventory.Entry)
	for _, path := range p.told.Pointers(k.project) {
		p.wanted[path] = true
	}
	return p
}

// see takes an entry.
func (p *pointers) see(e inventory.Entry) {
	if p.wanted[e.Path] {
		e.Path = strings.Clone(e.Path) // it may be part of something large
		p.found[e.Path] = e
	}
}

// watch passes entries on.
func (p *pointers) watch(entries iter.Seq2[inventory.Entry, error]) iter.Seq2[inventory.Entry, error] {
	if len(p.wanted) == 0 {
		return entries
	}
	return func(yield func(inventory.Entry, error) bool) {
		p.forget()
		for e, err := range entries {
			if err == nil {
				p.see(e)
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// forget forgets what was picked.
func (p *pointers) forget() { clear(p.found) }

// tell tells what was picked, of all files of the mirror or of some.
func (p *pointers) tell(all bool, at time.Time) {
	if len(p.wanted) > 0 {
		p.told.Listed(p.mirror, p.project, all, p.found, at)
	}
}
