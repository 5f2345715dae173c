package flatpak

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"freshet/internal/gvariant"
	"freshet/internal/ostree"
	"freshet/internal/peertest"
)

// signer is an OpenPGP key in a gpg home of its own.
type signer struct {
	t           *testing.T
	home        string
	fingerprint string
	public      []byte
}

func newSigner(t *testing.T) *signer {
	t.Helper()
	peertest.Require(t, "gpg", "gpgconf")
	s := &signer{t: t, home: t.TempDir()}
	if err := os.Chmod(s.home, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "gpgconf", "--homedir", s.home, "--kill", "all")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Logf("%v: %s", err, out)
		}
	})
	s.gpg(nil, "--passphrase", "", "--quick-gen-key", "test <test@test.example>", "ed25519", "sign", "never")
	for line := range strings.Lines(string(s.gpg(nil, "--list-secret-keys", "--with-colons"))) {
		if rest, ok := strings.CutPrefix(line, "fpr:"); ok && s.fingerprint == "" {
			s.fingerprint = strings.Trim(strings.TrimSpace(rest), ":")
		}
	}
	s.public = s.gpg(nil, "--export")
	return s
}

func (s *signer) gpg(input []byte, args ...string) []byte {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), "gpg", append([]string{"--homedir", s.home, "--batch", "--quiet", "--pinentry-mode", "loopback"}, args...)...)
	cmd.Stdin = bytes.NewReader(input)
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("gpg %s: %v", args, err)
	}
	return out
}

func (s *signer) sign(data []byte) ([][]byte, error) {
	return [][]byte{s.gpg(data, "--detach-sign")}, nil
}

// publish does what a publisher does with an Index.
func publish(t *testing.T, dir string, index *Index, now uint64, sign func([]byte) ([][]byte, error)) {
	t.Helper()
	sink := dirSink(dir)
	commits, err := index.BuildAppstream(sink, AppstreamOptions{CollectionID: "org.test.Stable", Now: now})
	if err != nil {
		t.Fatal(err)
	}
	for _, commit := range commits {
		signatures, err := sign(commit.Object)
		if err != nil {
			t.Fatal(err)
		}
		var detached gvariant.Dict
		ostree.SetGPGSignatures(&detached, signatures)
		if err := ostree.WriteDetached(sink, commit.Info.Checksum, ostree.EncodeDetached(detached)); err != nil {
			t.Fatal(err)
		}
		index.Update([]CommitInfo{commit.Info}, nil)
	}
	files, err := index.Build(BuildOptions{Repo: testRepoInfo(), Now: now, Sign: sign})
	if err != nil {
		t.Fatal(err)
	}
	for i := range files.Write {
		if err := sink.write(files.Write[i].Path, files.Write[i].Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	for _, commit := range commits {
		if err := sink.write(ostree.RefPath(commit.Info.Ref), ostree.RefFile(commit.Info.Checksum)); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range files.Remove {
		if err := os.RemoveAll(filepath.Join(dir, path)); err != nil {
			t.Fatal(err)
		}
	}
	index.Commit(files)
}

// recorder serves a repository and remembers what was asked for.
type recorder struct {
	mu    sync.Mutex
	paths []string
}

func (r *recorder) serve(t *testing.T, dir string) (url string) {
	t.Helper()
	files := http.FileServerFS(os.DirFS(dir))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		r.paths = append(r.paths, req.URL.Path)
		r.mu.Unlock()
		files.ServeHTTP(w, req)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// take returns the requests since it was last called.
func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.paths
	r.paths = nil
	return taken
}

// TestClient lets the real client add, list, install from and update a repository
// whose summaries, catalogue and .flatpakrepo are ours, with all signatures
// verified.
func TestClient(t *testing.T) {
	r := newPeerRepo(t)
	key := newSigner(t)
	r.sign = []string{"--gpg-sign=" + key.fingerprint, "--gpg-homedir=" + key.home}
	r.fill()
	var index Index
	index.Update(r.infos(noAppstream), nil)
	publish(t, r.dir, &index, 1767400000, key.sign)

	requests := &recorder{}
	url := requests.serve(t, r.dir)
	c := newClient(t)
	c.addRemote(RepoFile{Title: "Test", URL: url, GPGKey: key.public, CollectionID: "org.test.Stable"})
	listed := c.run("remote-ls", "--columns=ref", "--arch=x86_64", "test")
	for _, ref := range []string{"org.test.Hello/x86_64/stable", "org.test.Tagged/x86_64/stable", "org.test.Platform/x86_64/stable"} {
		if !strings.Contains(listed, ref) {
			t.Errorf("remote-ls does not list %s:\n%s", ref, listed)
		}
	}
	info := c.run("remote-info", "test", "org.test.Ended")
	if !strings.Contains(info, "no longer & more") {
		t.Errorf("remote-info does not know the end of life:\n%s", info)
	}
	c.run("update", "--appstream", "test")
	if text := c.catalogue("appstream.xml"); !strings.Contains(text, "version 1 ") || strings.Contains(text, "org.test.Ended") {
		t.Errorf("catalogue of the client:\n%s", text)
	}
	if icon := c.catalogue("icons/flatpak/64x64/org.test.Hello.png"); icon != "small icon of org.test.Hello" {
		t.Errorf("icon %q", icon)
	}
	c.run("install", "-y", "--noninteractive", "test", "org.test.Hello")

	r.exportApp("org.test.Hello", "x86_64", "2")
	index.Update(r.infos(func(ref string) bool { return ref == "app/org.test.Hello/x86_64/stable" }), nil)
	publish(t, r.dir, &index, 1767500000, key.sign)
	requests.take()
	c.run("update", "-y", "--noninteractive")
	c.run("update", "--appstream", "test")
	if text := c.catalogue("appstream.xml"); !strings.Contains(text, "version 2 ") {
		t.Errorf("catalogue after the update:\n%s", text)
	}
	hello, err := os.ReadFile(filepath.Join(c.home, "user/app/org.test.Hello/current/active/files/bin/hello"))
	if err != nil || !strings.Contains(string(hello), "echo 2") {
		t.Errorf("installed application: %q, %v", hello, err)
	}
	if asked := requests.take(); !slices.ContainsFunc(asked, func(path string) bool { return strings.HasSuffix(path, ".delta") }) {
		t.Errorf("the client took no summary delta: %s", asked)
	}
	r.run("ostree", "fsck", "--repo="+r.dir)

	subset := newClient(t)
	subset.addRemote(RepoFile{Title: "Test", URL: url, GPGKey: key.public, Subset: "floss"})
	if listed := subset.run("remote-ls", "--columns=ref", "test"); strings.Contains(listed, "Hello") || !strings.Contains(listed, "Tagged") {
		t.Errorf("subset floss lists:\n%s", listed)
	}
	subset.run("update", "--appstream", "test")
	if text := subset.catalogue("appstream.xml"); strings.Contains(text, "org.test.Hello") || !strings.Contains(text, "org.test.Tagged") {
		t.Errorf("catalogue of the subset:\n%s", text)
	}

	fromRef := newClient(t)
	file := RefFile{
		Ref: Ref{Kind: App, ID: "org.test.Tagged", Branch: "stable"}, Title: "Tagged", URL: url,
		SuggestRemoteName: "test", GPGKey: key.public,
	}
	content, err := file.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	fromRef.run("install", "-y", "--noninteractive", "--from", fromRef.write("tagged.flatpakref", content))
	if listed := fromRef.run("list", "--columns=application"); !strings.Contains(listed, "org.test.Tagged") {
		t.Errorf("installed from a .flatpakref:\n%s", listed)
	}
}

// client is a flatpak installation of its own.
type client struct {
	t    *testing.T
	home string
}

func newClient(t *testing.T) *client {
	t.Helper()
	c := &client{t: t, home: t.TempDir()}
	for _, dir := range []string{"home", "data", "cache", "config", "run"} {
		if err := os.Mkdir(filepath.Join(c.home, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *client) run(args ...string) string {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), "flatpak", append([]string{"--user"}, args...)...)
	cmd.Env = []string{
		"PATH=/usr/bin:/bin", "LANG=C.UTF-8", "FLATPAK_BWRAP=/bin/false", "FLATPAK_TRIGGERSDIR=/nonexistent",
		"HOME=" + c.home + "/home", "XDG_DATA_HOME=" + c.home + "/data", "XDG_CACHE_HOME=" + c.home + "/cache",
		"XDG_CONFIG_HOME=" + c.home + "/config", "XDG_RUNTIME_DIR=" + c.home + "/run",
		"FLATPAK_USER_DIR=" + c.home + "/user", "FLATPAK_SYSTEM_DIR=" + c.home + "/sys",
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		c.t.Fatalf("flatpak %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// addRemote adds the remote test by a .flatpakrepo file.
func (c *client) addRemote(file RepoFile) {
	c.t.Helper()
	content, err := file.Bytes()
	if err != nil {
		c.t.Fatal(err)
	}
	c.run("remote-add", "--from", "test", c.write("test.flatpakrepo", content))
	if listed := c.run("remotes", "--columns=name,title,options"); !strings.Contains(listed, file.Title) || strings.Contains(listed, "no-gpg") {
		c.t.Errorf("remotes:\n%s", listed)
	}
}

func (c *client) write(name string, content []byte) (path string) {
	c.t.Helper()
	path = filepath.Join(c.home, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// catalogue returns a file of the client's copy of the catalogue.
func (c *client) catalogue(name string) string {
	c.t.Helper()
	content, err := os.ReadFile(filepath.Join(c.home, "user/appstream/test/x86_64/active", name))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(content)
}
