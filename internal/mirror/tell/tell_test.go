package tell_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/durable"
	"freshet/internal/inventory"
	"freshet/internal/inventory/manifest"
	"freshet/internal/mirror/tell"
	"freshet/internal/unpack"
)

// director is one as far as manifests go: with an inventory, and answers as the role has
// them.
type director struct {
	tree inventory.Tree
	down atomic.Bool

	mu    sync.Mutex
	heads []manifest.Head

	reports []directorapi.Report
}

const holder = inventory.Holder(1)

func (d *director) RoundTrip(r *http.Request) (*http.Response, error) {
	if d.down.Load() {
		return nil, errors.New("connection refused")
	}
	w := httptest.NewRecorder()
	if r.URL.Path == directorapi.ReportsPath {
		var reports directorapi.Reports
		if err := json.NewDecoder(r.Body).Decode(&reports); err != nil {
			return nil, err
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.reports = append(d.reports, reports.Reports...)
		w.WriteHeader(http.StatusAccepted)
		return w.Result(), nil
	}
	switch err := d.put(r); {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
	case errors.Is(err, inventory.ErrGap):
		refuse(w, http.StatusConflict, "gap", err)
	case errors.Is(err, inventory.ErrShrunk):
		refuse(w, http.StatusConflict, "shrunk", err)
	default:
		refuse(w, http.StatusBadRequest, "bad_request", err)
	}
	return w.Result(), nil
}

func (d *director) put(r *http.Request) error {
	if want := directorapi.ManifestPath("box", "distro"); r.Method != http.MethodPut || r.URL.Path != want {
		return fmt.Errorf("%s %s, want PUT %s", r.Method, r.URL.Path, want)
	}
	plain, done, err := unpack.NewReader(r.Body)
	if err != nil {
		return err
	}
	defer done()
	m, err := manifest.NewReader(plain)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.heads = append(d.heads, m.Head)
	d.mu.Unlock()
	if m.Head.Project != "distro" {
		return fmt.Errorf("project %q", m.Head.Project)
	}
	_, err = m.Into(&d.tree, holder)
	return err
}

func refuse(w http.ResponseWriter, status int, reason string, err error) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(directorapi.Error{Reason: reason, Message: err.Error()})
}

// has are the paths that the director sends clients here for.
func (d *director) has() string {
	var paths []string
	for path := range strings.SplitSeq("a b c d e f g h", " ") {
		if f, ok := d.tree.Find(path); ok && f.Holders.Has(holder) {
			paths = append(paths, path)
		}
	}
	return strings.Join(paths, " ")
}

// generation is a name and paths, each a file as long as its name is.
type generation struct {
	name  string
	paths string
}

func (g generation) Name() string { return g.name }

func (g generation) Entries() iter.Seq2[inventory.Entry, error] {
	return func(yield func(inventory.Entry, error) bool) {
		for path := range strings.FieldsSeq(g.paths) {
			if path == "!" {
				yield(inventory.Entry{}, io.ErrUnexpectedEOF)
				return
			}
			if !yield(inventory.Entry{Path: path, Size: 1}, nil) {
				return
			}
		}
	}
}

// served is a generation of a mirror.
type served struct {
	generation
	of *world
}

func (g served) Since(name string) (iter.Seq2[inventory.Entry, error], bool) {
	i := slices.IndexFunc(g.of.all, func(g generation) bool { return g.name == name })
	if i < 0 || g.of.gone {
		return nil, false
	}
	before, after := strings.Fields(g.of.all[i].paths), strings.Fields(g.paths)
	return func(yield func(inventory.Entry, error) bool) {
		for _, path := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(before, after)))) {
			e, err := inventory.Entry{Path: path, Size: 1, Gone: !slices.Contains(after, path)}, error(nil)
			if path == "!" {
				e, err = inventory.Entry{}, io.ErrUnexpectedEOF
			} else if slices.Contains(before, path) && !e.Gone {
				continue
			}
			if !yield(e, err) {
				return
			}
		}
	}, true
}

// world is a mirror with generations, the last of which is served, and a director.
type world struct {
	t        *testing.T
	director director
	all      []generation
	gone     bool // older ones are not on the disk
	load     func() (float64, bool)
	state    durable.Dir
	crier    *tell.Crier
}

func newWorld(t *testing.T) *world {
	dir, err := durable.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Root.Close() })
	w := &world{t: t, state: dir}
	// The origin has all files that there are.
	entries := generation{paths: "a b c d e f g h"}.Entries()
	if _, err := w.director.tree.Replace(inventory.Origin, inventory.Listing{Entries: entries}); err != nil {
		t.Fatal(err)
	}
	return w
}

// start begins to tell, until the function that it returns is called.
func (w *world) start() (stop func()) {
	w.crier = tell.New(tell.Options{
		Directors: []tell.Director{{
			Name: "d", Mirror: "box", Projects: map[string]string{"p": "distro"},
			API: &directorapi.Client{Base: "http://director", HTTP: &http.Client{Transport: &w.director}},
		}},
		Current: func(string) tell.Generation {
			if len(w.all) == 0 {
				return nil
			}
			return served{w.all[len(w.all)-1], w}
		},
		State: w.state, Load: w.load,
	})
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.crier.Run(ctx) }()
	synctest.Wait()
	return func() { cancel(); <-done }
}

// publish switches to a generation with these paths, and nudges.
func (w *world) publish(name, paths string) {
	w.all = append(w.all, generation{name, paths})
	w.crier.Nudge("p")
	synctest.Wait()
}

func (w *world) check(has string, bases ...string) {
	w.t.Helper()
	if got := w.director.has(); got != has {
		w.t.Errorf("the director knows of %q, want %q", got, has)
	}
	w.director.mu.Lock()
	defer w.director.mu.Unlock()
	var got []string
	for _, h := range w.director.heads {
		got = append(got, h.Base+">"+h.Generation)
	}
	if !slices.Equal(got, bases) {
		w.t.Errorf("told %q, want %q", got, bases)
	}
	w.director.heads = nil
}

func TestTellsChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		stop := w.start()
		defer func() { stop() }()
		w.check("")
		w.publish("1", "a b c d e")
		w.check("a b c d e", ">1")
		w.publish("2", "a c d e h")
		w.check("a c d e h", "1>2")
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		w.check("a c d e h", "2>2")

		// A director that has lost what it knew is told all, without a switch.
		w.director.tree.Drop(holder)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		w.check("a c d e h", "2>2", ">2")

		// Another process goes on where this one ended.
		stop()
		w.all = append(w.all, generation{"3", "a b"})
		stop = w.start()
		w.check("a b", "2>3")
		// A generation that is not there any more cannot be a base; and a full one that
		// lacks so much is sent twice.
		stop()
		w.gone = true
		w.all = append(w.all, generation{"4", "g"})
		stop = w.start()
		w.check("g", ">4", ">4")
	})
}

func TestDirectorAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.start()()
		w.director.down.Store(true)
		w.publish("1", "a b c")
		w.publish("2", "a b c d")
		time.Sleep(time.Hour)
		synctest.Wait()
		if s := w.crier.Standings(); len(s) != 1 || s[0].Err == nil || s[0].Failures < 5 || s[0].Failures > 20 || s[0].Generation != "" {
			t.Errorf("after an hour: %+v", s)
		}
		w.director.down.Store(false)
		time.Sleep(5*time.Minute + time.Second)
		synctest.Wait()
		w.check("a b c d", ">2")
		if s := w.crier.Standings(); s[0].Err != nil || s[0].Failures != 0 || s[0].Generation != "2" {
			t.Errorf("afterwards: %+v", s)
		}
	})
}

// A manifest that cannot be read to its end changes nothing at the director.
func TestUnreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.start()()
		w.publish("1", "a b c")
		w.publish("2", "a b !")
		w.check("a b c", ">1")
		if s := w.crier.Standings(); !errors.Is(s[0].Err, io.ErrUnexpectedEOF) {
			t.Errorf("the error is %v", s[0].Err)
		}
	})
}

// How busy the mirror is, is told every half minute if it is known, and what a director did not hear is not told later.
func TestTellsLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var load atomic.Int64 // in percent; 0: not known yet
		w.load = func() (float64, bool) { return float64(load.Load()) / 100, load.Load() > 0 }
		defer w.start()()
		wait := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		wait(time.Minute + time.Second)
		load.Store(25)
		wait(30 * time.Second)
		load.Store(50)
		w.director.down.Store(true)
		wait(time.Minute)
		w.director.down.Store(false)
		load.Store(75)
		wait(30 * time.Second)
		w.director.mu.Lock()
		defer w.director.mu.Unlock()
		want := []directorapi.Report{{Mirror: "box", What: "load", Load: 0.25}, {Mirror: "box", What: "load", Load: 0.75}}
		if !slices.Equal(w.director.reports, want) {
			t.Errorf("told %+v, want %+v", w.director.reports, want)
		}
	})
}
