package repository

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"freshet/internal/durable"
	"freshet/internal/flatpak"
	"freshet/internal/ostree"
	"freshet/internal/sign"
)

// isolated publishes requests together and demands that those with a key that
// begins with "bad" fail, and no others.
func (h *hub) isolated(requests ...PublishRequest) Result {
	h.t.Helper()
	var told []string
	result, err := h.repo.Publish(h.t.Context(), requests, &h.log, func(result Result) error {
		told = append(told, result.Keys...)
		return h.cache.save(result)
	})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, req := range requests {
		failure, bad := result.Failed[req.Key], strings.HasPrefix(req.Key, "bad")
		if bad != (failure != nil) || bad == slices.Contains(result.Keys, req.Key) || bad == slices.Contains(told, req.Key) {
			h.t.Errorf("%s: %v; published %q, told of %q", req.Key, failure, result.Keys, told)
		}
	}
	h.check()
	return result
}

// appRequest commits a version of an application.
func (h *hub) appRequest(key, id string) PublishRequest {
	h.t.Helper()
	u := uploader{}
	sum := u.commit(h.t, appRef(id), appTree(id, "v1"))
	req := h.commit(u, map[string]string{appRef(id): sum})
	req.Key = key
	return req
}

// pickySigner does not sign what has a word in it.
type pickySigner struct {
	sign.Signer

	word []byte
}

var errPicky = errors.New("this I do not sign")

func (s pickySigner) Sign(ctx context.Context, data []byte) ([][]byte, error) {
	if bytes.Contains(data, s.word) {
		return nil, errPicky
	}
	return s.Signer.Sign(ctx, data)
}

// TestOneByOne has a request fail only when everything is put together.
func TestOneByOne(t *testing.T) {
	t.Parallel()
	signer, _ := newSigner(t)
	h := newHub(t, func(o *Options) { o.Signer = pickySigner{signer, []byte("app/org.test.Bad/")} })
	result := h.isolated(
		h.appRequest("one", "org.test.One"), h.appRequest("bad", "org.test.Bad"), h.appRequest("two", "org.test.Two"))
	if !errors.Is(result.Failed["bad"], errPicky) {
		t.Error(result.Failed["bad"])
	}
	for _, id := range []string{"org.test.One", "org.test.Two"} {
		h.head(appRef(id))
	}
	if _, err := h.objects().ResolveRef(appRef("org.test.Bad")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if pending := h.reopen(); len(pending) != 0 {
		t.Errorf("left %d publishes unconfirmed", len(pending))
	}
	h.check()
}

// TestAKeyThatIsGone is nobody's fault, and is not tried for each request.
func TestAKeyThatIsGone(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	requests := []PublishRequest{h.appRequest("one", "org.test.One"), h.appRequest("two", "org.test.Two")}
	signer, _ := newSigner(t)
	gone := goneSigner{signer, &sign.KeyError{}, new(atomic.Int64)}
	h.repo.opt.Signer = gone
	result, err := h.repo.Publish(t.Context(), requests, &h.log, h.cache.save)
	if !errors.Is(err, error(gone.err)) || len(result.Failed) != 0 || gone.calls.Load() > 2 {
		t.Errorf("%v, %v, %d calls", err, result.Failed, gone.calls.Load())
	}
	h.repo.opt.Signer = nil
	h.publish(requests...)
}

type goneSigner struct {
	sign.Signer

	err   *sign.KeyError
	calls *atomic.Int64
}

func (s goneSigner) Sign(context.Context, []byte) ([][]byte, error) {
	s.calls.Add(1)
	return nil, s.err
}

// raw publishes an upload that no commit has seen.
func (h *hub) raw(key string, u uploader, refs map[string]string) PublishRequest {
	h.t.Helper()
	return PublishRequest{Key: key, Build: h.upload(u), Refs: refs}
}

// TestNamesThatCannotBe plans files that the store or the disk would refuse.
func TestNamesThatCannotBe(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	const screenshots = "screenshots/x86_64"
	requests := []PublishRequest{h.appRequest("one", "org.test.One")}
	media := func(key string, names ...string) {
		u := uploader{}
		file, err := ostree.WriteBytes(u, []byte("PNG"), false)
		if err != nil {
			t.Fatal(err)
		}
		last := len(names) - 1
		tree := ostree.DirTree{Files: []ostree.TreeFile{{Name: names[last], File: file}}}
		for _, name := range slices.Backward(names[:last]) {
			below := u.object(t, ostree.TypeDirTree, tree.Encode())
			tree = ostree.DirTree{Dirs: []ostree.TreeDir{{Name: name, Tree: below, Meta: u.dirMeta(t)}}}
		}
		refs := map[string]string{screenshots: u.commitTree(t, screenshots, "", tree)}
		b := h.upload(u)
		if _, err := b.Commit(t.Context(), CommitRequest{Refs: refs, AppID: "org.test.Hello"}, nil); err == nil {
			t.Errorf("%s: committed", key)
		}
		requests = append(requests, h.raw(key, u, refs))
	}
	media("bad temporary", "org.test.Hello", durable.TempPrefix+"x")
	media("bad length", append([]string{"org.test.Hello"}, slices.Repeat([]string{strings.Repeat("d", 200)}, 10)...)...)
	for key, ref := range map[string]string{
		"bad id":     appRef("org.test." + strings.Repeat("x", 240)),
		"bad branch": appRef("org.test.Hello") + strings.Repeat("x", 300),
		"bad arch":   "app/org.test.Hello/" + strings.Repeat("x", 250) + "/stable",
	} {
		u := uploader{}
		refs := map[string]string{ref: u.commit(t, ref, appTree("org.test.Hello", "v1"))}
		if _, err := h.upload(u).Commit(t.Context(), CommitRequest{Refs: refs}, nil); !errors.Is(err, flatpak.ErrRef) {
			t.Errorf("%s: committed, %v", key, err)
		}
		requests = append(requests, h.raw(key, u, refs))
	}
	removed := h.appRequest("bad build", "org.test.Removed")
	if err := removed.Build.Remove(context.Background()); err != nil {
		t.Fatal(err)
	}
	requests = append(requests, removed, h.appRequest("two", "org.test.Two"))
	h.isolated(requests...)
	if strings.Contains(h.log.String(), "together") {
		t.Error("it was noticed only in the end")
	}
}

// mediaRequest commits an application with its media.
func (h *hub) mediaRequest(key, id string, content tree) PublishRequest {
	h.t.Helper()
	const screenshots = "screenshots/x86_64"
	u := uploader{}
	req := h.commit(u, map[string]string{
		appRef(id):  u.commit(h.t, appRef(id), appTree(id, "v1")),
		screenshots: u.commit(h.t, screenshots, content),
	})
	req.Key = key
	return req
}

// TestFilesInPlaceOfFolders has media stand where others have folders: what is
// published, and what another request brings.
func TestFilesInPlaceOfFolders(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.publish(h.mediaRequest("first", "org.test.Hello", tree{"org.test.Hello/a/1.png": "PNG", "org.test.Hello/b": "PNG"}))
	result := h.isolated(
		h.mediaRequest("bad file", "org.test.Hello", tree{"org.test.Hello/a": "PNG"}),
		h.mediaRequest("bad folder", "org.test.Hello", tree{"org.test.Hello/b/1.png": "PNG"}),
		h.mediaRequest("new file", "org.test.Hello", tree{"org.test.Hello/c": "PNG c", "org.test.Hello/d/1.png": "PNG d"}),
		h.mediaRequest("bad new folder", "org.test.Hello", tree{"org.test.Hello/c/1.png": "PNG"}),
		h.mediaRequest("bad new file", "org.test.Hello", tree{"org.test.Hello/d": "PNG"}),
	)
	for key, err := range result.Failed {
		if !errors.Is(err, errMediaConflict) {
			t.Errorf("%s: %v", key, err)
		}
	}
	if strings.Contains(h.log.String(), "together") {
		t.Error("it was noticed only in the end")
	}
}

// TestMediaOfSeveralBuilds has two applications bring refs of the same name.
func TestMediaOfSeveralBuilds(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	requests := []PublishRequest{
		h.mediaRequest("one", "org.test.One", tree{"org.test.One/1.png": "PNG 1"}),
		h.mediaRequest("two", "org.test.Two", tree{"org.test.Two/2.png": "PNG 2"}),
		h.mediaRequest("newer", "org.test.One", tree{"org.test.One/1.png": "PNG 3"}),
	}
	result := h.isolated(requests...)
	for file, want := range map[string]string{"org.test.One/1.png": "PNG 3", "org.test.Two/2.png": "PNG 2"} {
		if got := readFile(t, h.opt.Dir+"/media/"+file); got != want {
			t.Errorf("%s is %q", file, got)
		}
	}
	for _, req := range requests {
		sum, err := ostree.ParseChecksum(result.Refs[req.Key]["screenshots/x86_64"])
		if err != nil || sum.String() != req.Refs["screenshots/x86_64"] {
			t.Errorf("%s: %v, %v", req.Key, maps.Clone(result.Refs[req.Key]), err)
		}
	}
}
