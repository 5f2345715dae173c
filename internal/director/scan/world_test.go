package scan

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"freshet/api/directorapi"
	"freshet/internal/inventory"
	"freshet/internal/rsync"
)

// files are what a tree of a test holds: content by path.
type files map[string]string

// write makes a folder that holds them, and that others can enter.
func (f files) write(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	if err := os.Chmod(filepath.Dir(folder), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range f {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// shelf is a catalogue that a test can exchange.
type shelf struct {
	mu      sync.Mutex
	current *directorapi.Catalogue
	next    chan struct{}
}

func newShelf(c *directorapi.Catalogue) *shelf { return &shelf{current: c, next: make(chan struct{})} }

func (s *shelf) Current() *directorapi.Catalogue {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

func (s *shelf) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next
}

func (s *shelf) put(c *directorapi.Catalogue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = c
	close(s.next)
	s.next = make(chan struct{})
}

// once scans a target, and returns what the inventory knows of it afterwards.
func once(t *testing.T, s *Scanner, target target, m *memo) (map[string]int64, error) {
	t.Helper()
	_, err := s.scan(t.Context(), target, m)
	return held(s.o.Inventory, target.project, target.mirror), err
}

// held is what an inventory says that a mirror, or the origin, has of the origin's files:
// sizes by path.
func held(inv *inventory.Inventory, project, mirror string) map[string]int64 {
	h, _ := inv.Lookup(mirror)
	found := make(map[string]int64)
	for path, f := range inv.Project(project).View().Files("") {
		if h == inventory.Origin || f.Holders.Has(h) {
			found[path] = f.Size
		}
	}
	return found
}

// sizes are those of the files.
func (f files) sizes() map[string]int64 {
	all := make(map[string]int64)
	for name, content := range f {
		all[name] = int64(len(content))
	}
	return all
}

// same reports a difference.
func same(t *testing.T, got, want map[string]int64) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func newScanner(t *testing.T, o Options) *Scanner {
	t.Helper()
	if o.Inventory == nil {
		o.Inventory = new(inventory.Inventory)
	}
	if o.Catalogue == nil {
		o.Catalogue = newShelf(new(directorapi.Catalogue))
	}
	o.Rsync = rsync.Options{AnyVersion: true}
	return New(o)
}

// run runs a scanner until the test ends.
func run(t *testing.T, s *Scanner) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// link makes a symbolic link.
func link(t *testing.T, folder, name, target string) {
	t.Helper()
	if err := os.Symlink(target, filepath.Join(folder, name)); err != nil {
		t.Fatal(err)
	}
}

// paths are those of a listing, sorted.
func paths(found map[string]int64) []string { return slices.Sorted(maps.Keys(found)) }
