package inspect_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"freshet/internal/flatpak"
	"freshet/internal/hub/inspect"
	"freshet/internal/ostree"
	"freshet/internal/peertest"
	"freshet/internal/repoweb"
)

const ref = "app/org.test.App/x86_64/stable"

// sample is a repository with two versions of an application that the real flatpak
// has made, and a server that counts what is fetched of it.
type sample struct {
	t   *testing.T
	dir string
	url string

	mu      sync.Mutex
	fetched map[string]int64 // bytes by path
}

// taken returns what was fetched since it was last called.
func (s *sample) taken() map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.fetched
	s.fetched = map[string]int64{}
	return taken
}

func newSample(t *testing.T) *sample {
	t.Helper()
	peertest.Require(t, "flatpak", "ostree")
	s := &sample{t: t, dir: filepath.Join(t.TempDir(), "repo"), fetched: map[string]int64{}}
	files := http.FileServer(http.Dir(s.dir))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if info, err := os.Stat(filepath.Join(s.dir, r.URL.Path)); err == nil && !info.IsDir() {
			s.mu.Lock()
			s.fetched[strings.TrimPrefix(r.URL.Path, "/")] = info.Size()
			s.mu.Unlock()
			files.ServeHTTP(w, r)
			return
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(srv.Close)
	s.url = srv.URL
	s.run("ostree", "init", "--repo="+s.dir, "--mode=archive-z2")
	s.export("2026-01-02T03:04:05Z", []string{"--share=network", "--socket=x11", "--command=one"}, map[string]string{
		"same": "same", "changed": "old", "removed": "was here", "dir/moved": strings.Repeat("moved ", 1000), "gone/a/b": "1", "file-or-dir": "file",
	})
	s.export("2026-01-03T03:04:05Z", []string{"--socket=x11", "--filesystem=home", "--command=two"}, map[string]string{
		"same": "same", "changed": "newer", "added": "is here", "other/moved": strings.Repeat("moved ", 1000), "new/a/b": "2", "file-or-dir/x": "3",
	})
	return s
}

func (s *sample) run(program string, args ...string) string {
	s.t.Helper()
	home := s.t.TempDir()
	return string(peertest.Run(s.t, "", []string{"HOME=" + home, "XDG_DATA_HOME=" + home, "LANG=C.UTF-8"}, program, args...))
}

// export makes a version of the application.
func (s *sample) export(at string, finish []string, files map[string]string) {
	s.t.Helper()
	dir := s.t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, "files", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			s.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			s.t.Fatal(err)
		}
	}
	const metadata = "[Application]\nname=org.test.App\nruntime=org.test.Platform/x86_64/1\nsdk=org.test.Sdk/x86_64/1\n"
	if err := os.WriteFile(filepath.Join(dir, "metadata"), []byte(metadata), 0o644); err != nil {
		s.t.Fatal(err)
	}
	s.run("flatpak", append(append([]string{"build-finish"}, finish...), dir)...)
	s.run("flatpak", "build-export", "--disable-sandbox", "--no-update-summary", "--timestamp="+at, "--subject=version of "+at, s.dir, dir, "stable")
}

// opened opens the repository on the disk and behind its URL.
func (s *sample) opened() map[string]*inspect.Repository {
	s.t.Helper()
	web, err := repoweb.New(s.t.Context(), s.url, "")
	if err != nil {
		s.t.Fatal(err)
	}
	all := map[string]*inspect.Repository{}
	for name, files := range map[string]fs.FS{"folder": os.DirFS(s.dir), "url": web} {
		if all[name], err = inspect.Open(files); err != nil {
			s.t.Fatal(err)
		}
	}
	return all
}

// What is shown is what ostree shows, and what its client fetches.
func TestAgainstOSTree(t *testing.T) {
	s := newSample(t)
	s.run("flatpak", "build-update-repo", "--generate-static-deltas", "--title=Sample", s.dir)
	for name, repo := range s.opened() {
		t.Run(name, func(t *testing.T) {
			refs, err := repo.Refs()
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, r := range refs {
				names = append(names, r.Ref)
				if head := strings.TrimSpace(s.run("ostree", "rev-parse", "--repo="+s.dir, r.Ref)); head != r.Commit {
					t.Errorf("%s points at %s, not %s", r.Ref, head, r.Commit)
				}
				if r.Ref == ref && (r.Installed == 0 || r.Download == 0 || r.Time.Format("2006-01-02") != "2026-01-03") {
					t.Errorf("%+v", r)
				}
			}
			want := strings.Fields(s.run("ostree", "refs", "--repo="+s.dir))
			slices.Sort(want)
			if diff := cmp.Diff(want, names); diff != "" {
				t.Error(diff)
			}
			s.checkLog(t, repo)
			s.checkDiff(t, repo)
			s.checkDeltas(t, repo, name == "folder")
		})
	}
}

func (s *sample) checkLog(t *testing.T, repo *inspect.Repository) {
	t.Helper()
	log, err := repo.Log(ref, ostree.Checksum{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for line := range strings.Lines(s.run("ostree", "log", "--repo="+s.dir, ref)) {
		if commit, ok := strings.CutPrefix(line, "commit "); ok {
			want = append(want, strings.TrimSpace(commit))
		}
	}
	for _, v := range log.Versions {
		got = append(got, v.Commit)
		if v.Subject != "version of "+v.Time.Format("2006-01-02T15:04:05Z") || v.Signatures != 0 {
			t.Errorf("%+v", v)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || len(got) != 2 {
		t.Error(diff, len(got))
	}
	limited, err := repo.Log(ref, ostree.Checksum{}, 1)
	if err != nil || len(limited.Versions) != 1 || limited.Next != want[1] || limited.Pruned != "" {
		t.Errorf("%+v, %v", limited, err)
	}
}

// versions are the commits of the sample, the older one first.
func versions(t *testing.T, repo *inspect.Repository) (before, after ostree.Checksum) {
	t.Helper()
	after, err := repo.Resolve(ref, "")
	if err != nil {
		t.Fatal(err)
	}
	if before, err = repo.Resolve(ref, "^"); err != nil {
		t.Fatal(err)
	}
	return before, after
}

func (s *sample) checkDiff(t *testing.T, repo *inspect.Repository) {
	t.Helper()
	before, after := versions(t, repo)
	d, err := repo.Diff(t.Context(), ref, before, after)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(flatpak.Permissions{"--filesystem=home"}, d.Gained); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(flatpak.Permissions{"--share=network"}, d.Lost); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]inspect.Setting{{Name: "command", From: "one", To: "two"}}, d.Settings); diff != "" {
		t.Error(diff)
	}
	var want, got []string
	for line := range strings.Lines(s.run("ostree", "diff", "--repo="+s.dir, before.String(), after.String())) {
		want = append(want, strings.Join(strings.Fields(line), " "))
	}
	letters := map[string]string{inspect.Added: "A", inspect.Removed: "D", inspect.Changed: "M"}
	for _, p := range d.Paths {
		if isBelow(d.Paths, p) {
			continue // ostree names a directory that is removed, or became one, alone
		}
		got = append(got, letters[p.Change]+" /"+p.Path)
		if strings.HasSuffix(p.Path, "/changed") && (p.From != 3 || p.To != 5) {
			t.Errorf("%+v", p)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// What became a directory counts as neither; a moved file counts on both sides.
	files := inspect.Totals{Added: 4, Removed: 3, Changed: 2, AddedBytes: 7 + 6000 + 1 + 1, RemovedBytes: 8 + 6000 + 1}
	files.ChangedFrom, files.ChangedTo = d.Files.ChangedFrom, d.Files.ChangedTo // with the metadata file
	if diff := cmp.Diff(files, d.Files); diff != "" {
		t.Error(diff)
	}
}

// isBelow tells whether a path is in a directory that was removed, or that was a
// file before.
func isBelow(paths []inspect.PathChange, p inspect.PathChange) bool {
	return slices.ContainsFunc(paths, func(dir inspect.PathChange) bool {
		return strings.HasPrefix(p.Path, dir.Path+"/") && (dir.Change == inspect.Removed || dir.Change == inspect.Changed && dir.Kind == "directory")
	})
}

// checkDeltas compares with the deltas that ostree lists.
func (s *sample) checkDeltas(t *testing.T, repo *inspect.Repository, stored bool) {
	t.Helper()
	list, err := repo.Deltas(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range list {
		name := d.To
		if d.From != "" {
			name = d.From + "-" + d.To
		}
		got = append(got, name)
		if d.State != inspect.Served || d.Size == 0 || d.Objects == 0 || stored != (d.Instead > 0) || d.Ref == "" {
			t.Errorf("%+v", d)
		}
	}
	want := strings.Fields(s.run("ostree", "static-delta", "list", "--repo="+s.dir))
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" || len(got) == 0 {
		t.Error(diff, len(got))
	}
	before, after := versions(t, repo)
	d, err := repo.Diff(t.Context(), ref, before, after)
	if err != nil || d.Update.Delta == nil {
		t.Fatalf("%+v, %v", d, err)
	}
	only, err := repo.Deltas(t.Context(), ref)
	if err != nil || len(only) == 0 || len(only) == len(list) {
		t.Errorf("%d of %d deltas are those of one ref, %v", len(only), len(list), err)
	}
	for _, one := range only {
		if one.From == before.String() && one.Size != d.Update.Delta.Bytes {
			t.Errorf("%+v, %+v", one, d.Update.Delta)
		}
	}
	if _, err := repo.Deltas(t.Context(), "app/org.test.Absent/x86_64/stable"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("deltas of a ref that is not there: %v", err)
	}
}

// An update is said to cost what the real client fetches.
func TestUpdateCost(t *testing.T) {
	s := newSample(t)
	repo := s.opened()["folder"]
	before, after := versions(t, repo)
	client := filepath.Join(t.TempDir(), "client")
	s.run("ostree", "init", "--repo="+client, "--mode=bare-user")
	s.run("ostree", "remote", "add", "--repo="+client, "--no-gpg-verify", "origin", s.url)
	pull := func(commit ostree.Checksum) {
		s.taken()
		s.run("ostree", "pull", "--repo="+client, "--disable-static-deltas", "--depth=0", "origin", ref+"@"+commit.String())
	}
	for _, step := range []struct{ from, to ostree.Checksum }{{ostree.Checksum{}, before}, {before, after}} {
		d, err := repo.Diff(t.Context(), ref, step.from, step.to)
		if err != nil {
			t.Fatal(err)
		}
		pull(step.to)
		var got inspect.Update
		for path, size := range s.taken() {
			if strings.HasPrefix(path, "objects/") && !strings.HasSuffix(path, ".commitmeta") {
				got.Objects++
				got.Bytes += size
			}
		}
		if diff := cmp.Diff(got, d.Update); diff != "" || got.Objects == 0 {
			t.Errorf("fetched is -, said is +: %s", diff)
		}
		if (d.From == nil) != step.from.IsZero() {
			t.Errorf("%+v", d.From)
		}
	}
}

// A delta that no client is told of any more is retired.
func TestRetiredDeltas(t *testing.T) {
	s := newSample(t)
	before, after := versions(t, s.opened()["folder"])
	for _, args := range [][]string{{"--empty", "--to=" + before.String()}, {"--from=" + before.String(), "--to=" + after.String()}} {
		s.run("ostree", append([]string{"static-delta", "generate", "--repo=" + s.dir}, args...)...)
	}
	s.run("ostree", "summary", "-u", "--repo="+s.dir)
	list, err := s.opened()["folder"].Deltas(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range list {
		got = append(got, fmt.Sprintf("%s %.4s %s %t", d.Ref, d.To, d.State, d.From == ""))
	}
	want := []string{
		fmt.Sprintf("%s %.4s served false", ref, after),
		fmt.Sprintf("%s %.4s retired true", ref, before),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// What a crash has left of one is none.
	half := filepath.Join(s.dir, filepath.FromSlash(ostree.DeltaName{From: after, To: before}.Dir()))
	if err := os.MkdirAll(half, 0o755); err != nil {
		t.Fatal(err)
	}
	if again, err := s.opened()["folder"].Deltas(t.Context()); err != nil || len(again) != len(list) {
		t.Errorf("%d deltas, %v", len(again), err)
	}
}

func TestResolve(t *testing.T) {
	s := newSample(t)
	repo := s.opened()["folder"]
	before, after := versions(t, repo)
	for text, want := range map[string]ostree.Checksum{
		"": after, ref: after, "^": before, before.String(): before, before.String()[:4]: before, after.String()[:12]: after,
	} {
		if got, err := repo.Resolve(ref, text); err != nil || got != want {
			t.Errorf("%q is %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"^^", "abc", "zzzz", "^1", strings.Repeat("0", 12)} {
		if got, err := repo.Resolve(ref, text); !errors.Is(err, inspect.ErrNoCommit) {
			t.Errorf("%q is %s, %v", text, got, err)
		}
	}
	for _, absent := range []string{"app/org.test.Absent/x86_64/stable", path.Dir(ref)} {
		if _, err := repo.Resolve(absent, ""); !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "there is no ref "+absent) {
			t.Errorf("a ref that is not there: %v", err)
		}
	}
	// What is pruned ends the history.
	if err := os.Remove(filepath.Join(s.dir, filepath.FromSlash(ostree.ObjectName{Checksum: before, Type: ostree.TypeCommit}.Path()))); err != nil {
		t.Fatal(err)
	}
	log, err := repo.Log(ref, ostree.Checksum{}, 0)
	if err != nil || len(log.Versions) != 1 || log.Pruned != before.String() {
		t.Errorf("%+v, %v", log, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := repo.Diff(ctx, ref, ostree.Checksum{}, after); !errors.Is(err, context.Canceled) {
		t.Errorf("after its end: %v", err)
	}
}
