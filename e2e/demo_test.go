package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/durable"
	"freshet/internal/peertest"
)

// demo is the file demo.json.
type demo struct {
	Hub         string            `json:"hub"`
	Admin       string            `json:"admin"`
	Edge        string            `json:"edge"`
	Director    string            `json:"director"`
	Mirrors     string            `json:"mirrors"`
	Mirror      string            `json:"mirror"`
	Repo        string            `json:"repo"`
	FlatpakRepo string            `json:"flatpakrepo"`
	Token       string            `json:"token"`
	App         string            `json:"app"`
	Trees       map[string]string `json:"trees"`
}

// startDemo runs the demonstration in dir. A new one serves where nobody else does:
// what it would choose by itself, another on this machine may choose too.
func startDemo(t *testing.T, dir string) (*process, demo) {
	t.Helper()
	file := filepath.Join(dir, "demo.json")
	if _, err := os.Stat(file); err != nil {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		addresses := make(map[string]string)
		for _, server := range []string{"hub", "edge", "console", "director", "mirrors", "mirror", "admin"} {
			addresses[server] = "http://" + freeAddr(t)
		}
		text, err := json.Marshal(addresses)
		if err == nil {
			err = os.WriteFile(file, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, "run", "--demo", "--dir", dir)
	p.waitLine("ready", func(line string) bool { return line == "ready" })
	var d demo
	readJSON(t, file, &d)
	return p, d
}

// The demonstration as a newcomer meets it: install, run, publish the next
// version, update, stop, start again.
func TestDemoWithFlatpak(t *testing.T) {
	parallel(t)
	peertest.Require(t, "flatpak", "ostree")
	dir := filepath.Join(t.TempDir(), "demo")
	p, d := startDemo(t, dir)
	id := strings.Split(d.App, "/")[1]

	user := newClient(t)
	user.run("flatpak", "--user", "remote-add", "demo", d.FlatpakRepo)
	if out := user.run("flatpak", "--user", "remotes", "--columns=name,url,options"); !strings.Contains(out, strings.TrimSuffix(d.Repo, "/")) || strings.Contains(out, "no-gpg-verify") {
		t.Errorf("the remote is not what demo.json says, or not verified:\n%s", out)
	}
	user.run("flatpak", "--user", "install", "-y", "--noninteractive", "demo", id)
	if out := user.run("flatpak", "--user", "run", id); !strings.Contains(out, "version 1") {
		t.Errorf("the app says %q", out)
	}
	user.run("flatpak", "--user", "update", "--appstream", "demo")
	if out := user.run("flatpak", "--user", "search", id); !strings.Contains(out, id) {
		t.Errorf("the app is not in the catalogue: %s", out)
	}
	get(t, d.Trees["demo-files"]+"VERSION", 200)

	run(t, "run", "--demo", "--publish-next", "--dir", dir)
	// The edge learns of the publish within a second.
	eventually(t, "update arrives through the edge", promised(5*time.Second), func() error {
		user.run("flatpak", "--user", "update", "-y", "--noninteractive")
		return wantOutput(user, "version 2", "flatpak", "--user", "run", id)
	})

	mirror := filepath.Join(t.TempDir(), "mirror")
	user.run("ostree", "init", "--repo="+mirror, "--mode=archive")
	key := filepath.Join(user.home, "key.gpg")
	writeFlatpakRepoKey(t, get(t, d.FlatpakRepo, 200), key)
	user.run("ostree", "remote", "add", "--repo="+mirror, "--gpg-import="+key, "demo", d.Repo)
	user.run("ostree", "pull", "--repo="+mirror, "--mirror", "demo")
	user.run("ostree", "fsck", "--repo="+mirror)
	user.run("ostree", "fsck", "--repo="+filepath.Join(dir, "hub", "repos", "stable"))

	p.stop(syscall.SIGINT)
	again, d2 := startDemo(t, dir)
	if d2.Repo != d.Repo {
		t.Errorf("after a restart the repository is at %s, before at %s", d2.Repo, d.Repo)
	}
	if out := user.run("flatpak", "--user", "update", "-y", "--noninteractive"); !strings.Contains(out, "Nothing to do") {
		t.Errorf("a restart changed what is published: %s", out)
	}
	again.stop(syscall.SIGTERM)
	noTemporaryFiles(t, dir)
}

// What the demonstration prints works when it is pasted: apt, dnf and pacman verify
// and install the sample package, and get the next version.
func TestDemoWithPackages(t *testing.T) {
	peertest.Require(t, "apt-get", "dnf", "pacman")
	dir := filepath.Join(t.TempDir(), "demo")
	p, d := startDemo(t, dir)
	var lines []string
	for _, line := range p.all() {
		if strings.HasPrefix(line, "  ") && strings.Contains(line, dir+"/clients/") {
			lines = append(lines, strings.TrimPrefix(strings.TrimSpace(line), "sudo "))
		}
	}
	if len(lines) != 7 {
		t.Fatalf("the lines to paste are %q", lines)
	}
	user := newClient(t)
	version := func(want string) error {
		said := ""
		for _, line := range lines {
			out, err := user.try("bash", "-c", line)
			if err != nil {
				return fmt.Errorf("%s: %w\n%s", line, err, out)
			}
			if strings.HasSuffix(line, "/usr/bin/freshet-hello") {
				said += out
			}
		}
		if said != strings.Repeat("Hello from Freshet, version "+want+"\n", 3) {
			return &unexpected{said}
		}
		return nil
	}
	if err := version("1"); err != nil {
		t.Fatal(err)
	}
	run(t, "run", "--demo", "--publish-next", "--dir", dir)
	eventually(t, "the next version arrives", patience, func() error { return version("2") })
	get(t, d.Admin+"/-/ready", 200)
}

// What the demonstration prints of its mirrors works when it is pasted: a file is had of
// the origin and the mirrors that have it, and not of the one that lacks it.
func TestDemoWithMirrors(t *testing.T) {
	parallel(t)
	peertest.Require(t, "curl")
	dir := filepath.Join(t.TempDir(), "demo")
	p, d := startDemo(t, dir)
	var lines []string
	for _, line := range p.all() {
		if strings.HasPrefix(line, "  c") && (strings.Contains(line, d.Director) || strings.Contains(line, dir+"/mirrors/")) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	if len(lines) != 5 {
		t.Fatalf("the lines to paste are %q", lines)
	}
	user := newClient(t)
	paste := func(line int) string { return user.run("bash", "-c", lines[line]) }
	const download, list, why, give, status = 0, 1, 2, 3, 4
	if out := paste(download); out != "Hello from Freshet, hello-2.txt\n" {
		t.Errorf("the file is %q", out)
	}
	had := func(from ...string) func() error {
		return func() error {
			got := strings.Fields(paste(list))
			slices.Sort(got)
			var want []string
			for _, name := range from {
				want = append(want, d.Mirrors+"/"+name+"/hello-2.txt")
			}
			if !slices.Equal(got, want) {
				return &unexpected{strings.Join(got, " ") + "\n" + paste(why)}
			}
			return nil
		}
	}
	eventually(t, "mirrors are known", 2*patience, had("berlin", "boston", "origin"))
	if out := paste(why); !strings.Contains(out, "tokyo") {
		t.Errorf("it is not told why tokyo is not used:\n%s", out)
	}
	if out := paste(download); out != "Hello from Freshet, hello-2.txt\n" {
		t.Errorf("the file is %q from a mirror", out)
	}
	if out := paste(status); !strings.Contains(out, `"boston"`) {
		t.Errorf("the status is\n%s", out)
	}
	if out := string(get(t, d.Director+"/-/", 200)); !strings.Contains(out, "<svg") {
		t.Errorf("there is no map on the page\n%s", out)
	}
	paste(give)
}

// The demonstration's mirror holds all that is published, and what is published next.
func TestDemoWithMirror(t *testing.T) {
	parallel(t)
	peertest.Require(t, "curl")
	dir := filepath.Join(t.TempDir(), "demo")
	p, d := startDemo(t, dir)
	var lines []string
	for _, line := range p.all() {
		if strings.HasPrefix(line, "  ") && (strings.Contains(line, dir+"/mirror-token") || strings.Contains(line, d.Mirror+"/demo-dnf/")) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	if len(lines) != 5 {
		t.Fatalf("the lines to paste are %q", lines)
	}
	user := newClient(t)
	eventually(t, "all is mirrored", 2*patience, func() error {
		out, err := user.try("bash", "-c", lines[0]+" --json")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		var status mirrorapi.Status
		if err := json.Unmarshal([]byte(out), &status); err != nil {
			return err
		}
		for _, one := range status.Projects {
			if one.Generation == "" {
				return &unexpected{out}
			}
		}
		return nil
	})
	for _, line := range lines {
		user.run("bash", "-c", line)
	}
	before := get(t, d.Mirror+"/demo-dnf/repodata/repomd.xml", 200)
	run(t, "run", "--demo", "--publish-next", "--dir", dir)
	user.run("bash", "-c", lines[1]) // has it look for something new
	if after := get(t, d.Mirror+"/demo-dnf/repodata/repomd.xml", 200); bytes.Equal(after, before) {
		t.Errorf("the mirror still has the first version:\n%s", after)
	}
}

// A publish that a hold stops says so, and goes on when it is released.
func TestDemoUnderHold(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	_, d := startDemo(t, dir)
	admin := func(args ...string) {
		run(t, append(append([]string{"hub"}, args...), "--hub", d.Hub, "--token-file", filepath.Join(dir, "token"))...)
	}
	admin("hold", "stable", "--reason", "new permissions")
	next := start(t, "run", "--demo", "--publish-next", "--dir", dir)
	next.waitLine("what it waits for", func(line string) bool { return line == "  waits for hold 1 by demo (demo-token): new permissions" })
	admin("release", "stable", "1")
	next.waitLine("the end", func(line string) bool { return strings.HasPrefix(line, "published version 2;") })
}

func wantOutput(c *client, want, name string, args ...string) error {
	out, err := c.try(name, args...)
	if err != nil {
		return err
	}
	if !strings.Contains(out, want) {
		return &unexpected{out}
	}
	return nil
}

type unexpected struct{ out string }

func (u *unexpected) Error() string { return "got " + u.out }

// noTemporaryFiles fails when something is left below dir that only a running
// process may have there.
func noTemporaryFiles(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		inTemporary := slices.Contains(strings.Split(filepath.Dir(rel), "/"), "tmp")
		if !entry.IsDir() && (inTemporary || strings.HasPrefix(entry.Name(), durable.TempPrefix)) {
			t.Errorf("left behind: %s", rel)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
