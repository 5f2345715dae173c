package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"freshet/internal/flatpak"
	"freshet/internal/gvariant"
	"freshet/internal/ostree"
)

func TestWrongObjectsAreRefused(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	u := uploader{}
	u.commit(t, appRef("org.test.Hello"), appTree("org.test.Hello", "v1"))
	b, err := h.repo.Build(1)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range u {
		wrong := name
		wrong.Checksum[31] ^= 1
		var mismatch *ostree.MismatchError
		if _, err := b.PutObject(t.Context(), wrong, bytes.NewReader(data)); !errors.As(err, &mismatch) || mismatch.Name != wrong {
			t.Errorf("%s under a wrong name: %v", name, err)
		}
		var object *ostree.ObjectError
		if _, err := b.PutObject(t.Context(), name, bytes.NewReader(data[:len(data)-1])); !errors.As(err, &object) && !errors.As(err, &mismatch) {
			t.Errorf("%s truncated: %v", name, err)
		}
		if has, err := b.objects.Has(name); err != nil || has {
			t.Errorf("%s was stored: %v", name, err)
		}
		if _, err := b.PutObject(t.Context(), name, bytes.NewReader(data)); err != nil {
			t.Errorf("%s after all that: %v", name, err)
		}
	}
	h.checkTemp()
}

func TestMissingObjectsAreNamed(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	whole := uploader{}
	ref := appRef("org.test.Hello")
	sum := whole.commit(t, ref, appTree("org.test.Hello", "v1"))
	for name := range whole {
		part := maps.Clone(whole)
		delete(part, name)
		b := h.upload(part)
		_, err := b.Commit(t.Context(), CommitRequest{Refs: map[string]string{ref: sum}}, nil)
		var missing *MissingError
		if !errors.As(err, &missing) || missing.Name != name || missing.Ref != ref {
			t.Errorf("without %s: %v", name, err)
			continue
		}
		if (missing.Path == "") != (name.Type == ostree.TypeCommit) {
			t.Errorf("path of %s is %q", name, missing.Path)
		}
		if err := b.Remove(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

// TestObjectLostBetweenCommitAndPublish has another program prune an object.
func TestObjectLostBetweenCommitAndPublish(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	u := uploader{}
	ref := appRef("org.test.Hello")
	sum := u.commit(t, ref, appTree("org.test.Hello", "v1"))
	request := h.commit(u, map[string]string{ref: sum})
	before := readFile(t, h.opt.Dir+"/summary")
	for name := range u {
		if name.Type != ostree.TypeFile {
			continue
		}
		path := filepath.Join(request.Build.dir, name.Path())
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
		var missing *MissingError
		_, err := h.repo.Publish(t.Context(), []PublishRequest{request}, nil, h.cache.save)
		if !errors.As(err, &missing) || missing.Name != name {
			t.Errorf("without %s: %v", name, err)
		}
		if err := os.Rename(path+".away", path); err != nil {
			t.Fatal(err)
		}
	}
	if readFile(t, h.opt.Dir+"/summary") != before {
		t.Error("something was published")
	}
	h.publish(request)
	h.check()
}

func TestCommitsThatClientsWouldRefuse(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	u := uploader{}
	ref := appRef("org.test.Hello")
	good := appTree("org.test.Hello", "v1")
	other := maps.Clone(good)
	other["metadata"] = strings.Replace(good["metadata"], "org.test.Hello", "org.test.Other", 1)
	cases := map[string]struct {
		sum  string
		want error
	}{
		"another ref": {u.commit(t, appRef("org.test.Other"), good), flatpak.ErrBinding},
		"other metadata": {
			u.commit(t, ref, good, gvariant.Entry{Key: "xa.metadata", Value: gvariant.String("[Application]\n")}),
			flatpak.ErrMetadataDiffers,
		},
		"another app": {u.commit(t, ref, other), flatpak.ErrMetadata},
	}
	b := h.upload(u)
	for name, c := range cases {
		if _, err := b.Commit(t.Context(), CommitRequest{Refs: map[string]string{ref: c.sum}}, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := b.Commit(t.Context(), CommitRequest{}, nil); !errors.Is(err, ErrNoRefs) {
		t.Errorf("no refs: %v", err)
	}
}

func TestParallelUploads(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	var wg sync.WaitGroup
	requests := make([]PublishRequest, 4)
	for i := range requests {
		wg.Go(func() {
			id := fmt.Sprintf("org.test.App%d", i)
			u := uploader{}
			sum := u.commit(t, appRef(id), appTree(id, "v1"))
			b, err := h.repo.Build(int64(i + 1))
			if err != nil {
				t.Error(err)
				return
			}
			var puts sync.WaitGroup
			for name, data := range u {
				for range 2 { // everything twice at the same time
					puts.Go(func() {
						if _, err := b.PutObject(t.Context(), name, bytes.NewReader(data)); err != nil {
							t.Error(err)
						}
					})
				}
			}
			puts.Wait()
			made, err := b.Commit(t.Context(), CommitRequest{Refs: map[string]string{appRef(id): sum}}, nil)
			if err != nil {
				t.Error(err)
			}
			requests[i] = PublishRequest{Key: id, Build: b, Refs: made}
		})
	}
	wg.Wait()
	for i := range requests {
		wg.Go(func() {
			if _, err := h.repo.Publish(t.Context(), requests[i:i+1], nil, func(Result) error { return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	h.check()
	if n := h.repo.Heads(); n != 6 {
		t.Errorf("%d refs", n)
	}
}

func TestCommitFunctionFails(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	u := uploader{}
	ref := appRef("org.test.Hello")
	sum := u.commit(t, ref, appTree("org.test.Hello", "v1"))
	request := h.commit(u, map[string]string{ref: sum})
	down := errors.New("database is down")
	if _, err := h.repo.Publish(t.Context(), []PublishRequest{request}, nil, func(Result) error { return down }); !errors.Is(err, down) {
		t.Fatal(err)
	}
	// Tried again, nothing changes, but the files are told.
	result := h.publish(request)
	if !slices.Contains(result.Changed, "summary") || len(result.Infos) == 0 {
		t.Errorf("told: %+v", result)
	}
	if pending := h.reopen(); len(pending) != 0 {
		t.Errorf("pending: %+v", pending)
	}
	// Not tried again, it is pending.
	u = uploader{}
	sum = u.commit(t, ref, appTree("org.test.Hello", "v2"))
	request = h.commit(u, map[string]string{ref: sum})
	if _, err := h.repo.Publish(t.Context(), []PublishRequest{request}, nil, func(Result) error { return down }); !errors.Is(err, down) {
		t.Fatal(err)
	}
	pending := h.reopen()
	if len(pending) != 1 || !slices.Equal(pending[0].Keys, []string{request.Key}) ||
		pending[0].Refs[request.Key][ref] != h.headSum(ref) || len(pending[0].Infos) == 0 {
		t.Errorf("pending: %+v", pending)
	}
	if pending := h.reopen(); len(pending) != 0 {
		t.Errorf("pending once more: %+v", pending)
	}
	h.check()
}

func TestCancelledPublishLeavesNothing(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	u := uploader{}
	ref := appRef("org.test.Hello")
	sum := u.commit(t, ref, appTree("org.test.Hello", "v1"))
	request := h.commit(u, map[string]string{ref: sum})
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	if _, err := h.repo.Publish(ctx, []PublishRequest{request}, nil, h.cache.save); !errors.Is(err, enough) {
		t.Errorf("error %v", err)
	}
	h.check()
	h.publish(request)
	h.check()
}

func TestBuildIsServed(t *testing.T) {
	t.Parallel()
	h := newHub(t, func(o *Options) { o.BuildsURL = "https://hub.example.org/build-repo/" })
	h.publishApp("org.test.Hello", "v1")
	u := uploader{}
	ref := appRef("org.test.Hello")
	sum := u.commit(t, ref, appTree("org.test.Hello", "v2"))
	b := h.commit(u, map[string]string{ref: sum}).Build
	for _, path := range []string{"config", "summary", "summary.idx", "org.test.Hello.flatpakref", "refs/heads/" + ref} {
		f, err := b.Open(context.Background(), path)
		if err != nil {
			t.Error(err)
			continue
		}
		_ = f.Close()
	}
	// Everything that the build's commit needs is served, also what only the repository has.
	own := 0
	for name := range u {
		f, err := b.Open(context.Background(), name.Path())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_ = f.Close()
		if _, err := os.Stat(filepath.Join(b.dir, name.Path())); err == nil {
			own++
		}
	}
	if own == len(u) {
		t.Error("the build has a copy of everything")
	}
	for _, path := range []string{".boot", "tmp/x", "uploads/ab/superblock", "../1/config", "refs", "refs/heads/app/no/no/no", "objects/ab/x"} {
		if f, err := b.Open(context.Background(), path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v, %v", path, f, err)
		}
	}
	if !strings.Contains(readFile(t, b.dir+"/org.test.Hello.flatpakref"), "Url=https://hub.example.org/build-repo/2\n") {
		t.Error("the flatpakref leads elsewhere")
	}
	if err := b.Remove(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(b.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := b.PutObject(t.Context(), ostree.ObjectName{}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	h.check()
}

// TestBuildSurvivesReboot has the machine lose what was not synced.
func TestBuildSurvivesReboot(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	u := uploader{}
	ref := appRef("org.test.Hello")
	sum := u.commit(t, ref, appTree("org.test.Hello", "v1"))
	b := h.upload(u)
	writeFile(t, filepath.Join(b.dir, bootFile), "an earlier boot")
	lost := 0
	for name := range u {
		if lost++; lost <= 3 {
			writeFile(t, filepath.Join(b.dir, name.Path()), "")
		}
	}
	writeFile(t, filepath.Join(b.dir, tempDir, tempPrefix+"123"), "half an object")
	h.reopen()
	h.checkTemp()
	h.next = 0
	b = h.upload(u)
	if _, err := b.Commit(t.Context(), CommitRequest{Refs: map[string]string{ref: sum}}, nil); err != nil {
		t.Error(err)
	}
}

// TestOneCommitForTwoRefs has a commit that says it may be either.
func TestOneCommitForTwoRefs(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	u := uploader{}
	stable, beta := "app/org.test.Hello/x86_64/stable", "app/org.test.Hello/x86_64/beta"
	sum := u.commit(t, stable, appTree("org.test.Hello", "v1"),
		gvariant.Entry{Key: "ostree.ref-binding", Value: gvariant.Strings([]string{stable, beta})})
	b := h.upload(u)
	made, err := b.Commit(t.Context(), CommitRequest{
		Refs:            map[string]string{stable: sum, beta: sum},
		EndOfLifeRebase: "org.test.Hallo",
	}, nil)
	if err != nil || len(made) != 2 || made[stable] == made[beta] {
		t.Fatalf("%v, %v", made, err)
	}
	h.publish(PublishRequest{Key: "k", Build: b, Refs: made})
	for _, ref := range []string{stable, beta} {
		bound, _ := h.head(ref).Metadata.Strings("ostree.ref-binding")
		rebase, _ := h.head(ref).Metadata.Str("ostree.endoflife-rebase")
		if !slices.Equal(bound, []string{ref}) || rebase != strings.Replace(ref, "Hello", "Hallo", 1) {
			t.Errorf("%s is bound to %q and replaced by %q", ref, bound, rebase)
		}
	}
	h.check()
}
