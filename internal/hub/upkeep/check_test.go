package upkeep_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"freshet/internal/hub/repository"
	"freshet/internal/hub/upkeep"
	"freshet/internal/ostree"
	"freshet/internal/ostree/ostreetest"
	"freshet/internal/peertest"
)

// damages are what disks, people and programs do to a file.
var damages = []struct {
	name string
	do   func(t testing.TB, path, other string)
}{
	{"flip", func(t testing.TB, path, _ string) {
		t.Helper()
		data := read(t, path)
		data[len(data)/2] ^= 0x10
		write(t, path, data)
	}},
	{"truncate", func(t testing.TB, path, _ string) {
		t.Helper()
		write(t, path, read(t, path)[:len(read(t, path))/2])
	}},
	{"empty", func(t testing.TB, path, _ string) {
		t.Helper()
		write(t, path, nil)
	}},
	{"append", func(t testing.TB, path, _ string) {
		t.Helper()
		write(t, path, append(read(t, path), 0))
	}},
	{"remove", func(t testing.TB, path, _ string) {
		t.Helper()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}},
	{"swap", func(t testing.TB, path, other string) {
		t.Helper()
		one, two := read(t, path), read(t, other)
		write(t, path, two)
		write(t, other, one)
	}},
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// write replaces a file, whatever else has the same content by a hard link.
func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestDamage damages each kind of object in each way: what ostree finds is found,
// and all of it is repaired from another copy.
func TestDamage(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "ostree")
	h := newHub(t)
	h.publish("org.example.A", "1")
	h.publish("org.example.A", "2")
	h.publish("org.example.B", "1")
	if report := h.sound(); report.Refs < 3 || report.Commits < 4 || report.Objects < 20 || report.Orphans != 0 {
		t.Errorf("an intact repository: %+v", report)
	}
	source := h.copyOf()
	for _, kind := range []ostree.ObjectType{ostree.TypeFile, ostree.TypeDirTree, ostree.TypeDirMeta, ostree.TypeCommit} {
		objects := h.objects(kind)
		for _, damage := range damages {
			if kind == ostree.TypeDirMeta && damage.name == "swap" {
				continue // there is one only
			}
			t.Run(fmt.Sprint(kind.Ext(), "-", damage.name), func(t *testing.T) {
				name := needed(h, objects)
				damage.do(t, h.path(name.Path()), h.path(objects[(slices.Index(objects, name)+1)%len(objects)].Path()))
				report, problems := h.check(upkeep.CheckOptions{})
				if report.Sound() || !slices.ContainsFunc(problems, func(p upkeep.Problem) bool { return p.Path == name.Path() && p.Ref != "" && !p.Repaired }) {
					t.Errorf("not found: %+v", problems)
				}
				if out, err := ostreeFsck(h, h.dir); err == nil && (kind != ostree.TypeFile || damage.name != "append") { // that it does not see
					t.Errorf("ostree finds nothing:\n%s", out)
				}
				report, problems = h.check(upkeep.CheckOptions{Repair: []upkeep.Source{source}, DryRun: true})
				if report.Repaired > 0 || report.Sound() {
					t.Errorf("a dry run has repaired: %+v", problems)
				}
				report, problems = h.check(upkeep.CheckOptions{Repair: []upkeep.Source{source}})
				if !report.Sound() || report.Repaired == 0 {
					t.Errorf("not repaired: %+v", problems)
				}
				if out, err := ostreeFsck(h, h.dir); err != nil {
					t.Errorf("ostree finds more: %v\n%s", err, out)
				}
			})
		}
	}
}

// needed is an object that a head needs: of commits the head itself.
func needed(h *hub, objects []ostree.ObjectName) ostree.ObjectName {
	h.Helper()
	head, _ := h.head(appRef("org.example.A"))
	var found ostree.ObjectName
	err := ostreetest.OpenDir(h, h.dir).Walk(h.Context(), head, func(name ostree.ObjectName) error {
		if slices.Contains(objects, name) {
			found = name
		}
		return nil
	})
	if err != nil || found == (ostree.ObjectName{}) {
		h.Fatal("nothing to damage: ", err)
	}
	return found
}

// TestLies: a source that has something else repairs nothing.
func TestLies(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.publish("org.example.A", "1")
	file := h.path(needed(h, h.objects(ostree.TypeFile)).Path())
	damaged := read(t, file)[:20]
	write(t, file, damaged)
	source := h.copyOf() // damaged too
	report, problems := h.check(upkeep.CheckOptions{Repair: []upkeep.Source{source}})
	if report.Sound() || len(problems) != 1 || problems[0].Failure == "" {
		t.Errorf("%+v", problems)
	}
	if got := read(t, file); string(got) != string(damaged) {
		t.Error("the object was replaced by what is no better")
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".durable-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestIncremental: what a sound check has seen is not looked at again, all that is
// new is.
func TestIncremental(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	for i := range 20 {
		h.publish(fmt.Sprint("org.example.A", i), "1")
	}
	full, _ := h.check(upkeep.CheckOptions{Incremental: true})
	if full.Incremental || !full.Sound() {
		t.Fatalf("without a check before: %+v", full)
	}
	if again, _ := h.check(upkeep.CheckOptions{Incremental: true}); !again.Incremental || again.Objects != 0 || !again.Sound() {
		t.Errorf("nothing is new: %+v", again)
	}
	old := needed20(h)
	h.publish("org.example.A3", "2")
	one, problems := h.check(upkeep.CheckOptions{Incremental: true, DryRun: true})
	if !one.Sound() || one.Objects == 0 || one.Objects > full.Objects/4 {
		t.Errorf("one application is new: %+v, all of it %+v: %+v", one, full, problems)
	}
	_, commit := h.head(appRef("org.example.A3"))
	tree := h.path(ostree.ObjectName{Checksum: commit.Tree, Type: ostree.TypeDirTree}.Path())
	intact := read(t, tree)
	write(t, tree, intact[:10])
	if one, problems := h.check(upkeep.CheckOptions{Incremental: true}); one.Sound() {
		t.Errorf("damage in what is new: %+v %+v", one, problems)
	}
	write(t, tree, intact)
	// Damage does not make a check forget, or learn.
	if one, _ := h.check(upkeep.CheckOptions{Incremental: true}); !one.Sound() || one.Objects == 0 {
		t.Errorf("after a check that was not sound: %+v", one)
	}
	// What was looked at before is left to full checks.
	write(t, old, nil)
	if one, _ := h.check(upkeep.CheckOptions{Incremental: true}); !one.Sound() {
		t.Errorf("%+v", one)
	}
	if all, _ := h.check(upkeep.CheckOptions{}); all.Sound() {
		t.Errorf("%+v", all)
	}
}

// needed20 is a file of an application that does not change any more.
func needed20(h *hub) string {
	_, commit := h.head(appRef("org.example.A7"))
	return h.path(ostree.ObjectName{Checksum: commit.Tree, Type: ostree.TypeDirTree}.Path())
}

// TestPointers: refs, summaries and signatures.
func TestPointers(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.publish("org.example.A", "1")
	h.publish("org.example.B", "1")
	head, _ := h.head(appRef("org.example.A"))
	other, _ := h.head(appRef("org.example.B"))
	subsummaries, err := filepath.Glob(h.path("summaries/*.gz"))
	if err != nil || len(subsummaries) == 0 {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, file, kind string
		content          []byte // nil: removed
	}{
		{"ref", ostree.RefPath(appRef("org.example.A")), upkeep.KindRef, []byte("rubbish\n")},
		{"ref-empty", ostree.RefPath(appRef("org.example.A")), upkeep.KindRef, []byte{}},
		{"ref-moved", ostree.RefPath(appRef("org.example.A")), upkeep.KindSummary, ostree.RefFile(other)},
		{"ref-removed", ostree.RefPath(appRef("org.example.A")), upkeep.KindSummary, nil},
		{"ref-nowhere", ostree.RefPath(appRef("org.example.A")), upkeep.KindMissing, ostree.RefFile(ostree.ChecksumOf(nil))},
		{"summary", "summary", upkeep.KindSummary, []byte("rubbish")},
		{"summary-signature", "summary.sig", upkeep.KindSignature, nil},
		{"index", "summary.idx", upkeep.KindSummary, []byte("rubbish")},
		{"commit-signature", ostree.ObjectName{Checksum: head, Type: ostree.TypeCommitMeta}.Path(), upkeep.KindSignature, nil},
		{
			"foreign-signature", ostree.ObjectName{Checksum: head, Type: ostree.TypeCommitMeta}.Path(), upkeep.KindSignature,
			read(t, h.path(ostree.ObjectName{Checksum: other, Type: ostree.TypeCommitMeta}.Path())),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := read(t, h.path(test.file))
			if test.content == nil {
				_ = os.Remove(h.path(test.file))
			} else {
				write(t, h.path(test.file), test.content)
			}
			_, problems := h.check(upkeep.CheckOptions{})
			if !slices.ContainsFunc(problems, func(p upkeep.Problem) bool { return p.Kind == test.kind }) {
				t.Errorf("%+v", problems)
			}
			if err := os.WriteFile(h.path(test.file), before, 0o600); err != nil {
				t.Fatal(err)
			}
			h.sound()
		})
	}
	for _, file := range subsummaries {
		before := read(t, file)
		write(t, file, before[:len(before)-9])
		if report, problems := h.check(upkeep.CheckOptions{}); report.Sound() {
			t.Errorf("%s: %+v", file, problems)
		}
		write(t, file, before)
	}
	h.sound()
}

// TestDeltas: static deltas and their indexes, and their repair.
func TestDeltas(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "ostree")
	h := newHub(t)
	h.publish("org.example.A", "1")
	h.publish("org.example.A", "2")
	head, commit := h.head(appRef("org.example.A"))
	all := []repository.NewDelta{h.delta(ostree.DeltaName{To: head}), h.delta(ostree.DeltaName{From: commit.Parent, To: head})}
	if result, err := h.repo.AddDeltas(t.Context(), all, nil, func(repository.Result) error { return nil }); err != nil || len(result.Failed) > 0 {
		t.Fatal(err, result.Failed)
	}
	if report := h.sound(); report.Deltas != 2 {
		t.Errorf("%+v", report)
	}
	source := h.copyOf()
	for _, delta := range all {
		files, err := filepath.Glob(h.path(delta.Name.Dir()) + "/*")
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, file := range files {
			for _, damage := range damages[:5] {
				damage.do(t, file, "")
				if report, problems := h.check(upkeep.CheckOptions{}); report.Sound() {
					t.Errorf("%s: %s: %+v", file, damage.name, problems)
				}
				if report, problems := h.check(upkeep.CheckOptions{Repair: []upkeep.Source{source}}); !report.Sound() || report.Repaired == 0 {
					t.Errorf("%s: %s: %+v", file, damage.name, problems)
				}
			}
		}
	}
	h.sound()
}

// delta has ostree make a static delta.
func (h *hub) delta(name ostree.DeltaName) repository.NewDelta {
	h.Helper()
	scratch := filepath.Join(h.TempDir(), "scratch")
	if err := os.CopyFS(scratch, os.DirFS(h.dir)); err != nil {
		h.Fatal(err)
	}
	args := []string{"static-delta", "generate", "--repo=" + scratch, "--to=" + name.To.String(), "--min-fallback-size=0"}
	if name.FromScratch() {
		args = append(args, "--empty")
	} else {
		args = append(args, "--from="+name.From.String())
	}
	run(h, "ostree", args...)
	return repository.NewDelta{Name: name, Dir: filepath.Join(scratch, filepath.FromSlash(name.Dir()))}
}
