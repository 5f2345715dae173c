package upkeep_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"freshet/internal/hub/repository"
	"freshet/internal/hub/upkeep"
	"freshet/internal/ostree"
	"freshet/internal/ostree/ostreetest"
)

var strict = upkeep.Rules{{Ref: "*"}}

func (h *hub) prune(opt upkeep.PruneOptions) upkeep.Pruned {
	h.Helper()
	opt.Builds = h.builds
	pruned, err := upkeep.Prune(h.Context(), h.dir, opt)
	if err != nil {
		h.Fatal(err)
	}
	return pruned
}

func (h *hub) has(sum ostree.Checksum) bool {
	h.Helper()
	has, err := ostreetest.OpenDir(h, h.dir).Has(ostree.ObjectName{Checksum: sum, Type: ostree.TypeCommit})
	if err != nil {
		h.Fatal(err)
	}
	return has
}

// TestPrune: what the rules do not keep goes with all that only it needed, and
// nothing else; a rehearsal says the same before.
func TestPrune(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	var heads []ostree.Checksum
	for i := range 5 {
		h.publish("org.example.A", fmt.Sprint(i))
		head, _ := h.head(appRef("org.example.A"))
		heads = append(heads, head)
	}
	h.publish("org.example.B", "0")
	opt := upkeep.PruneOptions{Rules: upkeep.Rules{{Ref: "app/*.A/*", Depth: 1}, {Ref: "*", Depth: 9}}}
	opt.DryRun = true
	rehearsed := h.prune(opt)
	if h.sound().Orphans != 0 {
		t.Error("a rehearsal has changed something")
	}
	opt.DryRun = false
	pruned := h.prune(opt)
	if pruned.Removed == 0 || pruned.Bytes == 0 {
		t.Errorf("%+v", pruned)
	}
	if rehearsed.Removed == 0 {
		t.Errorf("rehearsed: %+v", rehearsed)
	}
	for i, head := range heads {
		if want := i >= 3; h.has(head) != want {
			t.Errorf("commit %d is there: %v", i, !want)
		}
	}
	if report := h.sound(); report.Orphans != 0 {
		t.Errorf("left behind: %+v", report)
	}
	if again := h.prune(opt); again.Removed != 0 || again.Counted != 0 {
		t.Errorf("nothing to do: %+v", again)
	}
	// From now on it costs what is new.
	h.publish("org.example.A", "5")
	opt.DryRun = true
	rehearsed = h.prune(opt)
	opt.DryRun = false
	pruned = h.prune(opt)
	if pruned.Removed < rehearsed.Removed || pruned.Bytes < rehearsed.Bytes || rehearsed.Removed == 0 {
		t.Errorf("rehearsed %+v, then %+v", rehearsed, pruned)
	}
	if pruned.Counted > 100 {
		t.Errorf("one publish is new: %+v", pruned)
	}
	h.sound()
}

// TestPruneAge: what was superseded, or removed, a short time ago stays.
func TestPruneAge(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	opt := upkeep.PruneOptions{Rules: upkeep.Rules{{Ref: "*", Age: 24 * time.Hour}}, Now: time.Now()}
	h.publish("org.example.A", "0")
	h.publish("org.example.B", "0")
	h.prune(opt)
	old, _ := h.head(appRef("org.example.A"))
	gone, _ := h.head(appRef("org.example.B"))
	h.publish("org.example.A", "1")
	h.change(repository.PublishRequest{Key: "unpublish", Remove: []string{appRef("org.example.B")}})
	h.prune(opt)
	opt.Now = opt.Now.Add(23 * time.Hour)
	if h.prune(opt); !h.has(old) || !h.has(gone) {
		t.Error("gone before its time")
	}
	opt.Now = opt.Now.Add(2 * time.Hour)
	if h.prune(opt); h.has(old) || h.has(gone) {
		t.Error("still there")
	}
	if report := h.sound(); report.Orphans != 0 {
		t.Errorf("%+v", report)
	}
}

// TestPruneGrace: objects stay a while after nothing needs them.
func TestPruneGrace(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	opt := upkeep.PruneOptions{Rules: strict, Grace: time.Hour, Now: time.Now()}
	h.publish("org.example.A", "0")
	old, _ := h.head(appRef("org.example.A"))
	h.publish("org.example.A", "1")
	if pruned := h.prune(opt); pruned.Removed != 0 || pruned.Waiting == 0 || !h.has(old) {
		t.Errorf("%+v", pruned)
	}
	// What is published again meanwhile stays for good.
	h.change(repository.PublishRequest{Key: "rollback", Refs: map[string]string{appRef("org.example.A"): old.String()}})
	opt.Now = opt.Now.Add(2 * time.Hour)
	if pruned := h.prune(opt); pruned.Removed == 0 || h.has(old) {
		t.Errorf("%+v", pruned)
	}
	h.sound()
}

// TestPruneBuilds: what a build relies on stays until it is published.
func TestPruneBuilds(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.publish("org.example.A", "0")
	build, refs := h.upload("org.example.A", "0") // it uploads the commit alone
	h.publish("org.example.A", "1")
	h.prune(upkeep.PruneOptions{Rules: strict})
	made, err := build.Commit(t.Context(), repository.CommitRequest{Refs: refs}, nil)
	if err != nil {
		t.Fatal(err)
	}
	h.prune(upkeep.PruneOptions{Rules: strict})
	h.change(repository.PublishRequest{Key: "late", Build: build, Refs: made})
	h.sound()
}

// TestPruneOrphans: the first prune and full ones find what nothing ever needed.
func TestPruneOrphans(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.publish("org.example.A", "0")
	orphan := h.path("objects/00/" + ostree.ChecksumOf([]byte("x")).String()[2:] + ".filez")
	for _, full := range []bool{false, true} {
		if err := os.MkdirAll(h.path("objects/00"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(orphan, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if pruned := h.prune(upkeep.PruneOptions{Full: full}); pruned.Removed != 1 {
			t.Errorf("full %v: %+v", full, pruned)
		}
	}
	h.sound()
}

// TestPruneDamaged: where it is not known what is needed, nothing goes.
func TestPruneDamaged(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.publish("org.example.A", "0")
	h.publish("org.example.A", "1")
	source := h.copyOf()
	_, commit := h.head(appRef("org.example.A"))
	write(t, h.path(ostree.ObjectName{Checksum: commit.Tree, Type: ostree.TypeDirTree}.Path()), nil)
	before := len(h.objects(ostree.TypeFile))
	if pruned, err := upkeep.Prune(t.Context(), h.dir, upkeep.PruneOptions{Rules: strict}); err == nil || pruned.Removed > 0 {
		t.Errorf("%+v %v", pruned, err)
	}
	if after := len(h.objects(ostree.TypeFile)); after != before {
		t.Errorf("%d of %d files are left", after, before)
	}
	if report, problems := h.check(upkeep.CheckOptions{Repair: []upkeep.Source{source}}); !report.Sound() {
		t.Fatalf("%+v", problems)
	}
	h.prune(upkeep.PruneOptions{Rules: strict})
	if report := h.sound(); report.Orphans != 0 {
		t.Errorf("%+v", report)
	}
}

// TestPruneRandomly does what a hub does in any order; all of it stays sound, and
// with neither depth nor age nothing is left that nothing needs.
func TestPruneRandomly(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	ids := []string{"org.example.A", "org.example.B", "org.example.C"}
	published := map[string][]ostree.Checksum{}
	for step := range 40 {
		id := ids[random.IntN(len(ids))]
		ref := appRef(id)
		switch n := random.IntN(10); {
		case n < 4:
			h.publish(id, fmt.Sprint(random.IntN(5)))
			head, _ := h.head(ref)
			published[ref] = append(published[ref], head)
		case n < 6 && len(published[ref]) > 0:
			// Whatever was not pruned can be published again.
			i := slices.IndexFunc(published[ref], h.has)
			if i >= 0 {
				h.change(repository.PublishRequest{Key: "rollback", Refs: map[string]string{ref: published[ref][i].String()}})
			}
		case n == 6:
			if _, err := ostreetest.OpenDir(t, h.dir).ResolveRef(ref); err == nil {
				h.prune(upkeep.PruneOptions{Rules: upkeep.Rules{{Ref: "*", Depth: 9}}}) // what nobody has seen is left to full prunes
				h.change(repository.PublishRequest{Key: "unpublish", Remove: []string{ref}})
			}
		default:
			h.prune(upkeep.PruneOptions{Rules: upkeep.Rules{{Ref: "*", Depth: random.IntN(3)}}, Full: random.IntN(4) == 0})
		}
		if step%8 == 0 {
			h.sound()
		}
	}
	h.prune(upkeep.PruneOptions{Rules: strict})
	if report := h.sound(); report.Orphans != 0 || report.Commits != report.Refs {
		t.Errorf("%+v", report)
	}
}

// killedPrune is set in the process that TestPruneKill kills.
const killedPrune = "FRESHET_KILLED_PRUNE"

// TestPruneKill kills a prune at any moment, also again and again.
func TestPruneKill(t *testing.T) {
	if dir := os.Getenv(killedPrune); dir != "" {
		_, err := upkeep.Prune(t.Context(), dir, upkeep.PruneOptions{Rules: strict})
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Parallel()
	h := newHub(t)
	for i := range 30 {
		for v := range 3 {
			h.publish(fmt.Sprint("org.example.A", i), fmt.Sprint(v))
		}
		if i%3 != 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(150))*time.Millisecond)
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestPruneKill$")
		cmd.Env = append(os.Environ(), killedPrune+"="+h.dir)
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := cmd.Run(); err != nil && ctx.Err() == nil {
			t.Fatalf("%v\n%s", err, out.Bytes())
		}
		cancel()
		h.sound()
	}
	h.prune(upkeep.PruneOptions{Rules: strict, Full: true})
	if report := h.sound(); report.Orphans != 0 || report.Commits != report.Refs {
		t.Errorf("%+v", report)
	}
}

// TestPruneBesidePublishes: nobody loses what he publishes.
func TestPruneBesidePublishes(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		var err error
		for ctx.Err() == nil && err == nil {
			_, err = upkeep.Prune(context.WithoutCancel(ctx), h.dir, upkeep.PruneOptions{Rules: strict, Builds: h.builds, Grace: time.Second})
		}
		ended <- err
	}()
	for i := range 25 {
		h.publish("org.example.A", fmt.Sprint(i))
		h.publish("org.example.B", fmt.Sprint(i))
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	h.sound()
}

// What somebody needs for now stays, and goes when it is not needed any more.
func TestPruneKeepsWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	var heads []ostree.Checksum
	for i := range 3 {
		h.publish("org.example.A", fmt.Sprint(i))
		head, _ := h.head(appRef("org.example.A"))
		heads = append(heads, head)
	}
	h.prune(upkeep.PruneOptions{Rules: strict, Keep: func() []ostree.Checksum { return heads[:1] }})
	if !h.has(heads[0]) || h.has(heads[1]) || !h.has(heads[2]) {
		t.Errorf("kept: %v %v %v", h.has(heads[0]), h.has(heads[1]), h.has(heads[2]))
	}
	h.publish("org.example.A", "3") // the second prune knows the commits
	h.prune(upkeep.PruneOptions{Rules: strict, Keep: func() []ostree.Checksum { return heads[:1] }})
	if !h.has(heads[0]) {
		t.Error("not kept by the second prune")
	}
	h.sound()
	h.prune(upkeep.PruneOptions{Rules: strict})
	if h.has(heads[0]) {
		t.Error("kept for ever")
	}
}
