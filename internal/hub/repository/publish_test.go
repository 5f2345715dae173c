package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"freshet/internal/flatpak"
	"freshet/internal/gvariant"
	"freshet/internal/hub/repolock"
	"freshet/internal/ostree"
	"freshet/internal/ostree/ostreetest"
	"freshet/internal/peertest"
)

func TestPublishesMerge(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	var requests []PublishRequest
	for _, id := range []string{"org.test.One", "org.test.Two", "org.test.Three"} {
		u := uploader{}
		sum := u.commit(t, appRef(id), appTree(id, "v1"))
		requests = append(requests, h.commit(u, map[string]string{appRef(id): sum}))
	}
	// The same ref once more, and a request that cannot be published.
	u := uploader{}
	sum := u.commit(t, appRef("org.test.One"), appTree("org.test.One", "v2"))
	requests = append(requests, h.commit(u, map[string]string{appRef("org.test.One"): sum}))
	requests = append(requests, PublishRequest{
		Key: "broken", Build: requests[0].Build,
		Refs: map[string]string{appRef("org.test.Broken"): strings.Repeat("ab", 32)},
	})
	calls := 0
	result, err := h.repo.Publish(t.Context(), requests, &h.log, func(result Result) error {
		calls++
		return h.cache.save(result)
	})
	if err != nil || calls != 1 {
		t.Fatalf("%d calls, %v", calls, err)
	}
	if want := []string{"build-1", "build-2", "build-3", "build-4"}; !slices.Equal(result.Keys, want) {
		t.Errorf("keys %q", result.Keys)
	}
	var missing *MissingError
	if !errors.As(result.Failed["broken"], &missing) || missing.Ref != appRef("org.test.Broken") {
		t.Errorf("failed: %v", result.Failed)
	}
	head := result.Refs["build-4"][appRef("org.test.One")]
	if result.Refs["build-1"][appRef("org.test.One")] != head {
		t.Error("the later build does not count")
	}
	commit := h.head(appRef("org.test.One"))
	if from, _ := commit.Metadata.Str("xa.from_commit"); from != requests[3].Refs[appRef("org.test.One")] || !commit.Parent.IsZero() {
		t.Errorf("made of %s, parent %s", from, commit.Parent)
	}
	h.check()
}

func TestOnlyFailuresIsAFailure(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	b, err := h.repo.Build(1)
	if err != nil {
		t.Fatal(err)
	}
	for name, refs := range map[string]map[string]string{
		"nothing":     nil,
		"bad ref":     {"app/x": strings.Repeat("ab", 32)},
		"bad commit":  {appRef("org.test.App"): "xyz"},
		"no commit":   {appRef("org.test.App"): ""},
		"not present": {appRef("org.test.App"): strings.Repeat("ab", 32)},
	} {
		result, err := h.repo.Publish(t.Context(), []PublishRequest{{Key: "k", Build: b, Refs: refs}}, nil, func(Result) error {
			t.Errorf("%s: commit is called", name)
			return nil
		})
		if err == nil || refs != nil && result.Failed["k"] == nil {
			t.Errorf("%s: %v, %v", name, err, result.Failed)
		}
	}
}

func TestPublishingTheSameAgainChangesNothing(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	u := uploader{}
	ref := appRef("org.test.Hello")
	sum := u.commit(t, ref, appTree("org.test.Hello", "v1"))
	request := h.commit(u, map[string]string{ref: sum})
	first := h.publish(request)
	summary := readFile(t, h.opt.Dir+"/summary")
	second := h.publish(request)
	if len(second.Changed) != 0 || second.Refs["build-1"][ref] != first.Refs["build-1"][ref] {
		t.Errorf("changed %q, %v", second.Changed, second.Refs)
	}
	third := h.publish(h.commit(u, map[string]string{ref: sum}), PublishRequest{Key: "again", Refs: map[string]string{ref: ""}})
	if len(third.Changed) != 0 || third.Refs["again"][ref] != first.Refs["build-1"][ref] {
		t.Errorf("changed %q, %v", third.Changed, third.Refs)
	}
	if readFile(t, h.opt.Dir+"/summary") != summary {
		t.Error("the summary was written anew")
	}
}

func TestRepublishWithEndOfLife(t *testing.T) {
	t.Parallel()
	h := newHub(t, withFloss)
	ref := appRef("org.test.Hello")
	h.publishApp("org.test.Hello", "v1")
	before := h.head(ref)
	tokenType := int32(1)
	h.publish(PublishRequest{
		Key: "eol", Refs: map[string]string{ref: ""},
		EndOfLife: "renamed", EndOfLifeRebase: "org.test.Hallo", AppID: "org.test.Hello",
		TokenType: &tokenType, Subsets: []string{"floss"},
	})
	h.check()
	after := h.head(ref)
	if after.Tree != before.Tree {
		t.Error("the tree changed")
	}
	if eol, _ := after.Metadata.Str("ostree.endoflife"); eol != "renamed" {
		t.Errorf("end of life %q", eol)
	}
	if rebase, _ := after.Metadata.Str("ostree.endoflife-rebase"); rebase != appRef("org.test.Hallo") {
		t.Errorf("rebase %q", rebase)
	}
	info := infoOf(t, h.repo, ref)
	if info.TokenType != 1 || !slices.Equal(info.Subsets, []string{"floss"}) {
		t.Errorf("token type %d, subsets %q", info.TokenType, info.Subsets)
	}
	// What has ended is in no catalogue.
	for _, branch := range []string{"appstream2/x86_64", "appstream2/floss-x86_64"} {
		sum, err := h.objects().ResolveRef(branch)
		if err != nil {
			t.Fatal(err)
		}
		xml, err := h.objects().ReadPath(sum, "appstream.xml", 1<<20)
		if err != nil || strings.Contains(string(xml), "org.test.Hello") {
			t.Errorf("%s: %v %q", branch, err, xml)
		}
	}
}

func TestExtraCollections(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	u := uploader{}
	ref := appRef("org.test.Hello")
	sum := u.commit(t, ref, appTree("org.test.Hello", "v1"))
	request := h.commit(u, map[string]string{ref: sum})
	request.ExtraCollections = []string{"org.test.Stable.Extra"}
	result := h.publish(request)
	mirrored, err := h.objects().ResolveMirrorRef("org.test.Stable.Extra", ref)
	if err != nil || mirrored.String() != result.Refs["build-1"][ref] {
		t.Errorf("mirrored %s, %v", mirrored, err)
	}
	bound, _ := h.head(ref).Metadata.Get(ostree.KeyCollectionRefsBinding)
	if bound.Len() != 2 || bound.Child(1).Child(0).Str() != "org.test.Stable.Extra" {
		t.Errorf("bound to %d collections", bound.Len())
	}
	if !slices.Contains(result.Changed, "refs/mirrors/org.test.Stable.Extra/"+ref) {
		t.Errorf("changed: %q", result.Changed)
	}
	fsckIfThere(t, h.opt.Dir)
}

// withFloss gives the repository a subset.
func withFloss(o *Options) { o.Subsets = []string{"floss"} }

func TestSubsets(t *testing.T) {
	t.Parallel()
	h := newHub(t, withFloss)
	h.publishApp("org.test.Free", "v1", gvariant.Entry{Key: "xa.subsets", Value: gvariant.Strings([]string{"floss"})})
	h.publishApp("org.test.Other", "v1")
	h.check()
	sum, err := h.objects().ResolveRef("appstream2/floss-x86_64")
	if err != nil {
		t.Fatal(err)
	}
	xml, err := h.objects().ReadPath(sum, "appstream.xml", 1<<20)
	if err != nil || !strings.Contains(string(xml), "org.test.Free") || strings.Contains(string(xml), "org.test.Other") {
		t.Errorf("%v %q", err, xml)
	}
	index, err := ostree.ParseSummaryIndex([]byte(readFile(t, h.opt.Dir+"/summary.idx")))
	if err != nil || len(index.Subsummaries) != 2 || index.Subsummaries[0].Name != "floss-x86_64" {
		t.Errorf("%v %+v", err, index)
	}
}

// TestDownloadSize has two builds bring the same file compressed differently:
// the published one stays, and the sizes are what the repository holds.
func TestDownloadSize(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	var lines strings.Builder
	for i := range 10000 {
		fmt.Fprintf(&lines, "line %d of something that compresses well ", i*i)
	}
	content := lines.String()
	trees := map[string]tree{}
	requests := map[string]PublishRequest{}
	var shared ostree.ObjectName
	for i, id := range []string{"org.test.One", "org.test.Two"} {
		u := uploader{}
		trees[id] = appTree(id, "v1")
		trees[id]["files/share/shared"] = content
		sum := u.commit(t, appRef(id), trees[id])
		for name := range u {
			if name.Type != ostree.TypeFile || len(u[name]) < 300 {
				continue
			}
			var again bytes.Buffer
			z, err := ostree.NewFilezReader(bytes.NewReader(u[name]))
			if err != nil {
				t.Fatal(err)
			}
			if z.Size() != uint64(len(content)) {
				continue
			}
			shared = name
			if i == 1 { // as another compressor would have it
				if _, err := ostree.WriteFilez(&again, *z.Header(), z.Size(), strings.NewReader(content), 1); err != nil {
					t.Fatal(err)
				}
				if again.Len() == len(u[name]) {
					t.Fatal("levels make no difference")
				}
				u[name] = again.Bytes()
			}
		}
		requests[id] = h.commit(u, map[string]string{appRef(id): sum})
	}
	h.publish(requests["org.test.One"])
	before := readFile(t, filepath.Join(h.opt.Dir, shared.Path()))
	h.publish(requests["org.test.Two"])
	if readFile(t, filepath.Join(h.opt.Dir, shared.Path())) != before {
		t.Error("a published object was replaced")
	}
	// A second version, whose size is that of the first plus the difference.
	trees["org.test.Two"]["files/share/more"] = noise(5000)
	delete(trees["org.test.Two"], "files/share/v1")
	u := uploader{}
	sum := u.commit(t, appRef("org.test.Two"), trees["org.test.Two"])
	h.publish(h.commit(u, map[string]string{appRef("org.test.Two"): sum}))
	for _, id := range []string{"org.test.One", "org.test.Two"} {
		commit := h.head(appRef(id))
		_, want, err := flatpak.TreeSizes(h.objects(), commit.Tree)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := commit.Metadata.Get(keyDownloadSize); got.Uint64BE() != want {
			t.Errorf("%s: download size %d, the files have %d", id, got.Uint64BE(), want)
		}
	}
}

func (h *hub) headSum(ref string) string {
	h.t.Helper()
	sum, _ := ostreetest.Head(h.t, h.objects(), ref)
	return sum.String()
}

func fsckIfThere(t testing.TB, dir string) {
	t.Helper()
	peertest.Require(t, "ostree")
	fsck(t, dir)
}

func TestScreenshotsBecomeMedia(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	u := uploader{}
	const ref = "screenshots/x86_64"
	sum := u.commit(t, ref, tree{"org.test.Hello/1.png": "PNG 1", "org.test.Hello/2.png": noise(100_000), "org.test.Hello/evil": "-> /etc/passwd"})
	result := h.publish(h.media(u, "org.test.Hello", map[string]string{ref: sum}))
	if got := readFile(t, h.opt.Dir+"/media/org.test.Hello/1.png"); got != "PNG 1" {
		t.Errorf("published %q", got)
	}
	if got := readFile(t, h.opt.Dir+"/media/org.test.Hello/2.png"); got != noise(100_000) {
		t.Errorf("published %d bytes", len(got))
	}
	if _, err := os.Lstat(h.opt.Dir + "/media/org.test.Hello/evil"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a symlink was published: %v", err)
	}
	// The summary is written anew for its serial.
	summary := []string{"summary", "summary.idx", "summary.idx.sig", "summary.sig"}
	if want := append([]string{"media/org.test.Hello/1.png", "media/org.test.Hello/2.png"}, summary...); !slices.Equal(result.Changed, want) {
		t.Errorf("changed %q", result.Changed)
	}
	h.check()
	u = uploader{}
	sum = u.commit(t, ref, tree{"org.test.Hello/1.png": "PNG a", "org.test.Hello/2.png": noise(100_000)})
	result = h.publish(h.media(u, "org.test.Hello", map[string]string{ref: sum}))
	if want := append([]string{"media/org.test.Hello/1.png"}, summary...); !slices.Equal(result.Changed, want) {
		t.Errorf("changed %q", result.Changed)
	}
}

// TestLock has another program delete objects, under the lock of libostree.
func TestLock(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	u := uploader{}
	ref := appRef("org.test.Hello")
	sum := u.commit(t, ref, appTree("org.test.Hello", "v1"))
	request := h.commit(u, map[string]string{ref: sum})
	root, err := os.OpenRoot(h.opt.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	other, err := repolock.Exclusive(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := h.repo.Publish(ctx, []PublishRequest{request}, nil, h.cache.save); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("published beside a deletion: %v", err)
	}
	done := make(chan error)
	go func() {
		_, err := h.repo.Publish(t.Context(), []PublishRequest{request}, nil, h.cache.save)
		done <- err
	}()
	if err := other.Release(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	// Beside somebody who adds, it goes on.
	if other, err = repolock.Shared(t.Context(), root); err != nil {
		t.Fatal(err)
	}
	defer other.Release()
	h.publishApp("org.test.Hello", "v2")
	h.check()
}
