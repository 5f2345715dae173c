package push_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/push"
)

func writeTree(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func sampleTree(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	files := map[string]string{
		"repodata/repomd.xml": "<repomd/>", "README": "hello", "copy/README": "hello", "empty": "",
		".hidden": "h", "name with spaces+ü~^": "x",
	}
	for i := range 20 {
		files[fmt.Sprintf("pool/%02d.rpm", i)] = strings.Repeat(fmt.Sprintf("%d,", i), 700)
	}
	writeTree(t, dir, files)
	for link, target := range map[string]string{"latest": "pool/19.rpm", "pool/up": "../README", "copy/dir": "../pool"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "empty dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (h *fakeHub) checkTree(t *testing.T, p *fakePush, dir string) {
	t.Helper()
	if !p.published {
		t.Error("not published")
	}
	got := map[string]string{}
	for _, f := range p.files {
		if f.Link != "" {
			got[f.Path] = "-> " + f.Link
			continue
		}
		data := h.blobs[f.SHA256]
		if int64(len(data)) != f.Size {
			t.Errorf("%s: size %d of %d bytes", f.Path, f.Size, len(data))
		}
		if info, err := os.Stat(filepath.Join(dir, f.Path)); err != nil || info.ModTime().Unix() != f.ModTime {
			t.Errorf("%s: mtime %d: %v", f.Path, f.ModTime, err)
		}
		got[f.Path] = string(data)
	}
	n := 0
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n++
		rel, _ := filepath.Rel(dir, path)
		var want string
		if d.Type()&os.ModeSymlink != 0 {
			target, _ := os.Readlink(path)
			want = "-> " + target
		} else {
			data, _ := os.ReadFile(path)
			want = string(data)
		}
		if got[rel] != want {
			t.Errorf("%s: hub has %.20q, want %.20q", rel, got[rel], want)
		}
		return nil
	})
	if err != nil || n != len(got) {
		t.Errorf("%d files here, %d there: %v", n, len(got), err)
	}
}

func TestPushTree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, h, p := sampleTree(t), newHub(t), &record{}
		cfg := push.Config{Client: h.client(), Dir: dir, Name: "rpms", Progress: p, BatchBytes: 4096}
		result, err := push.Run(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		h.checkTree(t, h.pushes[0], dir)
		if result.Kind != push.Tree || result.Generation.ID != 1 || result.Serial != 17 ||
			result.Total.Files != 29 || result.Sent.Files != 25 || result.Sent.Bytes != h.bytes {
			t.Errorf("%+v", result)
		}
		if len(h.resent) > 0 || p.short || !slices.Equal(p.steps, []string{"hashing", "uploading"}) {
			t.Errorf("twice %v, short %v, steps %q", h.resent, p.short, p.steps)
		}
		writeTree(t, dir, map[string]string{"repodata/repomd.xml": "<repomd>2</repomd>"})
		if result, err = push.Run(t.Context(), cfg); err != nil || result.Sent.Files != 1 || result.Generation.ID != 2 {
			t.Errorf("second push: %+v %v", result, err)
		}
		h.checkTree(t, h.pushes[1], dir)
	})
}

func TestPushTreeTroubles(t *testing.T) {
	for name, tr := range map[string]trouble{
		"500":          {status: 500},
		"503 and wait": {status: 503, retryAfter: 7},
		"cut before":   {cutBefore: true},
		"cut after":    {cutAfter: true},
		"dropped":      {drop: 3},
		"corrupt":      {corrupt: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir, h := sampleTree(t), newHub(t)
				h.trouble = func(n int, _ *http.Request) trouble {
					if n == 1 {
						return tr
					}
					return trouble{}
				}
				cfg := push.Config{Client: h.client(), Dir: dir, Name: "rpms", BatchBytes: 4096}
				if _, err := push.Run(t.Context(), cfg); err != nil {
					t.Fatal(err)
				}
				h.checkTree(t, h.pushes[len(h.pushes)-1], dir)
			})
		})
	}
}

func TestPushTreeRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(dir string) error
		path  string
	}{
		"link outside":          {func(d string) error { return os.Symlink("../../etc", d+"/pool/bad") }, "pool/bad"},
		"absolute link":         {func(d string) error { return os.Symlink("/etc/passwd", d+"/abs") }, "abs"},
		"climbs after descent":  {func(d string) error { return os.Symlink("pool/../../x", d+"/bad") }, "bad"},
		"pipe":                  {func(d string) error { return syscall.Mkfifo(d+"/fifo", 0o644) }, "fifo"},
		"name is not UTF-8":     {func(d string) error { return os.WriteFile(d+"/a\xff", nil, 0o644) }, `a\xff`},
		"name with a line end":  {func(d string) error { return os.WriteFile(d+"/a\nb", nil, 0o644) }, `a\nb`},
		"nothing there":         {os.RemoveAll, "no such file"},
		"nothing but a folder ": {func(d string) error { return errors.Join(os.RemoveAll(d), os.MkdirAll(d+"/x/y", 0o755)) }, "no file"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir, h := sampleTree(t), newHub(t)
				if err := test.spoil(dir); err != nil {
					t.Fatal(err)
				}
				_, err := push.Run(t.Context(), push.Config{Client: h.client(), Dir: dir, Kind: push.Tree, Name: "rpms"})
				if err == nil || !strings.Contains(err.Error(), test.path) || len(h.pushes) != 0 {
					t.Errorf("error %v, asked %v", err, h.asked)
				}
			})
		})
	}
}

// A file that changes between hashing and sending is hashed again; one that
// never holds still is named.
func TestPushTreeChangingFile(t *testing.T) {
	for name, test := range map[string]struct {
		change func(path string, n int) error
		good   bool
	}{
		"same size once": {func(path string, n int) error {
			if n > 1 {
				return nil
			}
			return os.WriteFile(path, []byte("HELLO"), 0o644)
		}, true},
		"longer once": {func(path string, n int) error {
			if n > 1 {
				return nil
			}
			return os.WriteFile(path, []byte("hello hello"), 0o644)
		}, true},
		"shorter once": {func(path string, n int) error {
			if n > 1 {
				return nil
			}
			return os.WriteFile(path, []byte("h"), 0o644)
		}, true},
		"always": {func(path string, n int) error {
			return os.WriteFile(path, fmt.Appendf(nil, "version %d", n), 0o644)
		}, false},
		"gone": {func(path string, _ int) error {
			if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
				return err
			}
			return nil
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir, h := filepath.Join(t.TempDir(), "tree"), newHub(t)
				writeTree(t, dir, map[string]string{"a": "first", "m": "hello", "z": "last"})
				n := 0
				h.onPush = func() {
					n++
					if err := test.change(filepath.Join(dir, "m"), n); err != nil {
						t.Error(err)
					}
				}
				cfg := push.Config{Client: h.client(), Dir: dir, Name: "rpms", BatchBytes: 1, Parallel: 1, CacheDir: t.TempDir()}
				_, err := push.Run(t.Context(), cfg)
				if (err == nil) != test.good {
					t.Fatalf("error %v", err)
				}
				if err != nil {
					if !strings.Contains(err.Error(), " m: ") {
						t.Errorf("error %v", err)
					}
					for _, p := range h.pushes {
						if p.published {
							t.Error("published")
						}
					}
					return
				}
				h.checkTree(t, h.pushes[1], dir)
				if !h.pushes[0].cancelled {
					t.Error("the first push is left on the hub")
				}
			})
		})
	}
}

// A stopped push of a directory goes on where it was.
func TestPushTreeResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, h, p := sampleTree(t), newHub(t), &record{}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		h.trouble = func(n int, r *http.Request) trouble {
			if kindOf(r) == "POST tree rpms push p1 upload" && n == 3 {
				cancel()
			}
			return trouble{}
		}
		cfg := push.Config{Client: h.client(), Dir: dir, Name: "rpms", Progress: p, BatchBytes: 4096, Parallel: 1, CacheDir: t.TempDir()}
		if _, err := push.Run(ctx, cfg); !errors.Is(err, context.Canceled) {
			t.Fatalf("error %v", err)
		}
		settle()
		had := len(h.blobs)
		if had == 0 {
			t.Error("nothing stored before the stop")
		}
		result, err := push.Run(t.Context(), cfg)
		if err != nil || len(h.pushes) != 1 || result.Sent.Files != 25-had || len(h.resent) > 0 {
			t.Errorf("%d pushes, had %d, %+v, %v, twice %v", len(h.pushes), had, result.Sent, err, h.resent)
		}
		h.checkTree(t, h.pushes[0], dir)
	})
}

// What was pushed last is not pushed again, as long as it is what the tree
// holds.
func TestPushTreeUnchanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, h := sampleTree(t), newHub(t)
		cfg := push.Config{Client: h.client(), Dir: dir, Name: "rpms", CacheDir: t.TempDir()}
		run := func(generation int64, unchanged bool) {
			t.Helper()
			result, err := push.Run(t.Context(), cfg)
			if err != nil || result.Generation.ID != generation || result.Unchanged != unchanged || result.Total.Files == 0 {
				t.Errorf("%+v %v", result, err)
			}
		}
		run(1, false)
		run(1, true)
		cfg.DryRun = true
		run(1, true)
		cfg.DryRun = false

		other := push.Config{Client: cfg.Client, Dir: sampleTree(t), Name: "rpms"}
		writeTree(t, other.Dir, map[string]string{"README": "of somebody else"})
		if _, err := push.Run(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		run(3, false)
		writeTree(t, dir, map[string]string{"README": "other"})
		run(4, false)
		run(4, true)
		if len(h.pushes) != 4 {
			t.Errorf("%d pushes", len(h.pushes))
		}

		// A hub that was set up anew has another generation 4.
		h.gens[3].Created.Time = h.gens[3].Created.Add(time.Hour)
		run(5, false)
	})
}

// The answer to the publish is lost, and the push stopped: the next one finds
// that it was published.
func TestPushTreeLostPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, h := sampleTree(t), newHub(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		h.trouble = func(_ int, r *http.Request) trouble {
			if kindOf(r) == "POST tree rpms push p1 publish" {
				return trouble{cutAfter: true}
			}
			return trouble{}
		}
		cfg := push.Config{Client: h.client(), Dir: dir, Name: "rpms", CacheDir: t.TempDir()}
		cfg.Client.Retrying = func(hubapi.Retry) { cancel() }
		_, err := push.Run(ctx, cfg)
		settle()
		if !errors.Is(err, context.Canceled) || !h.pushes[0].published {
			t.Fatalf("error %v", err)
		}
		h.mu.Lock()
		h.trouble = nil
		h.mu.Unlock()
		result, err := push.Run(t.Context(), cfg)
		if err != nil || len(h.pushes) != 1 || result.Generation.ID != 1 || result.Serial != 17 {
			t.Errorf("%d pushes, %+v, %v", len(h.pushes), result, err)
		}
	})
}

// A hub that publishes the same content as no new generation is believed.
func TestPushTreeHubSaysUnchanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, h := sampleTree(t), newHub(t)
		h.sameGeneration = true
		p := &record{}
		cfg := push.Config{Client: h.client(), Dir: dir, Name: "rpms", Progress: p} // remembers nothing
		for i := range 2 {
			result, err := push.Run(t.Context(), cfg)
			if err != nil || result.Generation.ID != 1 || result.Unchanged != (i == 1) || p.has("the hub notes: not all") != (i == 1) {
				t.Errorf("%+v %v", result, err)
			}
		}
	})
}

// A dry run does no harm to an unfinished push.
func TestPushTreeDryRunKeepsUnfinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, h := sampleTree(t), newHub(t)
		cfg := push.Config{Client: h.client(), Dir: dir, Name: "rpms", CacheDir: t.TempDir(), Until: push.Uploaded}
		if _, err := push.Run(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		cfg.Until, cfg.DryRun = push.Published, true
		if dry, err := push.Run(t.Context(), cfg); err != nil || dry.Sent.Files != 0 || h.pushes[0].cancelled {
			t.Errorf("dry run %+v: %v, cancelled %v", dry, err, h.pushes[0].cancelled)
		}
		cfg.DryRun = false
		if _, err := push.Run(t.Context(), cfg); err != nil || len(h.pushes) != 1 || !h.pushes[0].published {
			t.Errorf("%d pushes: %v", len(h.pushes), err)
		}
	})
}

// A push that the hub has forgotten is begun anew.
func TestPushTreeForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, h := sampleTree(t), newHub(t)
		cfg := push.Config{Client: h.client(), Dir: dir, Name: "rpms", CacheDir: t.TempDir(), Until: push.Uploaded}
		if _, err := push.Run(t.Context(), cfg); err != nil || h.pushes[0].published {
			t.Fatal(err)
		}
		h.pushes[0].cancelled = true
		cfg.Until = push.Published
		if _, err := push.Run(t.Context(), cfg); err != nil || !h.pushes[1].published {
			t.Fatal(err)
		}
	})
}

func TestPushTreeDryRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, h, p := sampleTree(t), newHub(t), &record{}
		cfg := push.Config{Client: h.client(), Dir: dir, Name: "rpms", DryRun: true, Progress: p, CacheDir: t.TempDir()}
		result, err := push.Run(t.Context(), cfg)
		if err != nil || result.Sent.Files != 25 || h.bytes != 0 || !h.pushes[0].cancelled {
			t.Errorf("%+v %v", result, err)
		}
		if !p.has("tree rpms: 29 files, ") {
			t.Errorf("lines %q", p.lines)
		}
	})
}

// Hashes are kept between pushes, and not used for a file that has changed in
// any way, even when its size and times are set back.
func TestPushTreeHashCache(t *testing.T) {
	dir, cache := sampleTree(t), t.TempDir()
	past := time.Now().Add(-time.Hour)
	chtimes := func(name string) {
		if err := os.Chtimes(filepath.Join(dir, name), past, past); err != nil {
			t.Fatal(err)
		}
	}
	// The change time is real while the clock of a bubble begins in 2000, so
	// the first run happens "before" the files were made and keeps nothing.
	run := func(t *testing.T, wait time.Duration) *record {
		t.Helper()
		p := &record{}
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(wait)
			h := newHub(t)
			cfg := push.Config{Client: h.client(), Dir: dir, Name: "rpms", Progress: p, CacheDir: cache}
			if _, err := push.Run(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			h.checkTree(t, h.pushes[0], dir)
		})
		return p
	}
	hashes := func(p *record) bool { return slices.Contains(p.steps, "hashing") }
	century := 100 * 365 * 24 * time.Hour
	// Times of modification that were set back prove nothing.
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		return os.Chtimes(path, time.Unix(600_000_000, 0), time.Unix(600_000_000, 0))
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if p := run(t, 0); !hashes(p) {
			t.Error("hashes of files just changed were kept")
		}
	}
	run(t, century)
	if p := run(t, century); hashes(p) {
		t.Error("hashes were not kept")
	}
	writeTree(t, dir, map[string]string{"README": "HELLO"})
	chtimes("README")
	if p := run(t, century); !hashes(p) {
		t.Error("a changed file was not hashed again")
	}
	for name, text := range map[string]string{"torn": `{"version":1,"dir":`, "other version": `{"version":9}`, "empty": ""} {
		files, _ := filepath.Glob(filepath.Join(cache, "*.hashes.json"))
		if len(files) != 1 {
			t.Fatalf("cache holds %v", files)
		}
		if err := os.WriteFile(files[0], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if p := run(t, century); !hashes(p) {
			t.Errorf("%s: cache was used", name)
		}
	}
}

func TestDetect(t *testing.T) {
	repo, tree := sampleRepo(t), sampleTree(t)
	if kind, err := push.Detect(repo.dir); kind != push.OSTree || err != nil {
		t.Errorf("%v %v", kind, err)
	}
	if kind, err := push.Detect(tree); kind != push.Tree || err != nil {
		t.Errorf("%v %v", kind, err)
	}
	writeTree(t, tree, map[string]string{"config": "x"})
	if kind, err := push.Detect(tree); kind != push.Tree || err != nil {
		t.Errorf("%v %v", kind, err)
	}
	if _, err := push.Detect(filepath.Join(tree, "README")); err == nil {
		t.Error("a file is no folder")
	}
	if _, err := push.Detect(filepath.Join(tree, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	c := &hubapi.Client{Base: "http://hub.mem"}
	for _, cfg := range []push.Config{
		{Dir: "x", Name: "y"},
		{Client: &hubapi.Client{}, Dir: "x", Name: "y"},
		{Client: c, Name: "y"},
		{Client: c, Dir: "x"},
		{Client: c, Dir: "/nonexistent", Name: "y"},
	} {
		if _, err := push.Run(t.Context(), cfg); err == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
}
