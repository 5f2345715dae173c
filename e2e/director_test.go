package e2e

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freshet/internal/mirrorlist"
	"freshet/internal/peertest"
)

// network is mirrors of the same folders, and a director that names them in their
// order to clients on this machine.
type network struct {
	*process
	url     string
	mirrors []*origin
	b       *mirrorlist.Builder
	set     mirrorlist.MirrorSet
	dir     string
}

// newNetwork takes the mirrors, which each have the folder "repo".
func newNetwork(t *testing.T, mirrors ...*origin) *network {
	t.Helper()
	n := &network{mirrors: mirrors, b: mirrorlist.NewBuilder(), dir: t.TempDir()}
	n.b.SetTime(1_700_000_000)
	var m mirrorlist.Mirrors
	for i, mirror := range mirrors {
		id := int64(i + 1)
		n.b.AddURL(id, mirror.url())
		n.b.AddBandwidth(id, 1000)
		n.b.AddHostCountry(id, "DE")
		// The mirrors with the longer netblock come first.
		n.b.AddNetblock(fmt.Sprintf("127.0.0.1/%d", 32-i), []int64{id})
		m.Global = append(m.Global, id)
		m.URLs = append(m.URLs, mirrorlist.HostURLs{Host: id, URLs: []int64{id}})
	}
	n.set = n.b.Mirrors(m)
	n.directory("")
	n.b.AddRepository("sample-1+x86_64", "pub/repo")
	return n
}

// directory adds a folder below that of the repository.
func (n *network) directory(sub string) {
	n.b.AddDirectory(strings.TrimSuffix("pub/repo/"+sub, "/"), strings.TrimSuffix("repo/"+sub, "/"), n.set)
}

// file says which contents a file in a folder may have, the newest first.
func (n *network) file(sub, name string, contents ...string) {
	var versions []mirrorlist.Version
	for i, path := range contents {
		text, err := os.ReadFile(path)
		if err != nil {
			n.t.Fatal(err)
		}
		versions = append(versions, mirrorlist.Version{
			Timestamp: uint64(1_700_000_000 - i), Size: uint64(len(text)),
			MD5: fmt.Sprintf("%x", md5.Sum(text)), SHA1: fmt.Sprintf("%x", sha1.Sum(text)),
			SHA256: fmt.Sprintf("%x", sha256.Sum256(text)), SHA512: fmt.Sprintf("%x", sha512.Sum512(text)),
		})
	}
	n.b.AddFile(strings.TrimSuffix("pub/repo/"+sub, "/"), name, versions)
}

// serve starts the director.
func (n *network) serve(t *testing.T) {
	t.Helper()
	snapshot, err := n.b.Snapshot()
	if err == nil {
		err = snapshot.WriteFile(filepath.Join(n.dir, "snapshot.proto"))
	}
	if err != nil {
		t.Fatal(err)
	}
	addr, admin := freeAddr(t), freeAddr(t)
	n.url = "http://" + addr
	n.process = start(t, "director", "--listen", addr, "--admin", admin, "--log-level", "warn", "--snapshot", filepath.Join(n.dir, "snapshot.proto"))
	n.waitReady(admin)
}

// newMirror serves a folder with a copy of a repository in its folder "repo".
func newMirror(t *testing.T, repo string) *origin {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "repo"), os.DirFS(repo)); err != nil {
		t.Fatal(err)
	}
	return startOrigin(t, dir)
}

// deadMirror is one at whose address nobody is. Its host is another one than that of
// living mirrors: apt asks no port of a host where it could not connect to one.
func deadMirror(t *testing.T) *origin {
	t.Helper()
	_, port, err := net.SplitHostPort(freeAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	return &origin{t: t, addr: net.JoinHostPort("127.0.0.2", port)}
}

// corrupt changes one byte in the middle of a file of a mirror.
func (o *origin) corrupt(name string) {
	o.t.Helper()
	path := filepath.Join(o.dir, "repo", name)
	text, err := os.ReadFile(path)
	if err != nil {
		o.t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	if err := os.WriteFile(path, text, 0o644); err != nil {
		o.t.Fatal(err)
	}
}

// publishTwice makes a repository, and returns a copy of its first version and the
// second one.
func publishTwice(t *testing.T, eco ecosystem) (first, second string) {
	t.Helper()
	peertest.Require(t, eco.programs...)
	first, second = t.TempDir(), t.TempDir()
	publish := eco.publisher(t, second)
	if err := publish(1); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(first, os.DirFS(second)); err != nil {
		t.Fatal(err)
	}
	if err := publish(2); err != nil {
		t.Fatal(err)
	}
	return first, second
}

// installedBy checks which version a client has got.
func installedBy(t *testing.T, dir, out string, err error, want string) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got, err := installedVersion(dir); err != nil || got != want {
		t.Fatalf("installed %q, %v, want %q\n%s", got, err, want, out)
	}
}

// wasAsked checks that mirrors were tried, in vain or not.
func wasAsked(t *testing.T, what string, mirror *origin, suffix string) {
	t.Helper()
	if mirror.asked(suffix) == 0 {
		t.Errorf("the %s mirror was not asked for %s", what, suffix)
	}
}

// dnfFrom installs the package with dnf, from a repository that is told by a line.
func dnfFrom(t *testing.T, line string) (root, out string, err error) {
	t.Helper()
	user := newClient(t)
	root = filepath.Join(user.home, "root")
	repos := filepath.Join(user.home, "repos")
	text := "[mine]\nname=mine\ngpgcheck=0\n" + line + "\n"
	if err := errors.Join(os.Mkdir(repos, 0o755), os.WriteFile(filepath.Join(repos, "mine.repo"), []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
	out, err = user.try("dnf", "-y", "--installroot="+root, "--releasever=1", "--setopt=reposdir="+repos,
		"--setopt=cachedir="+user.home+"/cache", "--setopt=logdir="+user.home, "--setopt=persistdir="+user.home+"/persist",
		"--setopt=install_weak_deps=0", "--nodocs", "install", "freshet-hello")
	return filepath.Join(root, "opt/freshet-hello"), out, err
}

// dnf with a metalink: a dead mirror, one whose metadata the metalink does not know
// any more, and one with a damaged package come before the good one.
func TestDirectorDnfMetalink(t *testing.T) {
	parallel(t)
	first, second := publishTwice(t, dnfRepository())
	dead, stale, damaged, good := deadMirror(t), newMirror(t, first), newMirror(t, second), newMirror(t, second)
	damaged.corrupt(rpmFile(2))
	n := newNetwork(t, dead, stale, damaged, good)
	n.directory("repodata")
	n.file("repodata", "repomd.xml", filepath.Join(second, "repodata/repomd.xml"))
	n.serve(t)
	dir, out, err := dnfFrom(t, "metalink="+n.url+"/metalink?repo=sample-1&arch=x86_64&infra=$infra&countme=1")
	installedBy(t, dir, out, err, "version 2")
	wasAsked(t, "stale", stale, "repomd.xml")
	wasAsked(t, "damaged", damaged, rpmFile(2))
	wasAsked(t, "good", good, rpmFile(2))
}

// A mirror that is one version behind is good enough while the metalink has that
// version as an alternate, and not when it has it no more.
func TestDirectorDnfAlternates(t *testing.T) {
	parallel(t)
	first, second := publishTwice(t, dnfRepository())
	oldest, newest := filepath.Join(first, "repodata/repomd.xml"), filepath.Join(second, "repodata/repomd.xml")
	for name, versions := range map[string][]string{"with": {newest, oldest}, "without": {newest}} {
		t.Run(name, func(t *testing.T) {
			n := newNetwork(t, newMirror(t, first))
			n.directory("repodata")
			n.file("repodata", "repomd.xml", versions...)
			n.serve(t)
			dir, out, err := dnfFrom(t, "metalink="+n.url+"/metalink?repo=sample-1&arch=x86_64")
			if len(versions) == 1 {
				if err == nil {
					t.Fatalf("dnf takes metadata that the metalink does not know:\n%s", out)
				}
				return
			}
			installedBy(t, dir, out, err, "version 1")
		})
	}
}

// dnf with a plain list of mirrors, of which the first is dead.
func TestDirectorDnfMirrorlist(t *testing.T) {
	parallel(t)
	_, second := publishTwice(t, dnfRepository())
	good := newMirror(t, second)
	n := newNetwork(t, deadMirror(t), good)
	n.serve(t)
	dir, out, err := dnfFrom(t, "mirrorlist="+n.url+"/mirrorlist?repo=sample-1&arch=x86_64")
	installedBy(t, dir, out, err, "version 2")
	wasAsked(t, "good", good, rpmFile(2))
}

func TestDirectorZypper(t *testing.T) {
	parallel(t)
	eco := zypperRepository()
	_, second := publishTwice(t, eco)
	good := newMirror(t, second)
	n := newNetwork(t, deadMirror(t), good)
	n.serve(t)
	user := newClient(t)
	root, file := filepath.Join(user.home, "root"), filepath.Join(user.home, "mine.repo")
	text := "[mine]\nname=mine\nenabled=1\nautorefresh=1\ngpgcheck=0\nmirrorlist=" + n.url + "/mirrorlist?repo=sample-1&arch=x86_64\n"
	if err := errors.Join(os.Mkdir(root, 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
	user.run("rpm", "--root", root, "--initdb")
	user.run("zypper", "--root", root, "--non-interactive", "addrepo", file)
	out, err := user.try("zypper", "--root", root, "--non-interactive", "--no-gpg-checks", "install", "--no-recommends", "freshet-hello")
	installedBy(t, filepath.Join(root, "opt/freshet-hello"), out, err, "version 2")
	wasAsked(t, "good", good, rpmFile(2))
}

// apt's mirror method, which asks mirrors in an order of its own: a dead one, one that
// has not got the package yet, a good one. (A package that is damaged ends an install:
// apt asks no other mirror then.)
func TestDirectorApt(t *testing.T) {
	parallel(t)
	eco := aptRepository()
	_, second := publishTwice(t, eco)
	lacking, good := newMirror(t, second), newMirror(t, second)
	if err := os.Remove(filepath.Join(lacking.dir, "repo/pool", eco.payload(2))); err != nil {
		t.Fatal(err)
	}
	n := newNetwork(t, deadMirror(t), lacking, good)
	n.serve(t)
	got, err := eco.install(newClient(t), "mirror+"+n.url+"/mirrorlist?repo=sample-1&arch=x86_64", second)
	if err != nil || got != "version 2" {
		t.Fatalf("installed %q, %v", got, err)
	}
	wasAsked(t, "good", good, eco.payload(2))
}

// pacman has its list of mirrors in a file, which a user makes of ours; or it is sent
// to a mirror for each file.
func TestDirectorPacman(t *testing.T) {
	parallel(t)
	eco := pacmanRepository()
	_, second := publishTwice(t, eco)
	good := newMirror(t, second)
	n := newNetwork(t, deadMirror(t), good)
	n.serve(t)
	list := strings.ReplaceAll("\n"+string(get(t, n.url+"/mirrorlist?repo=sample-1&arch=x86_64", 200)), "\nhttp", "\nServer = http")
	if got := strings.Count(list, "\nServer = "); got != 2 {
		t.Fatalf("the list has %d servers:\n%s", got, list)
	}
	file := filepath.Join(n.dir, "mirrorlist")
	if err := os.WriteFile(file, []byte(list), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := eco.install(newClient(t), good.url()+"/nothing/here\nInclude = "+file, second)
	if err != nil || got != "version 2" {
		t.Errorf("with a list of mirrors: installed %q, %v", got, err)
	}
	wasAsked(t, "good", good, eco.payload(2))

	one := newMirror(t, second)
	n = newNetwork(t, one)
	n.serve(t)
	got, err = eco.install(newClient(t), n.url+"/mirrorlist?redirect=1&path=pub/repo", second)
	if err != nil || got != "version 2" {
		t.Errorf("sent to a mirror for each file: installed %q, %v", got, err)
	}
	wasAsked(t, "only", one, eco.payload(2))
}

// curl is sent to a mirror, and HEAD tells the same.
func TestDirectorRedirect(t *testing.T) {
	parallel(t)
	peertest.Require(t, "curl")
	repo := t.TempDir()
	if err := os.WriteFile(filepath.Join(repo, "f.txt"), []byte("content\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	mirror := newMirror(t, repo)
	n := newNetwork(t, mirror)
	n.serve(t)
	url := n.url + "/mirrorlist?path=pub/repo/f.txt&redirect=1&protocol=http"
	if got := newClient(t).run("curl", "-sSfL", url); got != "content\n" {
		t.Errorf("curl gets %q", got)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if location := resp.Header.Get("Location"); err != nil || len(body) > 0 || resp.StatusCode != http.StatusFound || location != mirror.url()+"/repo/f.txt" {
		t.Errorf("HEAD: status %d, Location %q, body %q, %v", resp.StatusCode, location, body, err)
	}
}

// aria2c downloads by a metalink of which one mirror is dead and one answers with
// something else, as a page of a hotel does. A mirror whose file is damaged and has
// the right size is found out, which is all that one hash of a whole file can do.
func TestDirectorAria2(t *testing.T) {
	parallel(t)
	peertest.Require(t, "aria2c")
	repo := t.TempDir()
	want := noise(7, 4<<20)
	if err := os.WriteFile(filepath.Join(repo, "image.iso"), want, 0o644); err != nil {
		t.Fatal(err)
	}
	download := func(mirrors ...*origin) (got []byte, out string, err error) {
		n := newNetwork(t, mirrors...)
		n.file("", "image.iso", filepath.Join(repo, "image.iso"))
		n.serve(t)
		user := newClient(t)
		out, err = user.try("aria2c", "--check-integrity=true", "--follow-metalink=mem", n.url+"/metalink?path=pub/repo/image.iso")
		if err == nil {
			got, err = os.ReadFile(filepath.Join(user.home, "image.iso"))
		}
		return got, out, err
	}
	hotel, damaged, good := newMirror(t, repo), newMirror(t, repo), newMirror(t, repo)
	if err := os.WriteFile(filepath.Join(hotel.dir, "repo/image.iso"), []byte("<html>Room number?</html>"), 0o644); err != nil {
		t.Fatal(err)
	}
	damaged.corrupt("image.iso")

	if got, out, err := download(deadMirror(t), hotel, good); err != nil || string(got) != string(want) {
		t.Errorf("%d bytes, %v\n%s", len(got), err, out)
	}
	wasAsked(t, "hotel's", hotel, "image.iso")
	if got, out, err := download(deadMirror(t), damaged); err == nil {
		t.Errorf("%d bytes of a damaged mirror\n%s", len(got), out)
	}
	wasAsked(t, "damaged", damaged, "image.iso")
}
