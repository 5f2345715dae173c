package mirror

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freshet/internal/durable"
	"freshet/internal/mirror/generation"
	"freshet/internal/mirror/kind"
	"freshet/internal/peertest"
)

// What clients ask for is known by ref, and outlives a restart.
func TestHotSet(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "ostree")
	up := filepath.Join(t.TempDir(), "repo")
	run := func(args ...string) string {
		return strings.TrimSpace(string(peertest.Run(t, "", nil, "ostree", append([]string{"--repo=" + up}, args...)...)))
	}
	run("init", "--mode=archive-z2")
	run("commit", "-b", "one", "--tree=dir="+t.TempDir())
	two := run("commit", "-b", "two", "--tree=dir="+t.TempDir())
	run("summary", "-u")

	dir := t.TempDir()
	store, err := generation.Open(t.Context(), dir, generation.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	p, err := store.Project("flathub", nil)
	if err != nil {
		t.Fatal(err)
	}
	state, err := durable.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = state.Root.Close() })
	m := &mirror{log: slog.New(slog.DiscardHandler), state: state}
	m.now.Store(&settings{hotSets: make(map[string]*hotSet)})
	k, err := kind.New(kind.Config{Format: kind.OSTree, HotSet: 1, Repositories: []string{"repo"}})
	if err != nil {
		t.Fatal(err)
	}
	start := func() *hotSet {
		t.Helper()
		h, err := (&wiring{m: m}).newHotSet(t.Context(), k, p)
		if err != nil {
			t.Fatal(err)
		}
		m.now.Load().hotSets["flathub"] = h
		return h
	}
	commit := "repo/objects/" + two[:2] + "/" + two[2:] + ".commit"

	h := start()
	m.asked("flathub", commit) // before anything is served, nobody knows which ref that is
	publish(t, p, up, "repo/summary", "summary")
	h.learn(t.Context())
	m.asked("flathub", commit)
	m.asked("flathub", strings.TrimPrefix(commit, "repo/"))
	m.asked("another", commit)
	if got := h.ranked(); len(got) != 1 || got[0] != "two" {
		t.Errorf("%v", got)
	}
	if got := start().ranked(); len(got) != 1 || got[0] != "two" {
		t.Errorf("after a restart: %v", got)
	}
	if err := state.WriteFile(h.file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := start().ranked(); len(got) != 0 {
		t.Errorf("of a damaged file: %v", got)
	}
}

// publish switches to a generation of one file.
func publish(t *testing.T, p *generation.Project, from, name, base string) {
	t.Helper()
	st, err := p.Stage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(from, base))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(st.Incoming(), base), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Place(generation.File{Path: name, Size: int64(len(data)), ModTime: time.Unix(1700000000, 0)}, base); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Commit(context.WithoutCancel(t.Context()), generation.Meta{}); err != nil {
		t.Fatal(err)
	}
}
