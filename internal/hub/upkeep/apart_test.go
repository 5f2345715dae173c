package upkeep_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"freshet/internal/hub/quarantine"
	"freshet/internal/hub/upkeep"
	"freshet/internal/ostree"
	"freshet/internal/ostree/ostreetest"
)

// apart lists what is in quarantine.
func (h *hub) apart() []quarantine.Item {
	h.Helper()
	root, err := os.OpenRoot(h.dir)
	if err != nil {
		h.Fatal(err)
	}
	defer root.Close()
	items, err := quarantine.List(root)
	if err != nil {
		h.Fatal(err)
	}
	return items
}

// exists tells whether a file of the repository is there.
func (h *hub) exists(file string) bool {
	_, err := os.Lstat(h.path(file))
	return err == nil
}

// scrubbed reads all objects once and tells of what is damaged.
func (h *hub) scrubbed(sources ...upkeep.Source) []upkeep.Problem {
	h.Helper()
	ctx, stop := context.WithCancel(h.Context())
	defer stop()
	var found []upkeep.Problem
	folders := 0
	err := upkeep.Scrub(ctx, h.dir, upkeep.ScrubOptions{
		Rate: 1 << 40, Repair: sources,
		Found: func(p upkeep.Problem) { found = append(found, p) },
		Round: func(upkeep.ScrubState) {
			if folders++; folders == 256 {
				stop()
			}
		},
	})
	if !errors.Is(err, context.Canceled) {
		h.Fatal(err)
	}
	return found
}

// fileOf is a file object of the head of an application.
func fileOf(h *hub, id, path string) ostree.ObjectName {
	h.Helper()
	repo := ostreetest.OpenDir(h, h.dir)
	head, _ := h.head(appRef(id))
	commit, err := repo.Commit(head)
	if err != nil {
		h.Fatal(err)
	}
	names := strings.Split(path, "/")
	dir, err := repo.DirTree(commit.Tree)
	for _, name := range names[:len(names)-1] {
		below, ok := dir.Dir(name)
		if err != nil || !ok {
			h.Fatal(path, err)
		}
		dir, err = repo.DirTree(below.Tree)
	}
	if err != nil {
		h.Fatal(err)
	}
	file, ok := dir.File(names[len(names)-1])
	if !ok {
		h.Fatal(path)
	}
	return ostree.ObjectName{Checksum: file.File, Type: ostree.TypeFile}
}

// TestQuarantine damages each kind of object: without a copy to repair it from, it is
// served no more, and it is known whom that hurts; with one all is well again.
func TestQuarantine(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.publish("org.example.A", "1")
	h.publish("org.example.B", "1")
	h.sound()
	source := h.copyOf()
	head, commit := h.head(appRef("org.example.A"))
	for _, name := range []ostree.ObjectName{
		{Checksum: head, Type: ostree.TypeCommit}, {Checksum: commit.Tree, Type: ostree.TypeDirTree}, fileOf(h, "org.example.A", "files/share/org.example.A/data"),
	} {
		for by, find := range map[string]func() []upkeep.Problem{
			"check": func() []upkeep.Problem {
				_, problems := h.check(upkeep.CheckOptions{Quarantine: true})
				return problems
			},
			"scrub": func() []upkeep.Problem { return h.scrubbed() },
		} {
			t.Run(by+"-"+name.Type.Ext(), func(t *testing.T) {
				h.TB = t
				damaged := read(t, h.path(name.Path()))
				damaged[len(damaged)/2] ^= 0x10
				write(t, h.path(name.Path()), damaged)
				if _, problems := h.check(upkeep.CheckOptions{}); len(problems) == 0 || len(h.apart()) != 0 || !h.exists(name.Path()) {
					t.Errorf("nobody asked for a quarantine: %+v", problems)
				}
				if problems := find(); !slices.ContainsFunc(problems, func(p upkeep.Problem) bool { return p.Path == name.Path() && p.Apart }) {
					t.Errorf("%+v", problems)
				}
				items := h.apart()
				if len(items) != 1 || items[0].Name != name || items[0].Error == "" || strings.Join(items[0].Refs, " ") != appRef("org.example.A") {
					t.Fatalf("%+v", items)
				}
				if h.exists(name.Path()) || string(read(t, h.path(quarantine.Path(name)))) != string(damaged) {
					t.Error("it was not moved")
				}
				for _, incremental := range []bool{false, true} {
					var kept []quarantine.Item
					report, problems := h.check(upkeep.CheckOptions{Incremental: incremental, Kept: func(i quarantine.Item) { kept = append(kept, i) }})
					if report.Sound() || report.Apart != 1 || len(kept) != 1 || len(kept[0].Refs) != 1 ||
						!slices.ContainsFunc(problems, func(p upkeep.Problem) bool {
							return p.Path == name.Path() && p.Kind == upkeep.KindApart && p.Ref == appRef("org.example.A")
						}) {
						t.Errorf("incremental %t: %+v %+v %+v", incremental, report, problems, kept)
					}
				}
				if problems := h.scrubbed(source); !slices.ContainsFunc(problems, func(p upkeep.Problem) bool { return p.Path == name.Path() && p.Repaired }) {
					t.Errorf("not repaired: %+v", problems)
				}
				if items := h.apart(); len(items) != 0 || h.exists(quarantine.Path(name)) || h.exists(quarantine.Path(name)+".json") {
					t.Errorf("still in quarantine: %+v", items)
				}
				if report, _ := h.check(upkeep.CheckOptions{}); !report.Sound() {
					t.Errorf("%+v", report)
				}
				h.sound()
			})
		}
	}
}

// TestQuarantineEnds: what was read wrongly, or mended by hand, goes back to its place;
// a copy of what is there again is dropped.
func TestQuarantineEnds(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.publish("org.example.A", "1")
	name := fileOf(h, "org.example.A", "files/share/org.example.A/data")
	sound := read(t, h.path(name.Path()))
	write(t, h.path(name.Path()), sound[:20])
	h.scrubbed()
	if len(h.apart()) != 1 {
		t.Fatal("not in quarantine")
	}
	write(t, h.path(quarantine.Path(name)), sound)
	if report, problems := h.check(upkeep.CheckOptions{}); !report.Sound() || len(problems) != 1 || !problems[0].Repaired {
		t.Errorf("%+v", problems)
	}
	h.sound()
	write(t, h.path(name.Path()), sound[:20])
	h.scrubbed()
	if err := os.WriteFile(h.path(name.Path()), sound, 0o600); err != nil { // another program has brought it
		t.Fatal(err)
	}
	if len(h.apart()) != 0 {
		t.Error("it is there")
	}
	h.scrubbed()
	if h.exists(quarantine.Path(name)) {
		t.Error("the copy stays")
	}
	h.sound()
}

// TestQuarantinePruned: a prune removes what is in quarantine and nothing needs, and
// nothing at all while a commit is there of which it does not know what it needs.
func TestQuarantinePruned(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	opt := upkeep.PruneOptions{Rules: strict}
	h.publish("org.example.A", "1")
	old, name := fileOf(h, "org.example.A", "files/share/versions/1"), ostree.ObjectName{}
	name.Checksum, _ = h.head(appRef("org.example.A"))
	name.Type = ostree.TypeCommit
	h.publish("org.example.A", "2")
	orphan := ostree.ObjectName{Checksum: ostree.ChecksumOf([]byte("nobody's")), Type: ostree.TypeFile}
	if err := os.MkdirAll(filepath.Dir(h.path(orphan.Path())), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{old.Path(), orphan.Path()} {
		_ = os.Remove(h.path(path))
		if err := os.WriteFile(h.path(path), []byte("damaged"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sound := read(t, h.path(name.Path()))
	write(t, h.path(name.Path()), []byte("damaged"))
	h.scrubbed()
	items := h.apart()
	if len(items) != 3 || slices.ContainsFunc(items, func(i quarantine.Item) bool { return len(i.Refs) > 0 }) {
		t.Errorf("%+v", items)
	}
	if _, err := upkeep.Prune(t.Context(), h.dir, opt); !errors.Is(err, upkeep.ErrDamaged) {
		t.Errorf("with a commit in quarantine: %v", err)
	}
	write(t, h.path(quarantine.Path(name)), sound)
	if report, problems := h.check(upkeep.CheckOptions{}); report.Repaired != 1 {
		t.Errorf("%+v", problems)
	}
	if pruned := h.prune(opt); pruned.Removed == 0 {
		t.Errorf("%+v", pruned)
	}
	if items := h.apart(); len(items) != 0 {
		t.Errorf("not pruned: %+v", items)
	}
	h.sound()
}
