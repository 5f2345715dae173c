package repository

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"freshet/internal/flatpak"
	"freshet/internal/ostree"
	"freshet/internal/peertest"
)

// TestNewSigningKey has the operator exchange the key: clients that know the new
// one only install everything, and nothing of it was published anew.
func TestNewSigningKey(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "flatpak", "ostree", "gpg")
	const id = "org.test.Hello"
	before, beforeKey := newSigner(t)
	after, afterKey := newSigner(t)
	h := newHub(t, func(o *Options) { o.Signer, o.BaseURL = before, "https://dl.example.org/repo" })
	u := uploader{}
	h.publish(h.commit(u, map[string]string{
		platformRef: u.commit(t, platformRef, runtimeTree(t)),
		appRef(id):  u.commit(t, appRef(id), appTree(id, "v1")),
	}))
	commit := checksum(t, h.headSum(appRef(id)))
	meta := commitMetaName(commit).Path()

	var log bytes.Buffer
	h.opt.Signer, h.opt.Log = after, slog.New(slog.NewTextHandler(&log, nil))
	pending := h.reopen()
	if len(pending) != 1 {
		t.Fatalf("pending: %+v", pending)
	}
	for _, file := range []string{"summary", "summary.sig", "summary.idx.sig", meta, "stable.flatpakrepo", "appstream/" + id + ".flatpakref"} {
		if !slices.Contains(pending[0].Changed, file) {
			t.Errorf("%s is not among what changed: %q", file, pending[0].Changed)
		}
	}
	if n := strings.Count(log.String(), "commits=4 "); n != 1 || !strings.Contains(log.String(), after.Keys()[0].ID) {
		t.Errorf("log:\n%s", log.String())
	}
	if got := h.headSum(appRef(id)); got != commit.String() {
		t.Errorf("the commit is another one: %s", got)
	}
	// The signature of the old key is still there.
	detached, err := h.objects().DetachedMeta(commit)
	if err != nil || len(ostree.GPGSignatures(detached)) != 2 {
		t.Errorf("%d signatures: %v", len(ostree.GPGSignatures(detached)), err)
	}
	h.check()
	fsck(t, h.opt.Dir)

	if pending := h.reopen(); len(pending) != 0 {
		t.Errorf("pending: %+v", pending)
	}
	// What is remembered of the signatures may be lost.
	if err := os.Remove(filepath.Join(h.opt.Dir, signersFile)); err != nil {
		t.Fatal(err)
	}
	if pending := h.reopen(); len(pending) != 0 {
		t.Errorf("pending: %+v", pending)
	}
	if n := strings.Count(log.String(), "signed anew"); n != 1 {
		t.Errorf("%d times signed anew:\n%s", n, log.String())
	}

	url := h.serve()
	for _, key := range []string{beforeKey, afterKey} {
		mirror := filepath.Join(t.TempDir(), "mirror")
		peertest.Run(t, "", nil, "ostree", "init", "--repo="+mirror, "--mode=archive")
		peertest.Run(t, "", nil, "ostree", "--repo="+mirror, "remote", "add", "--gpg-import="+key, "--set=gpg-verify=true", "hub", url)
		peertest.Run(t, "", nil, "ostree", "--repo="+mirror, "pull", "hub", appRef(id))
	}
	c := newClient(t)
	c.flatpak("remote-add", "--gpg-import="+afterKey, "hub", url)
	c.flatpak("install", "-y", "--noninteractive", "hub", id)
	if got := c.installed(id, "bin/hello"); !strings.Contains(got, "hello v1") {
		t.Errorf("installed %q", got)
	}
}

// TestNewKeyDropsDeltas: a delta holds a copy of the signatures of its commit.
func TestNewKeyDropsDeltas(t *testing.T) {
	t.Parallel()
	before, _ := newSigner(t)
	after, _ := newSigner(t)
	h := newHub(t, func(o *Options) { o.Signer = before })
	h.publishApp("org.test.Hello", "v1")
	head := h.head(appRef("org.test.Hello"))
	name := ostree.DeltaName{To: ostree.ChecksumOf(head.Encode())}
	block := ostree.Superblock{Name: name, Commit: head}
	path := filepath.Join(h.opt.Dir, name.SuperblockPath())
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, string(block.Encode()))
	if pending := h.reopen(); len(pending) != 1 {
		t.Errorf("pending: %+v", pending)
	}
	if _, listed := h.summary().Metadata.Get("ostree.static-deltas"); !listed {
		t.Fatal("the delta is not listed")
	}
	h.opt.Signer = after
	h.reopen()
	if deltas, listed := h.summary().Metadata.Get("ostree.static-deltas"); listed && deltas.Len() != 0 {
		t.Error("the delta is listed")
	}
	for _, file := range []string{path, filepath.Join(h.opt.Dir, ostree.DeltaIndexPath(name.To))} {
		if _, err := os.Stat(file); err == nil {
			t.Errorf("%s is there", file)
		}
	}
	h.check()
	if pending := h.reopen(); len(pending) != 0 {
		t.Errorf("pending: %+v", pending)
	}
}

// TestNoMoreSigning has the operator take the key away, and give it back.
func TestNoMoreSigning(t *testing.T) {
	t.Parallel()
	signer, _ := newSigner(t)
	h := newHub(t, func(o *Options) { o.Signer = signer })
	h.publishApp("org.test.One", "v1")
	h.opt.Signer = nil
	if pending := h.reopen(); len(pending) != 1 || !slices.Contains(pending[0].Changed, "summary.sig") {
		t.Errorf("pending: %+v", pending)
	}
	for _, file := range []string{"summary.sig", "summary.idx.sig"} {
		if _, err := os.Stat(filepath.Join(h.opt.Dir, file)); err == nil {
			t.Errorf("%s is of an older summary", file)
		}
	}
	h.publishApp("org.test.Two", "v1")
	unsigned := commitMetaName(checksum(t, h.headSum(appRef("org.test.Two")))).Path()
	h.opt.Signer = signer
	if pending := h.reopen(); len(pending) != 1 || !slices.Contains(pending[0].Changed, unsigned) {
		t.Errorf("pending: %+v", pending)
	}
	h.check()
}

// TestNewCollection: clients are bound to the collection id, and so are commits.
func TestNewCollection(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.opt.CollectionID = "org.test.Empty"
	h.reopen() // nothing is published yet
	h.publishApp("org.test.Hello", "v1")
	config := readFile(t, h.opt.Dir+"/config")
	h.close()
	for _, lost := range []bool{false, true} {
		if lost { // then the commits tell
			writeFile(t, h.opt.Dir+"/config", strings.Replace(config, "collection-id=org.test.Empty\n", "", 1))
		}
		opt := h.opt
		opt.CollectionID = "org.test.Other"
		_, _, err := Open(t.Context(), opt, h.cache)
		if !errors.Is(err, ErrCollection) || !strings.Contains(err.Error(), `"org.test.Other"`) || !strings.Contains(err.Error(), `"org.test.Empty"`) {
			t.Errorf("config lost %v: %v", lost, err)
		}
		if !lost && readFile(t, h.opt.Dir+"/config") != config {
			t.Error("the config was changed")
		}
	}
	h.open()
	h.check()
}

// TestDamagedFilesAreWrittenAnew has the disk lose the end, or all, of whatever
// can be made again.
func TestDamagedFilesAreWrittenAnew(t *testing.T) {
	t.Parallel()
	signer, _ := newSigner(t)
	h := newHub(t, func(o *Options) { o.Signer, o.BaseURL = signer, "https://dl.example.org/repo" })
	h.publishApp("org.test.Hello", "v1")
	if pending := h.reopen(); len(pending) != 0 {
		t.Fatalf("pending: %+v", pending)
	}
	digest := ostree.ChecksumOf([]byte(readFile(t, h.opt.Dir+"/summary.idx")))
	addressed := ostree.SummaryIndexSignaturePath(digest)
	for _, file := range []string{
		addressed, "config", "summary", "summary.sig", "summary.idx", "summary.idx.sig", "stable.flatpakrepo", "appstream/org.test.Hello.flatpakref",
	} {
		path := filepath.Join(h.opt.Dir, file)
		whole := readFile(t, path)
		for _, damage := range []string{whole[:len(whole)/2], whole[:len(whole)-2] + "xx", ""} {
			if file == "config" {
				damage = ""
			}
			writeFile(t, path, damage)
			if pending := h.reopen(); len(pending) != 1 {
				t.Errorf("%s with %d of %d bytes: pending: %+v", file, len(damage), len(whole), pending)
			}
			h.check()
			if pending := h.reopen(); len(pending) != 0 {
				t.Errorf("%s is not stable: %+v", file, pending)
			}
			if strings.HasSuffix(file, ".flatpakrepo") || strings.HasSuffix(file, ".flatpakref") || file == "config" {
				if got := readFile(t, path); got != whole {
					t.Errorf("%s: %q, want %q", file, got, whole)
				}
			}
			if file == addressed {
				break // the next index has another digest
			}
			whole = readFile(t, path)
		}
	}
}

func TestChooseRefFile(t *testing.T) {
	t.Parallel()
	all := []refFile{}
	for _, branch := range []string{"beta", "stable", "test"} {
		ref, err := flatpak.ParseUploadRef("app/org.test.Hello/x86_64/" + branch)
		if err != nil {
			t.Fatal(err)
		}
		opt := Options{Name: "a", BaseURL: "https://dl.example.org/"}
		_, data, err := opt.refFile(ref)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, refFile{branch, data})
	}
	for name, c := range map[string]struct {
		before, branch, want string
	}{
		"as it is":      {string(all[0].data), "stable", "beta"},
		"same branch":   {strings.Replace(string(all[0].data), "example", "old", 1), "stable", "beta"},
		"default":       {"", "stable", "stable"},
		"no default":    {"", "", "test"},
		"branch is old": {"[Flatpak Ref]\nBranch=gone\n", "stable", "stable"},
	} {
		got := chooseRefFile(all, []byte(c.before), c.branch)
		if !strings.Contains(string(got), "\nBranch="+c.want+"\n") {
			t.Errorf("%s: %s", name, got)
		}
	}
}
