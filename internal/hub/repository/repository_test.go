package repository

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"freshet/internal/ostree"
)

func TestPublishTwoVersions(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.check()
	u := uploader{}
	runtime := u.commit(t, platformRef, runtimeTree(t))
	hello := u.commit(t, appRef("org.test.Hello"), appTree("org.test.Hello", "v1"))
	request := h.commit(u, map[string]string{platformRef: runtime, appRef("org.test.Hello"): hello})
	first := h.publish(request)
	h.check()
	if got := len(first.Refs["build-1"]); got != 2 {
		t.Errorf("%d refs published", got)
	}
	for _, want := range []string{
		"summary", "summary.idx", "refs/heads/" + platformRef, "refs/heads/appstream/x86_64", "refs/heads/appstream2/x86_64",
	} {
		if !slices.Contains(first.Changed, want) {
			t.Errorf("%s is not among what changed: %q", want, first.Changed)
		}
	}
	head := h.head(appRef("org.test.Hello"))
	if from, _ := head.Metadata.Str("xa.from_commit"); from != request.Refs[appRef("org.test.Hello")] {
		t.Errorf("made of %s", from)
	}

	second := h.publishApp("org.test.Hello", "v2")
	h.check()
	after := h.head(appRef("org.test.Hello"))
	if after.Parent.String() != first.Refs["build-1"][appRef("org.test.Hello")] {
		t.Errorf("parent of the second version is %s", after.Parent)
	}
	if n := second.Stats.NewObjects; n < 5 || n > 25 {
		t.Errorf("%d new objects for a small change", n)
	}
	for _, file := range second.Changed {
		if strings.Contains(file, platform) {
			t.Errorf("%s changed, although the runtime did not", file)
		}
	}
	t.Log("\n" + h.log.String())
}

func TestReopenFindsEverythingAsItWas(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.publishApp("org.test.One", "v1")
	h.publishApp("org.test.Two", "v1")
	before := readFile(t, h.opt.Dir+"/summary.idx")
	if pending := h.reopen(); len(pending) != 0 {
		t.Errorf("pending: %v", pending)
	}
	if n := len(h.repo.unsaved); n != 0 {
		t.Errorf("%d refs were read again", n)
	}
	if after := readFile(t, h.opt.Dir+"/summary.idx"); after != before {
		t.Error("the summary was written anew")
	}
	// The history goes on.
	h.publishApp("org.test.One", "v2")
	h.check()
	deltas := 0
	for _, file := range dirNames(t, h.opt.Dir+"/summaries") {
		if strings.HasSuffix(file, ".delta") {
			deltas++
		}
	}
	if deltas != 2 { // from the one app and from the two apps
		t.Errorf("%d summary deltas", deltas)
	}
}

// TestDiskDecides has another program move a ref behind the back of a
// repository that is closed, and of one that is open.
func TestDiskDecides(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	ref := appRef("org.test.Hello")
	v1 := h.publishApp("org.test.Hello", "v1").Refs["build-1"][ref]
	h.publishApp("org.test.Hello", "v2")
	writeFile(t, h.opt.Dir+"/"+ostree.RefPath(ref), v1+"\n")
	pending := h.reopen()
	if len(pending) != 1 || !strings.HasPrefix(pending[0].Keys[0], "refresh-") || !slices.Contains(pending[0].Changed, "summary") {
		t.Errorf("pending: %+v", pending)
	}
	h.check()
	if got := infoOf(t, h.repo, ref).Checksum.String(); got != v1 {
		t.Errorf("the index has %s", got)
	}
	writeFile(t, h.opt.Dir+"/"+ostree.RefPath(ref), h.head(ref).Parent.String()+"\n") // breaks it, on purpose: no parent
	if err := os.Remove(h.opt.Dir + "/" + ostree.RefPath(ref)); err != nil {
		t.Fatal(err)
	}
	h.publishApp("org.test.Hello", "v3")
	h.check()
	if parent := h.head(ref).Parent; !parent.IsZero() {
		t.Errorf("parent is %s", parent)
	}
}

func TestOpenFile(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.publishApp("org.test.Hello", "v1")
	for _, path := range []string{"config", "summary", "refs/heads/" + appRef("org.test.Hello")} {
		f, err := h.repo.OpenFile(path)
		if err != nil {
			t.Error(err)
			continue
		}
		_ = f.Close()
	}
	for _, path := range []string{
		"", ".", "/", "..", "../stable/config", "objects", "summary/", "summary/x", ".lock", ".store.lock", "tmp", "tmp/x",
		"a\x00b", strings.Repeat("a", 300), "state/x",
	} {
		if f, err := h.repo.OpenFile(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v, %v", path, f, err)
		}
	}
}

func TestEmptyRepositoryIsServed(t *testing.T) {
	t.Parallel()
	signer, _ := newSigner(t)
	h := newHub(t, func(o *Options) {
		o.Signer = signer
		o.BaseURL = "https://dl.example.org/repo/"
		o.Subsets = []string{"floss"}
	})
	for _, path := range []string{
		"config", "summary", "summary.sig", "summary.idx", "summary.idx.sig", "stable.flatpakrepo", "stable-floss.flatpakrepo",
	} {
		if _, err := os.Stat(h.opt.Dir + "/" + path); err != nil {
			t.Error(err)
		}
	}
	text := readFile(t, h.opt.Dir+"/stable-floss.flatpakrepo")
	for _, line := range []string{"Url=https://dl.example.org/repo\n", "Subset=floss\n", "GPGKey=", "Title=Test repository\n"} {
		if !strings.Contains(text, line) {
			t.Errorf("no %q in %q", line, text)
		}
	}
}

// TestNewOptions has the operator change what the repository says of itself.
func TestNewOptions(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.publishApp("org.test.Hello", "v1")
	h.opt.Title = "Another title"
	pending := h.reopen()
	if len(pending) != 1 || !slices.Contains(pending[0].Changed, "config") || !slices.Contains(pending[0].Changed, "summary.idx") {
		t.Fatalf("pending: %+v", pending)
	}
	summary := h.summary()
	if title, _ := summary.Metadata.Str("xa.title"); title != "Another title" {
		t.Errorf("title %q", title)
	}
	if pending := h.reopen(); len(pending) != 0 {
		t.Errorf("pending: %+v", pending)
	}
}

// TestDamagedSummaryIsMadeAnew has the disk lose what can be made again.
func TestDamagedSummaryIsMadeAnew(t *testing.T) {
	t.Parallel()
	for _, damage := range []string{"rubbish", ""} {
		h := newHub(t)
		h.publishApp("org.test.Hello", "v1")
		for _, name := range []string{"summary.idx", "summary"} {
			path := h.opt.Dir + "/" + name
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if damage != "" {
				writeFile(t, path, damage)
			}
		}
		if pending := h.reopen(); len(pending) != 1 || !slices.Contains(pending[0].Changed, "summary.idx") {
			t.Errorf("%q: pending: %+v", damage, pending)
		}
		h.check()
		if _, err := ostree.ParseSummaryIndex([]byte(readFile(t, h.opt.Dir+"/summary.idx"))); err != nil {
			t.Errorf("%q: %v", damage, err)
		}
		if pending := h.reopen(); len(pending) != 0 {
			t.Errorf("%q: pending: %+v", damage, pending)
		}
	}
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func writeFile(t testing.TB, path, data string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

func dirNames(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}
