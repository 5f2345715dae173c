package upkeep_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"freshet/internal/archive"
	"freshet/internal/flatpak"
	"freshet/internal/hub/repository"
	"freshet/internal/hub/upkeep"
	"freshet/internal/ostree"
	"freshet/internal/ostree/ostreetest"
	"freshet/internal/peertest"
	"freshet/internal/sign"
	"freshet/internal/store/bucket"
)

// hub is a repository into which builds are published.
type hub struct {
	testing.TB
	dir    string // of the repository
	builds string
	key    string
	repo   *repository.Repository
	copied *bucket.Copy // nil: none
	next   int64
}

func newHub(t testing.TB) *hub { t.Helper(); return newCopiedHub(t, nil) }

// newCopiedHub is a hub whose repository has a copy in a bucket.
func newCopiedHub(t testing.TB, copied *bucket.Copy) *hub {
	t.Helper()
	root := t.TempDir()
	h := &hub{TB: t, copied: copied, dir: filepath.Join(root, "repos", "stable"), builds: filepath.Join(root, "builds"), key: filepath.Join(root, "key.asc")}
	if _, err := sign.Generate(h.key, "Test"); err != nil {
		t.Fatal(err)
	}
	h.open()
	t.Cleanup(func() { h.close() })
	return h
}

func (h *hub) open() {
	h.Helper()
	ring, err := sign.Open(sign.KeyFile{Path: h.key})
	if err != nil {
		h.Fatal(err)
	}
	repo, pending, err := repository.Open(h.Context(), repository.Options{
		Name: "stable", Dir: h.dir, BuildsDir: h.builds, Title: "Test", BaseURL: "https://dl.example.org/repo/stable/", Signer: ring, Copy: h.copied,
	}, nil)
	if err != nil {
		h.Fatal(err)
	}
	for _, p := range pending {
		if err := p.Confirm(); err != nil {
			h.Fatal(err)
		}
	}
	h.repo = repo
}

func (h *hub) close() {
	h.Helper()
	if h.repo == nil {
		return
	}
	if err := h.repo.Close(); err != nil {
		h.Error(err)
	}
	h.repo = nil
}

func appRef(id string) string { return "app/" + id + "/x86_64/stable" }

// app is a version of an application: files of its own, one that all versions
// have, and one that all applications have.
func app(id, version string) []archive.File {
	return []archive.File{
		{Path: "files/bin/" + id, Content: []byte("#!/bin/sh\necho " + version + "\n"), Executable: true},
		{Path: "files/share/common", Content: []byte("the same everywhere")},
		{Path: "files/share/" + id + "/data", Content: bytes.Repeat([]byte("data of "+id+"\n"), 500)},
		{Path: "files/share/versions/" + version, Content: []byte("only " + id + " " + version)},
	}
}

// upload makes a build of a version and uploads it.
func (h *hub) upload(id, version string) (*repository.Build, map[string]string) {
	h.Helper()
	h.next++
	source := filepath.Join(h.TempDir(), "source")
	made, err := archive.Create(source)
	if err != nil {
		h.Fatal(err)
	}
	meta := flatpak.Metadata{Kind: flatpak.App, Name: id, Runtime: "org.example.P/x86_64/stable", SDK: "org.example.S/x86_64/stable", Command: id}
	if err := made.CommitFlatpak(appRef(id), meta, app(id, version), nil, time.Unix(1_700_000_000+h.next, 0)); err != nil {
		h.Fatal(err)
	}
	build, err := h.repo.Build(h.next)
	if err != nil {
		h.Fatal(err)
	}
	in := ostreetest.OpenDir(h, source)
	head, err := in.ResolveRef(appRef(id))
	if err != nil {
		h.Fatal(err)
	}
	err = in.Walk(h.Context(), head, func(name ostree.ObjectName) error {
		missing, err := build.Missing(h.Context(), []ostree.ObjectName{name})
		if err != nil || len(missing) == 0 {
			return err
		}
		f, err := in.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = build.PutObject(h.Context(), name, f)
		return err
	})
	if err != nil {
		h.Fatal(err)
	}
	return build, map[string]string{appRef(id): head.String()}
}

// publish publishes a version of an application.
func (h *hub) publish(id, version string) {
	h.Helper()
	build, refs := h.upload(id, version)
	made, err := build.Commit(h.Context(), repository.CommitRequest{Refs: refs}, nil)
	if err != nil {
		h.Fatal(err)
	}
	h.change(repository.PublishRequest{Key: fmt.Sprint("build ", h.next), Build: build, Refs: made})
	if err := build.Remove(h.Context()); err != nil {
		h.Fatal(err)
	}
}

func (h *hub) change(request repository.PublishRequest) {
	h.Helper()
	result, err := h.repo.Publish(h.Context(), []repository.PublishRequest{request}, nil, func(repository.Result) error { return nil })
	if err != nil || len(result.Failed) > 0 {
		h.Fatal(err, result.Failed)
	}
}

// head is the commit of a ref.
func (h *hub) head(ref string) (ostree.Checksum, *ostree.Commit) {
	h.Helper()
	return ostreetest.Head(h, ostreetest.OpenDir(h, h.dir), ref)
}

// objects are all objects of a kind.
func (h *hub) objects(kind ostree.ObjectType) []ostree.ObjectName {
	h.Helper()
	var all []ostree.ObjectName
	err := fs.WalkDir(os.DirFS(h.dir), "objects", func(path string, _ fs.DirEntry, err error) error {
		if name, parseErr := ostree.ParseObjectPath(path); parseErr == nil && name.Type == kind {
			all = append(all, name)
		}
		return err
	})
	if err != nil {
		h.Fatal(err)
	}
	return all
}

func (h *hub) path(file string) string { return filepath.Join(h.dir, filepath.FromSlash(file)) }

// check is a check of the repository, with what it found.
func (h *hub) check(opt upkeep.CheckOptions) (upkeep.Report, []upkeep.Problem) {
	h.Helper()
	return check(h, h.dir, opt)
}

func check(t testing.TB, dir string, opt upkeep.CheckOptions) (upkeep.Report, []upkeep.Problem) {
	t.Helper()
	var problems []upkeep.Problem
	opt.Found = func(p upkeep.Problem) { problems = append(problems, p) }
	report, err := upkeep.Check(t.Context(), dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	if report.Problems != len(problems) {
		t.Errorf("%d problems reported, %d told", report.Problems, len(problems))
	}
	return report, problems
}

// sound demands that a full check finds nothing, and that ostree agrees.
func (h *hub) sound() upkeep.Report {
	h.Helper()
	report, problems := h.check(upkeep.CheckOptions{DryRun: true})
	for _, p := range problems {
		h.Errorf("not sound: %+v", p)
	}
	if out, err := ostreeFsck(h, h.dir); err != nil {
		h.Errorf("ostree fsck: %v\n%s", err, out)
	}
	return report
}

// ostreeFsck asks the field's own program, if it is there.
func ostreeFsck(t testing.TB, dir string) ([]byte, error) {
	t.Helper()
	if _, err := exec.LookPath("ostree"); err != nil {
		return nil, nil //nolint:nilerr // other tests demand it
	}
	return peertest.Command(t, "ostree", "fsck", "--repo="+dir).CombinedOutput()
}

// copyOf is a copy of the repository behind a URL.
func (h *hub) copyOf() upkeep.Source {
	h.Helper()
	dir := filepath.Join(h.TempDir(), "copy")
	if err := os.CopyFS(dir, os.DirFS(h.dir)); err != nil {
		h.Fatal(err)
	}
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	h.Cleanup(server.Close)
	source, err := upkeep.NewHTTPSource(h.Context(), server.URL+"/")
	if err != nil {
		h.Fatal(err)
	}
	return source
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := peertest.Command(t, name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}
