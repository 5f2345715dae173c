package flatpak

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"freshet/internal/ostree"
)

// publish does what a publisher does with an Index.
func publish(t *testing.T, dir string, index *Index, now uint64) *Files {
	t.Helper()
	sink := dirSink(dir)
	commits, err := index.BuildAppstream(sink, AppstreamOptions{CollectionID: "org.test.Stable", Now: now})
	if err != nil {
		t.Fatal(err)
	}
	for _, commit := range commits {
		index.Update([]CommitInfo{commit.Info}, nil)
		if err := sink.write(ostree.RefPath(commit.Info.Ref), ostree.RefFile(commit.Info.Checksum)); err != nil {
			t.Fatal(err)
		}
	}
	files, err := index.Build(BuildOptions{Repo: testRepoInfo(), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	for i := range files.Write {
		if err := sink.write(files.Write[i].Path, files.Write[i].Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range files.Remove {
		if err := os.RemoveAll(filepath.Join(dir, path)); err != nil {
			t.Fatal(err)
		}
	}
	index.Commit(files)
	return files
}

// TestClient lets the real client add, list, install from and update a repository
// whose summaries and catalogue are ours.
func TestClient(t *testing.T) {
	r := newPeerRepo(t)
	r.fill()
	var index Index
	index.Update(r.infos(noAppstream), nil)
	publish(t, r.dir, &index, 1767400000)

	var mu sync.Mutex
	var requests []string
	files := http.FileServerFS(os.DirFS(r.dir))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		requests = append(requests, req.URL.Path)
		mu.Unlock()
		files.ServeHTTP(w, req)
	}))
	defer server.Close()
	c := newClient(t)
	c.run("remote-add", "--no-gpg-verify", "test", server.URL)
	listed := c.run("remote-ls", "--columns=ref", "--arch=x86_64", "test")
	for _, ref := range []string{"org.test.Hello/x86_64/stable", "org.test.Tagged/x86_64/stable", "org.test.Platform/x86_64/stable"} {
		if !strings.Contains(listed, ref) {
			t.Errorf("remote-ls does not list %s:\n%s", ref, listed)
		}
	}
	if !strings.Contains(c.run("remotes", "--columns=title"), "Test") {
		t.Error("the title did not arrive")
	}
	info := c.run("remote-info", "test", "org.test.Ended")
	if !strings.Contains(info, "no longer & more") {
		t.Errorf("remote-info does not know the end of life:\n%s", info)
	}
	c.run("update", "--appstream", "test")
	if text := c.catalogue(); !strings.Contains(text, "version 1 ") || strings.Contains(text, "org.test.Ended") {
		t.Errorf("catalogue of the client:\n%s", text)
	}
	c.run("install", "-y", "--noninteractive", "test", "org.test.Hello")

	r.exportApp("org.test.Hello", "x86_64", "2")
	index.Update(r.infos(func(ref string) bool { return ref == "app/org.test.Hello/x86_64/stable" }), nil)
	publish(t, r.dir, &index, 1767500000)
	mu.Lock()
	requests = nil
	mu.Unlock()
	c.run("update", "-y", "--noninteractive")
	c.run("update", "--appstream", "test")
	if text := c.catalogue(); !strings.Contains(text, "version 2 ") {
		t.Errorf("catalogue after the update:\n%s", text)
	}
	hello, err := os.ReadFile(filepath.Join(c.home, "user/app/org.test.Hello/current/active/files/bin/hello"))
	if err != nil || !strings.Contains(string(hello), "echo 2") {
		t.Errorf("installed application: %q, %v", hello, err)
	}
	mu.Lock()
	seen := slices.Clone(requests)
	mu.Unlock()
	if !slices.ContainsFunc(seen, func(path string) bool { return strings.HasSuffix(path, ".delta") }) {
		t.Errorf("the client took no summary delta: %s", seen)
	}
	r.run("ostree", "fsck", "--repo="+r.dir)

	subset := newClient(t)
	subset.run("remote-add", "--no-gpg-verify", "--subset=floss", "test", server.URL)
	if listed := subset.run("remote-ls", "--columns=ref", "test"); strings.Contains(listed, "Hello") || !strings.Contains(listed, "Tagged") {
		t.Errorf("subset floss lists:\n%s", listed)
	}
	subset.run("update", "--appstream", "test")
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

// catalogue returns the client's copy of appstream.xml.
func (c *client) catalogue() string {
	c.t.Helper()
	base := filepath.Join(c.home, "user/appstream/test/x86_64/active")
	text, err := os.ReadFile(filepath.Join(base, "appstream.xml"))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(text)
}
