package tree

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"freshet/internal/durable"
)

func TestPublish(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "trees")
	trees := begin(t, dir, Options{})
	l := new(ledger)
	one := publish(t, trees, "rpms", 1000, first, l)
	equal(t, one.Changed, []string{"repodata/repomd.xml", "stable/repodata/repomd.xml"})
	equal(t, current(t, dir, "rpms"), first)

	push, err := trees.Begin(t.Context(), "rpms", second.files(2000))
	if err != nil {
		t.Fatal(err)
	}
	if len(push.Missing) != 3 || push.Files != 6 || push.Tree != "rpms" {
		t.Errorf("%+v", push)
	}
	two := publish(t, trees, "rpms", 2000, second, l)
	equal(t, two.Changed, []string{
		"empty", "latest",
		"repodata/primary.xml", "repodata/repomd.xml",
		"stable/empty", "stable/latest",
		"stable/repodata/primary.xml", "stable/repodata/repomd.xml",
	})
	equal(t, current(t, dir, "rpms"), second)
	if one.Key == two.Key || two.Generation.ID != 2 || two.Generation.Serial != 2 {
		t.Errorf("%+v, %+v", one, two)
	}

	for name, want := range map[string]string{
		"repodata/primary.xml": primaryTwo, "Packages/hello-2.rpm": "hello two", "latest": "hello two",
		"stable/stable/Packages/common-1.rpm": "common",
		// Gone, but within grace.
		"Packages/hello-1.rpm": "hello one", "empty": "",
		// No files.
		"Packages": "(none)", "": "(none)", ".": "(none)", "../rpms/current/latest": "(none)", "missing": "(none)",
		"latest/x": "(none)", "a\x00b": "(none)", "/latest": "(none)", "repodata/": "(none)",
	} {
		if got := read(t, trees, "rpms", name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	f, err := trees.Lookup("rpms", "repodata/primary.xml")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.SHA256 != sum(primaryTwo) || f.Generation != 2 || f.Info.ModTime().Unix() != 2000 {
		t.Errorf("%+v, modified %v", f, f.Info.ModTime().Unix())
	}
	if got := read(t, trees, "other", "latest"); got != "(none)" {
		t.Errorf("a tree that is not there: %q", got)
	}
	if _, err := trees.Info("other"); !errors.Is(err, ErrNotFound) {
		t.Errorf("info: %v", err)
	}

	info, err := trees.Info("rpms")
	if err != nil {
		t.Fatal(err)
	}
	if info.Current != 2 || len(info.Generations) != 2 || info.Generations[0].Retires != nil ||
		info.Generations[1].Serial != 1 || info.Generations[1].Retires == nil ||
		!info.Generations[1].Retires.Equal(two.Generation.Created.Add(24*time.Hour)) {
		t.Errorf("%+v", info)
	}
	// All of it is the same after a restart.
	if err := trees.Close(); err != nil {
		t.Fatal(err)
	}
	trees = begin(t, dir, Options{})
	again, err := trees.Info("rpms")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, again, info)
	equal(t, trees.Names(), []string{"rpms"})
	if got := read(t, trees, "rpms", "Packages/hello-1.rpm"); got != "hello one" {
		t.Errorf("after a restart: %q", got)
	}
}

func TestPublishAgain(t *testing.T) {
	t.Parallel()
	trees := begin(t, quickDir(t), Options{})
	l := new(ledger)
	push, err := trees.Begin(t.Context(), "x", first.files(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := trees.Publish(t.Context(), push.ID, l.commit); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "was not uploaded") {
		t.Errorf("without contents: %v", err)
	}
	if err := upload(trees, first, push); err != nil {
		t.Fatal(err)
	}
	// The commit fails: readers see the new generation, and it is tried again.
	lost := errors.New("database is away")
	failing := func(context.Context, Switch) (int64, error) { return 0, lost }
	if _, err := trees.Publish(t.Context(), push.ID, failing); !errors.Is(err, lost) {
		t.Errorf("error %v", err)
	}
	if got := read(t, trees, "x", "latest"); got != "hello one" {
		t.Errorf("latest: %q", got)
	}
	pending, err := trees.Pending(t.Context())
	if err != nil || len(pending) != 1 || pending[0].Push != push.ID {
		t.Fatalf("pending %+v, %v", pending, err)
	}
	got, err := trees.Publish(t.Context(), push.ID, l.commit)
	if err != nil || got.Key != pending[0].Key || got.Generation.Serial != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	equal(t, got.Changed, pending[0].Changed)
	again, err := trees.Publish(t.Context(), push.ID, l.commit)
	if err != nil || again.Key != got.Key || len(l.switches) != 1 {
		t.Errorf("%+v, %v, %d commits", again, err, len(l.switches))
	}
	if _, err := trees.Push(t.Context(), push.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("the push is still there: %v", err)
	}
	if _, err := trees.Publish(t.Context(), "no such push", l.commit); !errors.Is(err, ErrNotFound) {
		t.Errorf("error %v", err)
	}
}

func TestPutBlob(t *testing.T) {
	t.Parallel()
	dir := quickDir(t)
	trees := begin(t, dir, Options{})
	c := contents{"a": "content", "b": "other"}
	push, err := trees.Begin(t.Context(), "x", c.files(1))
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]io.Reader{
		"truncated": strings.NewReader("conten"),
		"longer":    strings.NewReader("content and more"),
		"endless":   zeros{},
		"corrupted": strings.NewReader("kontent"),
		"empty":     strings.NewReader(""),
	} {
		err := trees.PutBlob(t.Context(), push.ID, sum("content"), r)
		mismatch, ok := errors.AsType[*MismatchError](err)
		if !ok || mismatch.SHA256 != sum("content") || !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), sum("content")) {
			t.Errorf("%s: %v", name, err)
		}
	}
	cut := errors.New("connection reset")
	if err := trees.PutBlob(t.Context(), push.ID, sum("content"), io.MultiReader(strings.NewReader("con"), errReader{cut})); !errors.Is(err, cut) || errors.Is(err, ErrRefused) {
		t.Errorf("cut: %v", err)
	}
	for _, name := range []string{sum("not listed"), "", "../../etc/passwd", strings.ToUpper(sum("content"))} {
		if err := trees.PutBlob(t.Context(), push.ID, name, strings.NewReader("x")); !errors.Is(err, ErrRefused) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := trees.PutBlob(t.Context(), "nobody", sum("content"), strings.NewReader("content")); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown push: %v", err)
	}
	if now, _ := trees.Push(t.Context(), push.ID); len(now.Missing) != 2 {
		t.Errorf("missing %v", now.Missing)
	}
	for range 2 {
		if err := trees.PutBlob(t.Context(), push.ID, sum("content"), strings.NewReader("content")); err != nil {
			t.Error(err)
		}
	}
	// What is there is not read again.
	if err := trees.PutBlob(t.Context(), push.ID, sum("content"), errReader{cut}); err != nil {
		t.Error(err)
	}
	if now, _ := trees.Push(t.Context(), push.ID); !slices.Equal(now.Missing, []string{sum("other")}) {
		t.Errorf("missing %v", now.Missing)
	}
	if err := trees.Cancel(push.ID); err != nil {
		t.Fatal(err)
	}
	if err := trees.Cancel(push.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("cancelled twice: %v", err)
	}
	equal(t, all(t, dir), []string(nil))
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestResume(t *testing.T) {
	t.Parallel()
	dir := quickDir(t)
	trees := begin(t, dir, Options{})
	push, err := trees.Begin(t.Context(), "x", first.files(1))
	if err != nil {
		t.Fatal(err)
	}
	half := push
	half.Missing = push.Missing[:2]
	if err := upload(trees, first, half); err != nil {
		t.Fatal(err)
	}
	if err := trees.Close(); err != nil {
		t.Fatal(err)
	}
	// The machine started anew: of the two contents one did not reach the disk.
	boot := filepath.Join(dir, "incoming", bootID())
	if err := os.Rename(boot, filepath.Join(dir, "incoming", "former")); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "incoming/former", push.Missing[0]), 0); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "incoming/former", durable.TempName()), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	trees = begin(t, dir, Options{})
	resumed, err := trees.Push(t.Context(), push.ID)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, resumed.Missing, append([]string{push.Missing[0]}, push.Missing[2:]...))
	if err := upload(trees, first, resumed); err != nil {
		t.Fatal(err)
	}
	if _, err := trees.Publish(t.Context(), push.ID, new(ledger).commit); err != nil {
		t.Fatal(err)
	}
	equal(t, current(t, dir, "x"), first)
	if _, err := os.Stat(filepath.Join(dir, "incoming/former")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder of the former boot: %v", err)
	}
}

func TestRollback(t *testing.T) {
	t.Parallel()
	dir := quickDir(t)
	trees := begin(t, dir, Options{})
	l := new(ledger)
	publish(t, trees, "x", 1000, first, l)
	publish(t, trees, "x", 2000, second, l)
	before := time.Now().Unix()
	back, err := trees.Rollback(t.Context(), "x", 1, l.commit)
	if err != nil {
		t.Fatal(err)
	}
	if back.Generation.ID != 3 || back.Generation.Serial != 3 || !slices.Contains(back.Changed, "repodata/repomd.xml") {
		t.Errorf("%+v", back)
	}
	equal(t, current(t, dir, "x"), first)
	for name, young := range map[string]bool{"repodata/repomd.xml": true, "repodata/primary.xml": true, "Packages/hello-1.rpm": false} {
		f, err := trees.Lookup("x", name)
		if err != nil {
			t.Fatal(err)
		}
		if m := f.Info.ModTime().Unix(); m >= before != young || !young && m != 1000 {
			t.Errorf("%s: modified %d", name, m)
		}
		_ = f.Close()
	}
	// The older generation itself keeps its time.
	info, err := os.Stat(filepath.Join(dir, "trees/x/generations/1/repodata/repomd.xml"))
	if err != nil || info.ModTime().Unix() != 1000 {
		t.Errorf("%v, %v", info, err)
	}
	for id, want := range map[int64]error{3: ErrRefused, 9: ErrNotFound} {
		if _, err := trees.Rollback(t.Context(), "x", id, l.commit); !errors.Is(err, want) {
			t.Errorf("to %d: %v", id, err)
		}
	}
	if _, err := trees.Rollback(t.Context(), "y", 1, l.commit); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown tree: %v", err)
	}
}

func TestOneWriter(t *testing.T) {
	t.Parallel()
	dir := quickDir(t)
	trees := begin(t, dir, Options{})
	if _, err := Open(dir, Options{}); !errors.Is(err, durable.ErrInUse) {
		t.Errorf("second open: %v", err)
	}
	if err := trees.Close(); err != nil {
		t.Fatal(err)
	}
	begin(t, dir, Options{})
}

func TestManifestRoundTrip(t *testing.T) {
	t.Parallel()
	m := &manifest{Version: 1, Tree: "x", Push: "p", Generation: 3, Created: now(), Files: first.files(7)}
	var b bytes.Buffer
	if err := m.write(&b); err != nil {
		t.Fatal(err)
	}
	dir := quickDir(t)
	trees := begin(t, dir, Options{})
	if err := os.WriteFile(filepath.Join(dir, "m.json"), b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := trees.readManifest("m.json")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, got, m)
	if lines := strings.Count(b.String(), "\n"); lines != len(m.Files)+2 {
		t.Errorf("%d lines:\n%s", lines, b.String())
	}
	if err := os.WriteFile(filepath.Join(dir, "m.json"), []byte(`{"version":2}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := trees.readManifest("m.json"); err == nil {
		t.Error("read a version of the future")
	}
}
