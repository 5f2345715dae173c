package repository

import (
	"bytes"
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freshet/internal/ostree"
	"freshet/internal/peertest"
)

// TestRealClients publishes two versions to the programs that people use.
func TestRealClients(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "flatpak", "ostree", "gpg")
	signer, key := newSigner(t)
	h := newHub(t, func(o *Options) {
		o.Signer = signer
		o.BaseURL = "http://127.0.0.1/repo"
	})
	url := h.serve()
	const id = "org.test.Hello"

	u := uploader{}
	refs := map[string]string{
		platformRef: u.commit(t, platformRef, runtimeTree(t)),
		appRef(id):  u.commit(t, appRef(id), appTree(id, "v1")),
	}
	h.publish(h.commit(u, refs))
	fsck(t, h.opt.Dir)

	c := newClient(t)
	c.flatpak("remote-add", "--gpg-import="+key, "hub", url)
	c.flatpak("install", "-y", "--noninteractive", "hub", id)
	if got := c.installed(id, "bin/hello"); !strings.Contains(got, "hello v1") {
		t.Errorf("installed %q", got)
	}
	c.run(id, "hello v1")
	c.flatpak("update", "--appstream", "hub")
	if got := c.catalogue(); !strings.Contains(got, "Hello v1") {
		t.Errorf("catalogue %q", got)
	}

	h.publishApp(id, "v2")
	fsck(t, h.opt.Dir)
	c.flatpak("update", "-y", "--noninteractive")
	if got := c.installed(id, "bin/hello"); !strings.Contains(got, "hello v2") {
		t.Errorf("updated to %q", got)
	}
	c.run(id, "hello v2")
	c.flatpak("update", "--appstream", "hub")
	if got := c.catalogue(); !strings.Contains(got, "Hello v2") {
		t.Errorf("catalogue %q", got)
	}

	mirror := filepath.Join(t.TempDir(), "mirror")
	peertest.Run(t, "", nil, "ostree", "init", "--repo="+mirror, "--mode=archive")
	peertest.Run(t, "", nil, "ostree", "--repo="+mirror, "remote", "add", "--gpg-import="+key, "--set=gpg-verify=true", "--set=gpg-verify-summary=true", "hub", url)
	peertest.Run(t, "", nil, "ostree", "--repo="+mirror, "pull", "--mirror", "hub")
	fsck(t, mirror)
	repo, err := ostree.OpenRepo(os.DirFS(mirror))
	if err != nil {
		t.Fatal(err)
	}
	// The summary names the collection, under which ostree then files the refs.
	mirrored, err := repo.ResolveMirrorRef("org.test.Stable", appRef(id))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(peertest.Run(t, "", nil, "ostree", "--repo="+mirror, "cat", mirrored.String(), "files/bin/hello")); !strings.Contains(got, "v2") {
		t.Errorf("mirrored %q", got)
	}
}

// catalogue reads the appstream data of the client.
func (c *client) catalogue() string {
	c.t.Helper()
	data, err := os.ReadFile(filepath.Join(c.dir, "user", "appstream", "hub", "x86_64", "active", "appstream.xml"))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(data)
}

// builder is a machine with flatpak's own tools.
type builder struct {
	t   testing.TB
	dir string // of its repository
}

func newBuilder(t testing.TB, flags ...string) *builder {
	t.Helper()
	peertest.Require(t, "flatpak", "ostree")
	b := &builder{t: t, dir: filepath.Join(t.TempDir(), "repo")}
	peertest.Run(t, "", nil, "ostree", append([]string{"init", "--repo=" + b.dir, "--mode=archive-z2"}, flags...)...)
	return b
}

// export makes a commit of a tree by flatpak build-export.
func (b *builder) export(content tree, flags ...string) {
	b.t.Helper()
	dir := b.t.TempDir()
	kind := []string{}
	if strings.HasPrefix(content["metadata"], "[Runtime]") {
		kind = append(kind, "--runtime")
	}
	for _, sub := range []string{"files", "export", "usr"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			b.t.Fatal(err)
		}
	}
	for path, text := range content {
		if len(kind) > 0 {
			path = strings.Replace(path, "files/", "usr/", 1)
		}
		path = filepath.Join(dir, path)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if target, ok := strings.CutPrefix(text, "-> "); ok && err == nil {
			err = os.Symlink(target, path)
		} else if err == nil {
			mode := os.FileMode(0o644)
			if strings.Contains(path, "bin/") {
				mode = 0o755
			}
			err = os.WriteFile(path, []byte(text), mode)
		}
		if err != nil {
			b.t.Fatal(err)
		}
	}
	args := append([]string{"build-export", "--disable-sandbox", "--no-update-summary"}, kind...)
	args = append(append(args, flags...), b.dir, dir, "stable")
	peertest.Run(b.t, "", []string{"XDG_CACHE_HOME=" + b.t.TempDir()}, "flatpak", args...)
}

// push uploads what a ref needs, as the clients of the hub do, and its
// from-scratch delta.
func (b *builder) push(h *hub, refs ...string) PublishRequest {
	b.t.Helper()
	repo, err := ostree.OpenRepo(os.DirFS(b.dir))
	if err != nil {
		b.t.Fatal(err)
	}
	h.next++
	build, err := h.repo.Build(h.next)
	if err != nil {
		b.t.Fatal(err)
	}
	commits := map[string]string{}
	for _, ref := range refs {
		sum, err := repo.ResolveRef(ref)
		if err != nil {
			b.t.Fatal(err)
		}
		commits[ref] = sum.String()
		err = repo.Walk(b.t.Context(), sum, func(name ostree.ObjectName) error {
			data, err := os.ReadFile(filepath.Join(b.dir, name.Path()))
			if err == nil {
				_, err = build.PutObject(context.Background(), name, bytes.NewReader(data))
			}
			return err
		})
		if err != nil {
			b.t.Fatal(err)
		}
		b.pushDelta(build, ostree.DeltaName{To: sum})
	}
	made, err := build.Commit(b.t.Context(), CommitRequest{Refs: commits}, &h.log)
	if err != nil {
		b.t.Fatal(err)
	}
	return PublishRequest{Key: fmt.Sprintf("build-%d", h.next), Build: build, Refs: made}
}

func (b *builder) pushDelta(build *Build, name ostree.DeltaName) {
	b.t.Helper()
	entries, err := os.ReadDir(filepath.Join(b.dir, name.Dir()))
	if os.IsNotExist(err) {
		return
	}
	if err != nil {
		b.t.Fatal(err)
	}
	for _, entry := range entries {
		file, err := ostree.ParseDeltaPath(name.Dir() + "/" + entry.Name())
		if err != nil {
			continue // meta
		}
		data, err := os.ReadFile(filepath.Join(b.dir, file.Path()))
		if err == nil {
			_, err = build.PutDelta(context.Background(), file, bytes.NewReader(data))
		}
		if err != nil {
			b.t.Fatal(err)
		}
	}
}

// TestRealBuilds publishes what flatpak build-export made, with a static delta.
func TestRealBuilds(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "gpg")
	signer, key := newSigner(t)
	h := newHub(t, func(o *Options) {
		o.Signer, o.DeployCollectionID = signer, true
	})
	const id = "org.test.Hello"
	b := newBuilder(t)
	big := appTree(id, "v1")
	big["files/bin/blob"] = noise(3_000_000)
	b.export(runtimeTree(t))
	b.export(big)
	peertest.Run(t, "", nil, "flatpak", "build-update-repo", "--generate-static-deltas", b.dir)
	request := b.push(h, platformRef, appRef(id))
	h.publish(request)
	fsck(t, h.opt.Dir)
	h.check()
	if !strings.Contains(h.log.String(), "static delta of "+appRef(id)+" verified") {
		t.Errorf("the delta was lost:\n%s", h.log.String())
	}

	// A restart finds the delta, and writes its index again when that is lost.
	index := filepath.Join(h.opt.Dir, ostree.DeltaIndexPath(checksum(t, h.headSum(appRef(id)))))
	before := readFile(t, index)
	if pending := h.reopen(); len(pending) != 0 {
		t.Errorf("pending: %+v", pending)
	}
	if err := os.Remove(index); err != nil {
		t.Fatal(err)
	}
	if pending := h.reopen(); len(pending) != 1 {
		t.Errorf("pending: %+v", pending)
	}
	if after := readFile(t, index); after != before {
		t.Error("the delta index is another one")
	}

	url := h.serve()
	c := newClient(t)
	c.flatpak("remote-add", "--gpg-import="+key, "hub", url)
	c.flatpak("install", "-y", "--noninteractive", "hub", id)
	if got := c.installed(id, "bin/hello"); !strings.Contains(got, "hello v1") {
		t.Errorf("installed %q", got)
	}

	v2 := appTree(id, "v2")
	v2["files/bin/blob"] = big["files/bin/blob"]
	b.export(v2, "--end-of-life=no longer needed")
	h.publish(b.push(h, appRef(id)))
	fsck(t, h.opt.Dir)
	h.check()
	c.flatpak("update", "-y", "--noninteractive")
	if got := c.installed(id, "bin/hello"); !strings.Contains(got, "hello v2") {
		t.Errorf("updated to %q", got)
	}
	delta := ostree.DeltaName{To: checksum(t, request.Refs[appRef(id)])}
	if _, err := os.Stat(filepath.Join(request.Build.dir, delta.SuperblockPath())); err != nil {
		t.Error(err)
	}
	fetched := 0
	h.requests.Range(func(path, _ any) bool {
		if path, _ := path.(string); strings.HasPrefix(path, "deltas/") {
			fetched++
		}
		return true
	})
	if fetched < 4 {
		t.Errorf("the client fetched %d files of deltas", fetched)
	}
	if info := infoOf(t, h.repo, appRef(id)); info.EndOfLife != "no longer needed" {
		t.Errorf("end of life %q", info.EndOfLife)
	}
	t.Log("\n" + h.log.String())
}

func checksum(t testing.TB, s string) ostree.Checksum {
	t.Helper()
	sum, err := ostree.ParseChecksum(s)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// noise does not compress.
func noise(n int) string {
	b := make([]byte, n)
	x := uint64(88172645463325252)
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return string(b)
}

// TestRealClientOfBuild installs from a build before it is published.
func TestRealClientOfBuild(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "flatpak", "gpg")
	signer, key := newSigner(t)
	h := newHub(t, func(o *Options) { o.BuildSigner = signer })
	u := uploader{}
	const id = "org.test.Hello"
	runtime := u.commit(t, platformRef, runtimeTree(t))
	h.publish(h.commit(u, map[string]string{platformRef: runtime}))
	sum := u.commit(t, appRef(id), appTree(id, "v1"))
	// Both refs; the runtime's objects are those of the repository.
	b := h.commit(u, map[string]string{platformRef: runtime, appRef(id): sum}).Build
	server := httptest.NewServer(files(func(path string) (*os.File, error) { return b.Open(t.Context(), path) }))
	t.Cleanup(server.Close)
	c := newClient(t)
	c.flatpak("remote-add", "--gpg-import="+key, "build", server.URL)
	c.flatpak("install", "-y", "--noninteractive", "build", id)
	if got := c.installed(id, "bin/hello"); !strings.Contains(got, "hello v1") {
		t.Errorf("installed %q", got)
	}
}

// TestForeignRepository takes over a repository that flatpak's tools made.
func TestForeignRepository(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "flatpak", "ostree")
	b := newBuilder(t, "--collection-id=org.test.Foreign")
	const id = "org.test.Hello"
	b.export(runtimeTree(t))
	b.export(appTree(id, "v1"))
	peertest.Run(t, "", nil, "flatpak", "build-update-repo", "--title=Made by flatpak", "--generate-static-deltas", b.dir)
	before := readFile(t, b.dir+"/"+ostree.RefPath("appstream2/x86_64"))

	h := newHub(t, func(o *Options) { o.Dir, o.CollectionID, o.Title = b.dir, "", "" })
	fsck(t, b.dir)
	if after := readFile(t, b.dir+"/"+ostree.RefPath("appstream2/x86_64")); after != before {
		t.Error("the catalogue of flatpak is not what we would make")
	}
	if title, _ := h.summary().Metadata.Str("xa.title"); title != "Made by flatpak" {
		t.Errorf("title %q", title)
	}
	deltas, _ := h.summary().Metadata.Get("ostree.static-deltas")
	if deltas.Len() == 0 {
		t.Error("the static deltas are not listed")
	}
	result := h.publishApp(id, "v2")
	h.check()
	fsck(t, b.dir)
	if len(h.cache) != 4 { // two refs, two appstream branches
		t.Errorf("%d refs cached", len(h.cache))
	}
	if parent := h.head(appRef(id)).Parent; parent.IsZero() {
		t.Error("the history ends")
	}
	if len(result.Infos) != 4 {
		t.Errorf("%d infos", len(result.Infos))
	}
	// And back: flatpak's tools go on with what we made.
	b.export(appTree(id, "v3"))
	peertest.Run(t, "", nil, "flatpak", "build-update-repo", b.dir)
	fsck(t, b.dir)
	h.reopen()
	h.publishApp("org.test.Other", "v1")
	h.check()
	fsck(t, b.dir)
}
