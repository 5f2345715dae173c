package mirror_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freshet/api/mirrorapi"
	"freshet/internal/durable"
	"freshet/internal/mirror/generation"
	"freshet/internal/mirror/project"
)

// A project that is configured stays; one that is no more is told of, and removed with all
// that it has, also when the mirror ends before it is done. What others have stays.
func TestLeftProject(t *testing.T) {
	w := newWorld(t, project.Config{Kind: "plain", Schedule: "every 1h"})
	w.write("a", "first")
	p := w.cfg.Projects["p"]
	all := map[string]project.Config{"p": p, "q": p, "r": p}
	w.cfg = w.with(all)
	w.start()
	for _, name := range []string{"p", "q", "r"} {
		w.until(name+" is served", func() bool { return w.get("/"+name+"/a") == "first" })
	}
	if _, err := w.client.Remove(t.Context(), "q"); err == nil || !strings.Contains(err.Error(), "409 conflict") || !strings.Contains(err.Error(), "is configured") {
		t.Errorf("a configured project is removed: %v", err)
	}
	if _, err := w.client.Remove(t.Context(), "unknown"); err == nil || !strings.Contains(err.Error(), "404 not_found") {
		t.Errorf("no project is removed: %v", err)
	}
	one := map[string]project.Config{"p": p}
	w.reloads <- w.with(one)
	left := func() []mirrorapi.LeftProject {
		st, err := w.client.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return st.Left
	}
	w.until("q and r are left", func() bool { return len(left()) == 2 })
	if l := left()[0]; l != (mirrorapi.LeftProject{Name: "q", Generations: 1, Files: 1, Bytes: 5}) {
		t.Errorf("left: %+v", l)
	}
	d, err := w.client.Doctor(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	told := false
	for _, f := range d.Findings {
		told = told || f.About == "project q" && f.Level == mirrorapi.LevelWarning && strings.Contains(f.Do, "drop q --all")
	}
	if !told {
		t.Errorf("doctor says nothing of q: %+v", d.Findings)
	}
	if r, err := w.client.Remove(t.Context(), "q"); err != nil || r.Removing {
		t.Fatalf("%+v, %v", r, err)
	}
	gone := func(name string) bool {
		t.Helper()
		_, err := os.Lstat(filepath.Join(w.cfg.Directory, "projects", name))
		_, lerr := os.Lstat(filepath.Join(w.cfg.Directory, "state/reports", name+".jsonl"))
		return os.IsNotExist(err) && os.IsNotExist(lerr)
	}
	if l := left(); !gone("q") || len(l) != 1 || l[0].Name != "r" {
		t.Errorf("q is not gone: %+v", l)
	}
	if got := w.get("/p/a"); got != "first" {
		t.Errorf("p serves %q", got)
	}
	w.stop()

	// The mirror has ended when r was out of service and nothing was removed yet.
	store, err := generation.Open(t.Context(), w.cfg.Directory, generation.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := store.Project("r", nil)
	if err == nil {
		_, err = r.End()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	w.cfg = w.with(one)
	w.start()
	w.until("the removal of r is completed", func() bool { return gone("r") && len(left()) == 0 })

	// One that comes back begins anew.
	w.reloads <- w.with(all)
	w.until("q is served again", func() bool { return w.get("/q/a") == "first" })
}

// What is removed is forgotten: when it comes back it is not held any more. A configuration
// that cannot be taken over leaves no project behind.
func TestRemovedIsForgotten(t *testing.T) {
	w := newWorld(t, project.Config{Kind: "plain", Schedule: "every 1h"})
	w.write("a", "first")
	p := w.cfg.Projects["p"]
	one, both := map[string]project.Config{"p": p}, map[string]project.Config{"p": p, "q": p}
	w.cfg = w.with(both)
	w.start()
	w.until("q is served", func() bool { return w.get("/q/a") == "first" })
	if _, err := w.client.Hold(t.Context(), "q", mirrorapi.HoldRequest{}); err != nil {
		t.Fatal(err)
	}
	w.reloads <- w.with(one)
	w.until("q is not served", func() bool { return w.get("/q/a") == "404 Not Found" })
	if _, err := w.client.Remove(t.Context(), "q"); err != nil {
		t.Fatal(err)
	}
	unreadable := map[string]project.Config{"p": p, "o": p, "q": p, "z": p}
	z := p
	z.Kind, z.Keys, z.Repositories = "rpm", []string{filepath.Join(t.TempDir(), "gone")}, []string{"."}
	unreadable["z"] = z
	hot := p
	hot.Kind, hot.HotSet, hot.Repositories = "ostree", 1<<20, []string{"a", "b"}
	w.reloads <- w.with(map[string]project.Config{"p": p, "o": p, "q": hot})
	w.reloads <- w.with(unreadable)
	w.reloads <- w.with(one) // the ones before are done with
	if st, err := w.client.Status(t.Context()); err != nil || len(st.Left) > 0 {
		t.Errorf("left: %+v, %v", st.Left, err)
	}
	w.reloads <- w.with(both)
	w.until("q is back", func() bool { return w.get("/q/a") == "first" })
}

// Temporary files that a crash has left in the state are removed by the next start.
func TestStateIsSwept(t *testing.T) {
	w := newWorld(t, project.Config{Kind: "plain", Schedule: "never"})
	w.start()
	w.stop()
	state := filepath.Join(w.cfg.Directory, "state")
	for _, folder := range []string{state, filepath.Join(state, "reports")} {
		if err := os.WriteFile(filepath.Join(folder, durable.TempName()), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.start()
	for _, pattern := range []string{durable.TempPrefix + "*", "*/" + durable.TempPrefix + "*"} {
		if left, err := filepath.Glob(filepath.Join(state, pattern)); err != nil || len(left) > 0 {
			t.Errorf("%q, %v", left, err)
		}
	}
}
