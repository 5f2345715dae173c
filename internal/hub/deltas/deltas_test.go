package deltas_test

import (
	"fmt"
	"io/fs"
	"slices"
	"testing"
	"time"

	"freshet/internal/durable"
	"freshet/internal/hub/deltas"
	"freshet/internal/ostree"
)

func TestDepth(t *testing.T) {
	t.Parallel()
	rules := deltas.Rules{Appstream: 5, Refs: []deltas.Rule{
		{ID: []string{"*.Locale", "*.Sources"}},
		{ID: []string{"*.Debug"}, Arch: []string{"x86_64"}, Depth: 1},
		{ID: []string{"*.Debug"}},
		{Arch: []string{"x86_64"}, Depth: 2},
		{Depth: 1},
	}}
	for ref, want := range map[string]int{
		"app/org.x.App/x86_64/stable": 2, "app/org.x.App/aarch64/stable": 1, "runtime/org.x.App.Locale/x86_64/stable": 0,
		"runtime/org.x.App.Debug/x86_64/stable": 1, "runtime/org.x.App.Debug/aarch64/stable": 0,
		"appstream2/x86_64": 5, "appstream2/verified-x86_64": 5, "appstream/x86_64": 1, "screenshots/x86_64": 0, "other": 0,
	} {
		if got := rules.Depth(ref); got != want {
			t.Errorf("%s: %d, want %d", ref, got, want)
		}
	}
	if got := (deltas.Rules{}).Depth("app/org.x.App/x86_64/stable"); got != 0 {
		t.Errorf("without rules: %d", got)
	}
}

// history is a chain of commits: each number has the one before as its parent.
type history struct{ from int }

func sum(n int) ostree.Checksum { return ostree.Checksum{byte(n), 1} }

func (h history) Commit(c ostree.Checksum) (*ostree.Commit, error) {
	n := int(c[0])
	if n < h.from {
		return nil, fmt.Errorf("commit %d: %w", n, fs.ErrNotExist)
	}
	commit := &ostree.Commit{Timestamp: uint64(n)}
	if n%10 > 1 {
		commit.Parent = sum(n - 1)
	}
	return commit, nil
}

func TestWanted(t *testing.T) {
	t.Parallel()
	rules := deltas.Rules{Appstream: 3, Refs: []deltas.Rule{{ID: []string{"org.x.*"}, Depth: 3}}}
	wanted, err := deltas.Wanted(history{13}, map[string]ostree.Checksum{
		"app/org.x.A/x86_64/stable": sum(5 + 10), "app/org.x.B/x86_64/stable": sum(14), "app/org.x.New/x86_64/stable": sum(21),
		"app/org.y.C/x86_64/stable": sum(19), "appstream2/x86_64": sum(37), "app/org.x.Same/x86_64/stable": sum(21),
	}, rules)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range wanted {
		got = append(got, fmt.Sprintf("%d-%d", d.Name.From[0], d.Name.To[0]))
	}
	want := []string{"36-37", "14-15", "13-14", "0-37", "0-21", "0-15", "0-14", "35-37", "13-15"}
	if !slices.Equal(got, want) {
		t.Errorf("wanted %v\nnot    %v", got, want)
	}
}

func TestRetired(t *testing.T) {
	t.Parallel()
	dir, err := durable.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Root.Close() })
	r := deltas.Retired{Dir: dir, Name: "retired.json"}
	a, b := ostree.DeltaName{To: sum(1)}, ostree.DeltaName{From: sum(1), To: sum(2)}
	stored, wanted := []ostree.DeltaName{a, b}, map[ostree.DeltaName]bool{b: true}
	start := time.Unix(1_700_000_000, 0)
	check := func(after time.Duration, want ...ostree.DeltaName) {
		t.Helper()
		over, err := r.Update(stored, func(n ostree.DeltaName) bool { return wanted[n] }, start.Add(after), time.Hour)
		if err != nil || !slices.Equal(over, want) {
			t.Errorf("after %v: %v, %v", after, over, err)
		}
	}
	check(0)
	check(59 * time.Minute)
	check(time.Hour, a)
	wanted[a] = true // again
	check(2 * time.Hour)
	wanted[a] = false
	check(3 * time.Hour) // the time begins anew
	check(4*time.Hour, a)
	for after, want := range map[time.Duration]bool{4 * time.Hour: true, 30 * 24 * time.Hour: true, 32 * 24 * time.Hour: false} {
		if removed, err := r.Removed(start.Add(after)); err != nil || removed[a] != want || removed[b] {
			t.Errorf("removed after %v: %v, %v", after, removed, err)
		}
	}
	check(-time.Hour) // the clock was set back
	if err := dir.Root.WriteFile("retired.json", []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	check(5 * time.Hour) // damaged
	stored = nil
	check(9 * time.Hour)
	data, err := dir.Root.ReadFile("retired.json")
	if err != nil || string(data) != `{"version":1,"retired":{}}` {
		t.Errorf("%s, %v", data, err)
	}
}
