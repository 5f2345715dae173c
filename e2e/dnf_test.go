package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freshet/internal/peertest"
)

// buildRPM builds the package freshet-hello of a version into dir and makes the
// folder's metadata anew.
func buildRPM(t *testing.T, c *client, dir, version string) {
	t.Helper()
	spec := filepath.Join(c.home, "hello.spec")
	text := fmt.Sprintf(`Name: freshet-hello
Version: %s
Release: 1
Summary: Says hello
License: Apache-2.0
BuildArch: noarch
%%description
Says hello.
%%install
mkdir -p %%{buildroot}/opt/freshet-hello
echo "hello %s" >%%{buildroot}/opt/freshet-hello/hello.txt
%%files
/opt/freshet-hello
`, version, version)
	if err := os.WriteFile(spec, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	top := filepath.Join(c.home, "rpmbuild")
	c.run("rpmbuild", "-bb", "--define", "_topdir "+top, spec)
	found, err := filepath.Glob(filepath.Join(top, "RPMS/noarch/freshet-hello-"+version+"-1.noarch.rpm"))
	if err != nil || len(found) != 1 {
		t.Fatalf("rpmbuild made %v, %v", found, err)
	}
	content, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, filepath.Base(found[0])), content, 0o644); err != nil {
		t.Fatal(err)
	}
	c.run("createrepo_c", "--quiet", dir)
}

// dnf runs dnf on an installation root of its own, with one repository.
func (c *client) dnf(repo string, args ...string) string {
	c.t.Helper()
	root := filepath.Join(c.home, "root")
	return c.run("dnf", append([]string{
		"-y", "--installroot=" + root, "--releasever=1", "--setopt=reposdir=/nonexistent", "--setopt=gpgcheck=0",
		"--setopt=cachedir=" + filepath.Join(c.home, "dnfcache"), "--setopt=logdir=" + c.home, "--setopt=persistdir=" + filepath.Join(c.home, "dnfpersist"),
		"--repofrompath=mine," + repo, "--repo=mine", "--setopt=install_weak_deps=0", "--nodocs",
	}, args...)...)
}

// A folder of packages is pushed, dnf installs from it through the edge, the
// next generation is pushed, dnf updates. Packages of the old generation are
// still there for clients that hold its metadata.
func TestDnf(t *testing.T) {
	parallel(t)
	peertest.Require(t, "dnf", "rpmbuild", "createrepo_c")
	work := t.TempDir()
	edgeAddr := freeAddr(t)
	hub := startHub(t, filepath.Join(work, "hub"), "", "")
	edge := startEdge(t, filepath.Join(work, "edge"), edgeAddr, hub.url)
	repo := edge.url + "/tree/packages/"
	tokenFile := filepath.Join(work, "token")
	if err := os.WriteFile(tokenFile, []byte(hub.token), 0o600); err != nil {
		t.Fatal(err)
	}
	user := newClient(t)
	rpms := filepath.Join(work, "rpms")
	if err := os.Mkdir(rpms, 0o755); err != nil {
		t.Fatal(err)
	}
	push := func() string {
		return run(t, "push", "--hub", hub.url, "--token-file", tokenFile, "--tree", "packages", rpms)
	}

	buildRPM(t, user, rpms, "1.0")
	if out := push(); !strings.Contains(out, "generation 1") {
		t.Errorf("push says %q", out)
	}
	user.dnf(repo, "install", "freshet-hello")
	installed := filepath.Join(user.home, "root/opt/freshet-hello/hello.txt")
	if got, err := os.ReadFile(installed); err != nil || string(got) != "hello 1.0\n" {
		t.Fatalf("installed %q, %v", got, err)
	}

	oldMetadata := metadataFiles(t, string(get(t, repo+"repodata/repomd.xml", 200)))
	buildRPM(t, user, rpms, "2.0")
	if err := os.Remove(filepath.Join(rpms, "freshet-hello-1.0-1.noarch.rpm")); err != nil {
		t.Fatal(err)
	}
	user.run("createrepo_c", "--quiet", rpms)
	push()
	eventually(t, "dnf sees the next generation", promised(5*time.Second), func() error {
		out := user.dnf(repo, "--refresh", "update", "freshet-hello")
		if got, err := os.ReadFile(installed); err != nil || string(got) != "hello 2.0\n" {
			return fmt.Errorf("installed %q, %w\n%s", got, err, out)
		}
		return nil
	})
	for _, file := range oldMetadata {
		get(t, repo+file, 200)
		get(t, hub.url+"/tree/packages/"+file, 200)
	}
	get(t, repo+"freshet-hello-1.0-1.noarch.rpm", 200)
}

// metadataFiles lists the hrefs of a repomd.xml.
func metadataFiles(t *testing.T, repomd string) []string {
	t.Helper()
	var files []string
	for part := range strings.SplitSeq(repomd, `<location href="`) {
		if name, _, ok := strings.Cut(part, `"`); ok && strings.HasPrefix(name, "repodata/") {
			files = append(files, name)
		}
	}
	if len(files) < 3 {
		t.Fatalf("found %v in %s", files, repomd)
	}
	return files
}
