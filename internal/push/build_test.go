package push_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"freshet/api/hubapi"
	"freshet/internal/ostree"
	"freshet/internal/push"
)

// localRepo is an archive repository in a temporary folder.
type localRepo struct {
	t   *testing.T
	dir string
}

func newRepo(t *testing.T) *localRepo {
	t.Helper()
	r := &localRepo{t: t, dir: filepath.Join(t.TempDir(), "repo")}
	r.write("config", "[core]\nrepo_version=1\nmode=archive-z2\n")
	if err := os.Mkdir(filepath.Join(r.dir, "objects"), 0o755); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *localRepo) write(name, text string) {
	r.t.Helper()
	path := filepath.Join(r.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

func (r *localRepo) Has(name ostree.ObjectName) (bool, error) {
	_, err := os.Stat(filepath.Join(r.dir, name.Path()))
	return err == nil, nil
}

func (r *localRepo) Put(name ostree.ObjectName, write func(io.Writer) error) error {
	var b strings.Builder
	if err := write(&b); err != nil {
		return err
	}
	r.write(name.Path(), b.String())
	return nil
}

// commit sets a ref to a commit of the files.
func (r *localRepo) commit(ref string, files map[string]string) ostree.Checksum {
	r.t.Helper()
	var tree ostree.Tree
	for path, content := range files {
		sum, err := ostree.WriteBytes(r, []byte(content), false)
		if err != nil {
			r.t.Fatal(err)
		}
		if dir := filepath.Dir(path); dir != "." {
			if _, err := tree.MakeDir(dir); err != nil {
				r.t.Fatal(err)
			}
		}
		if err := tree.SetFile(path, sum); err != nil {
			r.t.Fatal(err)
		}
	}
	root, meta, err := tree.Write(r)
	if err != nil {
		r.t.Fatal(err)
	}
	sum, err := ostree.WriteCommit(r, &ostree.Commit{Subject: ref, Tree: root, TreeMeta: meta})
	if err != nil {
		r.t.Fatal(err)
	}
	r.write(ostree.RefPath(ref), sum.String()+"\n")
	return sum
}

// delta adds something that looks like a static delta to the commit.
func (r *localRepo) delta(name ostree.DeltaName, parts int) {
	for i := range parts {
		r.write(name.PartPath(i), fmt.Sprintf("part %d of %s", i, name))
	}
	r.write(name.SuperblockPath(), "superblock of "+name.String())
}

const (
	appRef     = "app/org.example.App/x86_64/stable"
	runtimeRef = "runtime/org.example.Platform/x86_64/24"
)

func sampleRepo(t *testing.T) *localRepo {
	t.Helper()
	r := newRepo(t)
	app := map[string]string{"metadata": "[Application]\nname=org.example.App\n"}
	for i := range 30 {
		app[fmt.Sprintf("files/share/%d/text", i)] = strings.Repeat(fmt.Sprintf("line %d\n", i), 50*i+1)
	}
	r.commit(appRef, app)
	r.commit(runtimeRef, map[string]string{"metadata": "[Runtime]\n", "files/lib/libc": strings.Repeat("libc", 10000)})
	r.commit("ostree-metadata", map[string]string{"x": "never pushed"})
	r.commit("appstream/x86_64", map[string]string{"y": "never pushed"})
	return r
}

// record is a Progress that remembers.
type record struct {
	mu    sync.Mutex
	lines []string
	steps []string
	done  int64
	total int64
	short bool // a step ended before its total
}

func (p *record) Start(step string, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steps = append(p.steps, step)
	p.done, p.total = 0, total
}

func (p *record) Set(done int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = done
}

func (p *record) Finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.short = p.short || p.done != p.total
}

func (p *record) Line(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines = append(p.lines, text)
}

func (p *record) has(text string) bool {
	return slices.ContainsFunc(p.lines, func(line string) bool { return strings.Contains(line, text) })
}

func TestPushRepository(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, h, p := sampleRepo(t), newHub(t), &record{}
		h.checks = []hubapi.Check{{CheckName: "lint"}}
		name := ostree.DeltaName{To: r.commit(appRef, map[string]string{"metadata": "v1", "files/a": "a"})}
		r.delta(name, 3)
		r.delta(ostree.DeltaName{From: ostree.ChecksumOf([]byte("old")), To: name.To}, 1)
		r.delta(ostree.DeltaName{To: ostree.ChecksumOf([]byte("other"))}, 1)
		client := h.client()
		cfg := push.Config{
			Client: client, Dir: r.dir, Name: "stable", Progress: p, AppID: "org.example.App",
			ExtraIDs: []string{"org.example.Extra"}, BatchBytes: 4096, Commit: hubapi.CommitRequest{EndOfLife: new("old")},
		}
		result, err := push.Run(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		b := h.builds[0]
		if len(h.builds) != 1 || b.PublishedState != hubapi.Published || *b.AppID != "org.example.App" || *b.commit.EndOfLife != "old" ||
			!slices.Equal(b.ExtraIDs, []string{"org.example.Extra"}) {
			t.Errorf("build %+v", b)
		}
		if len(b.refs) != 2 || b.refs[appRef] != name.To.String() || b.refs[runtimeRef] == "" {
			t.Errorf("refs %v", b.refs)
		}
		if result.Serial != 42 || result.Kind != push.OSTree || result.Build.PublishedState != hubapi.Published ||
			result.Published[appRef] != b.refs[appRef] || result.Sent != result.Total ||
			result.Sent.Files != len(b.objects) || result.Sent.Bytes != h.bytes {
			t.Errorf("result %+v, hub has %d objects of %d bytes", result, len(b.objects), h.bytes)
		}
		deltas := 0
		for name := range b.objects {
			if strings.HasSuffix(name, ".delta") {
				deltas++
			}
		}
		if deltas != 4+2 {
			t.Errorf("%d files of deltas", deltas)
		}
		if len(h.resent) > 0 || p.short {
			t.Errorf("sent twice %v; steps short %v", h.resent, p.short)
		}
		for _, text := range []string{"  first line", "  second: ünï", "  unfinished", "build 1", "waiting for 1 check"} {
			if !p.has(text) {
				t.Errorf("no line with %q in %q", text, p.lines)
			}
		}
		logs := slices.DeleteFunc(slices.Clone(p.lines), func(line string) bool { return !strings.HasPrefix(line, "  ") })
		want := strings.Split("  "+strings.ReplaceAll(jobLog, "\n", "\n  "), "\n")
		if !slices.Equal(logs, append(want, want...)) { // of the commit and of the publish
			t.Errorf("logs %q", logs)
		}
		if p.has("t0ken") {
			t.Error("the token is shown")
		}
		if left, _ := filepath.Glob(r.dir + ".*"); len(left) > 0 {
			t.Errorf("left %v", left)
		}

		// The next push sends only what is new.
		h.checks = nil
		cfg.NoDeltas = true
		r.commit(appRef, map[string]string{"metadata": "v2", "files/a": "a"})
		result, err = push.Run(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		// Commit, root dirtree, metadata file.
		if result.Sent.Files != 3 || len(h.resent) > 0 || result.Build.ID != 2 {
			t.Errorf("second push: %+v, twice %v", result, h.resent)
		}
	})
}

func TestPushChosenRefs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, h := sampleRepo(t), newHub(t)
		cfg := push.Config{Client: h.client(), Dir: r.dir, Name: "stable", Refs: []string{runtimeRef}, Until: push.Committed}
		if _, err := push.Run(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		if b := h.builds[0]; len(b.refs) != 1 || b.RepoState != hubapi.RepoReady || b.PublishedState != hubapi.Unpublished {
			t.Errorf("%+v", b)
		}
		cfg.Refs = []string{"app/org.example.None/x86_64/stable"}
		if _, err := push.Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), cfg.Refs[0]) {
			t.Errorf("error %v", err)
		}
	})
}

// Every request of a push fails in every way once, and the push succeeds.
func TestPushRepositoryTroubles(t *testing.T) {
	for name, tr := range map[string]trouble{
		"500":          {status: 500},
		"503 and wait": {status: 503, retryAfter: 7},
		"504":          {status: 504},
		"cut before":   {cutBefore: true},
		"cut after":    {cutAfter: true},
	} {
		for _, nth := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s at %d", name, nth), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r, h, p := sampleRepo(t), newHub(t), &record{}
					h.trouble = func(n int, _ *http.Request) trouble {
						if n == nth {
							return tr
						}
						return trouble{}
					}
					cfg := push.Config{Client: h.client(), Dir: r.dir, Name: "stable", Progress: p, BatchBytes: 4096}
					if _, err := push.Run(t.Context(), cfg); err != nil {
						t.Fatal(err)
					}
					if b := h.builds[len(h.builds)-1]; b.PublishedState != hubapi.Published {
						t.Errorf("build %+v", b.Build)
					}
					if !p.has("trying again in") || p.short {
						t.Errorf("lines %q, short %v", p.lines, p.short)
					}
				})
			})
		}
	}
}

// Parts that the hub loses without a word are sent again.
func TestPushDroppedParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, h, p := sampleRepo(t), newHub(t), &record{}
		r.delta(ostree.DeltaName{To: mustRef(t, r, appRef)}, 4)
		h.trouble = func(n int, _ *http.Request) trouble {
			if n%2 == 1 {
				return trouble{drop: 2}
			}
			return trouble{}
		}
		result, err := push.Run(t.Context(), push.Config{Client: h.client(), Dir: r.dir, Name: "stable", Progress: p, BatchBytes: 8192, Parallel: 1})
		if err != nil {
			t.Fatal(err)
		}
		if result.Sent.Files != result.Total.Files || !p.has("still lacks") {
			t.Errorf("%+v %q", result, p.lines)
		}
	})
}

func mustRef(t *testing.T, r *localRepo, ref string) ostree.Checksum {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(r.dir, ostree.RefPath(ref)))
	if err != nil {
		t.Fatal(err)
	}
	sum, err := ostree.ParseRefFile(data)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// A hub that never has what it is sent does not keep the push for ever.
func TestPushNeverStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, h := sampleRepo(t), newHub(t)
		h.keepUnsent = true
		_, err := push.Run(t.Context(), push.Config{Client: h.client(), Dir: r.dir, Name: "stable"})
		if err == nil || !strings.Contains(err.Error(), "still lacks") {
			t.Errorf("error %v", err)
		}
	})
}

// What arrived wrong once is sent again; what is wrong here is named.
func TestPushRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, h := sampleRepo(t), newHub(t)
		h.trouble = func(n int, _ *http.Request) trouble { return trouble{corrupt: n == 2} }
		cfg := push.Config{Client: h.client(), Dir: r.dir, Name: "stable", BatchBytes: 8192, Until: push.Uploaded}
		if _, err := push.Run(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r, h := sampleRepo(t), newHub(t)
		sum, err := ostree.WriteBytes(r, []byte("[Runtime]\n"), false)
		if err != nil {
			t.Fatal(err)
		}
		bad := ostree.ObjectName{Checksum: sum, Type: ostree.TypeFile}
		r.write(bad.Path(), "nonsense")
		_, err = push.Run(t.Context(), push.Config{Client: h.client(), Dir: r.dir, Name: "stable"})
		if err == nil || !strings.Contains(err.Error(), bad.String()) {
			t.Errorf("error %v", err)
		}
		if h.asked["POST build commit"] != 0 {
			t.Error("committed")
		}
	})
}

// Damage that can be seen here is found before anything is sent.
func TestPushDamagedRepository(t *testing.T) {
	for name, damage := range map[string]func(r *localRepo){
		"commit gone": func(r *localRepo) {
			_ = os.Remove(filepath.Join(r.dir, ostree.ObjectName{Checksum: mustRef(r.t, r, appRef), Type: ostree.TypeCommit}.Path()))
		},
		"commit changed": func(r *localRepo) {
			r.write(ostree.ObjectName{Checksum: mustRef(r.t, r, appRef), Type: ostree.TypeCommit}.Path(), "x")
		},
		"ref is nonsense": func(r *localRepo) { r.write(ostree.RefPath(appRef), "nonsense") },
		"bare":            func(r *localRepo) { r.write("config", "[core]\nrepo_version=1\nmode=bare-user\n") },
		"file gone": func(r *localRepo) {
			sum, _ := ostree.WriteBytes(r, []byte("[Runtime]\n"), false)
			_ = os.Remove(filepath.Join(r.dir, ostree.ObjectName{Checksum: sum, Type: ostree.TypeFile}.Path()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, h := sampleRepo(t), newHub(t)
				damage(r)
				if _, err := push.Run(t.Context(), push.Config{Client: h.client(), Dir: r.dir, Name: "stable"}); err == nil {
					t.Error("no error")
				}
				for kind := range h.asked {
					if strings.Contains(kind, "upload") {
						t.Errorf("asked %v", h.asked)
					}
				}
			})
		})
	}
}

// A push that is stopped goes on with the same build, and with what is
// missing.
func TestPushResumes(t *testing.T) {
	for name, stopAt := range map[string]string{
		"during upload":  "POST build upload",
		"before refs":    "POST build build_ref",
		"before commit":  "POST build commit",
		"during commit":  "GET build commit",
		"before publish": "POST build publish",
		"during publish": "GET build publish",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, h, p := sampleRepo(t), newHub(t), &record{}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				h.trouble = func(n int, r *http.Request) trouble {
					if kindOf(r) == stopAt && n == 2 || kindOf(r) == stopAt && !strings.Contains(stopAt, "upload") {
						cancel()
						return trouble{cutBefore: n == 1}
					}
					return trouble{}
				}
				cfg := push.Config{Client: h.client(), Dir: r.dir, Name: "stable", Progress: p, BatchBytes: 8192, Parallel: 1}
				if _, err := push.Run(ctx, cfg); !errors.Is(err, context.Canceled) {
					t.Fatalf("error %v", err)
				}
				h.mu.Lock()
				h.trouble = nil
				h.mu.Unlock()
				settle()
				had := len(h.builds[0].objects)
				if had == 0 {
					t.Error("nothing was stored before the stop")
				}
				result, err := push.Run(t.Context(), cfg)
				if err != nil {
					t.Fatal(err)
				}
				// Nothing is looked at again when the upload was over.
				if len(h.builds) != 1 || h.builds[0].PublishedState != hubapi.Published || result.Sent.Files > max(0, result.Total.Files-had) {
					t.Errorf("%d builds, had %d, %+v", len(h.builds), had, result)
				}
				if len(h.resent) > 0 || !p.has("going on with build 1") {
					t.Errorf("twice %v, lines %q", h.resent, p.lines)
				}
			})
		})
	}
}

// A build that cannot be gone on with is left alone.
func TestPushDoesNotResume(t *testing.T) {
	for name, change := range map[string]func(r *localRepo, h *fakeHub, cfg *push.Config){
		"purged":           func(_ *localRepo, h *fakeHub, _ *push.Config) { h.builds[0].RepoState = hubapi.RepoPurged },
		"failed":           func(_ *localRepo, h *fakeHub, _ *push.Config) { h.builds[0].RepoState = hubapi.RepoFailed },
		"other repository": func(_ *localRepo, _ *fakeHub, cfg *push.Config) { cfg.Name = "beta" },
		"ref dropped":      func(_ *localRepo, _ *fakeHub, cfg *push.Config) { cfg.Refs = []string{appRef} },
		"ready with old commit": func(r *localRepo, h *fakeHub, _ *push.Config) {
			h.builds[0].RepoState = hubapi.RepoReady
			r.commit(appRef, map[string]string{"new": "x"})
		},
		"state file torn": func(r *localRepo, _ *fakeHub, _ *push.Config) {
			if err := os.WriteFile(r.dir+".push.json", []byte(`{"hub"`), 0o600); err != nil {
				r.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, h := sampleRepo(t), newHub(t)
				cfg := push.Config{Client: h.client(), Dir: r.dir, Name: "stable", Until: push.Uploaded}
				if _, err := push.Run(t.Context(), cfg); err != nil {
					t.Fatal(err)
				}
				cfg.Until = push.Published
				change(r, h, &cfg)
				result, err := push.Run(t.Context(), cfg)
				if err != nil || result.Build.ID != 2 {
					t.Errorf("build %d: %v", result.Build.ID, err)
				}
			})
		})
	}
}

func TestPushGivenBuild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, h := sampleRepo(t), newHub(t)
		client := h.client()
		b, err := client.CreateBuild(t.Context(), hubapi.CreateBuildRequest{Repo: "stable"})
		if err != nil {
			t.Fatal(err)
		}
		cfg := push.Config{Client: client, Dir: r.dir, Name: "stable", Build: b.ID, DryRun: true, StateFile: "-"}
		dry, err := push.Run(t.Context(), cfg)
		if err != nil || dry.Sent != dry.Total || dry.Sent.Files == 0 || h.bytes != 0 {
			t.Errorf("dry run: %+v %v", dry, err)
		}
		cfg.DryRun = false
		result, err := push.Run(t.Context(), cfg)
		if err != nil || result.Build.ID != b.ID || len(h.builds) != 1 || result.Sent != dry.Sent {
			t.Errorf("%+v %v", result, err)
		}
		cfg.DryRun = true
		if dry, err = push.Run(t.Context(), cfg); err != nil || dry.Sent.Files != 0 {
			t.Errorf("second dry run: %+v %v", dry, err)
		}
		cfg.DryRun = false
		h.builds[0].RepoState = hubapi.RepoFailed
		if _, err := push.Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "failed") {
			t.Errorf("failed build: %v", err)
		}
		cfg.Name = "beta"
		if _, err := push.Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "beta") {
			t.Errorf("build of another repository: %v", err)
		}
	})
}

func TestPushBrokenJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, h := sampleRepo(t), newHub(t)
		h.breakJob = "metadata is not of this app"
		_, err := push.Run(t.Context(), push.Config{Client: h.client(), Dir: r.dir, Name: "stable"})
		if err == nil || !strings.Contains(err.Error(), h.breakJob) || h.asked["POST build publish"] != 0 {
			t.Errorf("error %v", err)
		}
	})
}

// A dry run asks the hub, and leaves no build behind.
func TestDryRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, h, p := sampleRepo(t), newHub(t), &record{}
		r.delta(ostree.DeltaName{To: mustRef(t, r, appRef)}, 1)
		cfg := push.Config{Client: h.client(), Dir: r.dir, Name: "stable", DryRun: true, Progress: p}
		result, err := push.Run(t.Context(), cfg)
		if err != nil || result.Sent != result.Total || result.Sent.Files < 70 || h.bytes != 0 {
			t.Errorf("%+v %v", result, err)
		}
		if len(h.builds) != 1 || h.builds[0].RepoState != hubapi.RepoPurged {
			t.Errorf("builds %+v", h.builds)
		}
		if !p.has("2 refs, objects: ") || !p.has("static deltas: 2 files") || p.has("build 1") {
			t.Errorf("lines %q", p.lines)
		}
		if left, _ := filepath.Glob(r.dir + ".*"); len(left) > 0 {
			t.Errorf("left %v", left)
		}

		// What is published there does not count.
		cfg.DryRun = false
		if _, err := push.Run(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		r.commit(appRef, map[string]string{"metadata": "[Application]\nname=org.example.App\n"})
		cfg.DryRun, cfg.Refs = true, []string{appRef}
		result, err = push.Run(t.Context(), cfg)
		if err != nil || result.Sent.Files != 2 { // commit and root
			t.Errorf("%+v %v", result, err)
		}
		if !p.has("1 ref, objects: ") {
			t.Errorf("lines %q", p.lines)
		}

		// An unfinished push is asked, and stays.
		cfg.DryRun, cfg.Until = false, push.Uploaded
		if _, err := push.Run(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		cfg.DryRun, cfg.Until = true, push.Published
		n := len(h.builds)
		result, err = push.Run(t.Context(), cfg)
		if err != nil || result.Sent.Files != 0 || len(h.builds) != n || h.builds[n-1].RepoState != hubapi.RepoUploading {
			t.Errorf("%+v %v, %d builds", result, err, len(h.builds))
		}
	})
}

// A dry run that is stopped takes its build away too.
func TestDryRunStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, h := sampleRepo(t), newHub(t)
		ctx, cancel := context.WithCancel(t.Context())
		h.trouble = func(_ int, r *http.Request) trouble {
			if kindOf(r) == "GET build missing_objects" {
				cancel()
				return trouble{status: 500}
			}
			return trouble{}
		}
		_, err := push.Run(ctx, push.Config{Client: h.client(), Dir: r.dir, Name: "stable", DryRun: true})
		settle()
		if !errors.Is(err, context.Canceled) || h.builds[0].RepoState != hubapi.RepoPurged {
			t.Errorf("%v, build %+v", err, h.builds[0].Build)
		}
	})
}
