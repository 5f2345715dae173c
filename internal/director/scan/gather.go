package scan

import (
	"strings"

	"freshet/internal/inventory"
)

// gather makes entries of what somebody comes across who walks through a tree of files.
// Links are known by the walk before, so that nothing but them has to be kept; when they
// turn out to be others, the walk is repeated.
type gather struct {
	known   links
	seen    links
	hidden  map[string]bool // folders that not everybody may read
	yield   func(inventory.Entry, error) bool
	stopped bool
}

func newGather(known links, yield func(inventory.Entry, error) bool) *gather {
	return &gather{known: known, seen: make(links), yield: yield}
}

// hide leaves out a folder, and what is below it.
func (g *gather) hide(folder string) {
	if g.hidden == nil {
		g.hidden = make(map[string]bool)
	}
	g.hidden[folder] = true
}

// file takes a file that everybody may read. It is false when no more are wanted.
func (g *gather) file(e inventory.Entry) bool {
	if !g.isHidden(e.Path) {
		g.pass(e)
	}
	for _, alias := range g.known.aliases(e.Path) {
		e.Path = alias
		g.pass(e)
	}
	return !g.stopped
}

func (g *gather) pass(e inventory.Entry) {
	g.stopped = g.stopped || !g.yield(e, nil)
}

// link takes a symbolic link.
func (g *gather) link(name, target string) {
	if !g.isHidden(name) {
		g.seen.add(name, target)
	}
}

// end ends the walk: its links are those for the next one. The error is errLinks if this
// one is to be repeated.
func (g *gather) end() (links, error) {
	g.seen.sort()
	if !g.seen.equal(g.known) {
		return g.seen, errLinks
	}
	return g.known, nil
}

// isHidden reports whether a path is not for everybody, or is where rsync keeps what it
// copies, or where a file system keeps copies of itself.
func (g *gather) isHidden(path string) bool {
	if strings.Contains(path, ".~tmp~/") || strings.Contains(path, ".snapshot/") || strings.Contains(path, ".rsync-partial/") {
		return true
	}
	if len(g.hidden) == 0 {
		return false
	}
	for end := strings.LastIndexByte(path, '/'); end > 0; end = strings.LastIndexByte(path[:end], '/') {
		if g.hidden[path[:end]] {
			return true
		}
	}
	return false
}
