package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/peertest"
)

// fleet is a project on an origin and on mirrors, and a director that sends clients to
// them.
type fleet struct {
	*process
	url, admin string // url is that of the project
	origin     *origin
	mirrors    map[string]*origin
	catalogue  directorapi.Catalogue
}

// newFleet takes the folder of the origin. The project has repositories as told.
func newFleet(t *testing.T, dir string, repositories ...directorapi.Repository) *fleet {
	t.Helper()
	f := &fleet{origin: startOrigin(t, dir), mirrors: make(map[string]*origin)}
	f.catalogue.Sites = []directorapi.Site{{Name: "here", Country: "DE"}}
	f.catalogue.Projects = []directorapi.Project{{
		Name: "pub", Path: "/pub/", Origins: []string{f.origin.url() + "/"}, Repositories: repositories,
		Inventory: directorapi.Source{How: directorapi.HowFolder, URL: dir, Every: directorapi.Duration(time.Minute)},
	}}
	return f
}

// mirror adds a mirror with a copy of a folder.
func (f *fleet) mirror(t *testing.T, name, dir string) *origin {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return f.add(name, startOrigin(t, to))
}

func (f *fleet) add(name string, o *origin) *origin {
	f.mirrors[name] = o
	f.catalogue.Mirrors = append(f.catalogue.Mirrors, directorapi.Mirror{
		Name: name, Site: "here", Carries: []directorapi.Carried{{
			Project: "pub", HTTP: o.url() + "/", Inventory: directorapi.Source{How: directorapi.HowHTTP, Every: directorapi.Duration(time.Minute)},
		}},
	})
	return o
}

// serve starts the director, and waits until clients who want a file are sent to these
// mirrors and no others.
func (f *fleet) serve(t *testing.T, file string, want []string, args ...string) {
	t.Helper()
	dir := t.TempDir()
	slices.SortFunc(f.catalogue.Mirrors, func(a, b directorapi.Mirror) int { return strings.Compare(a.Name, b.Name) })
	text, err := json.Marshal(f.catalogue)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "catalogue.json"), text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	addr := freeAddr(t)
	if f.admin == "" {
		f.admin = freeAddr(t)
	}
	f.url = "http://" + addr + "/pub"
	f.process = start(t, append([]string{
		"director", "--listen", addr, "--admin", f.admin, "--log-level", "warn",
		"--state", filepath.Join(dir, "state"), "--catalogue", filepath.Join(dir, "catalogue.json"),
	}, args...)...)
	f.waitReady(f.admin)
	f.waitFor(file, want)
}

// waitFor waits until clients who want a file are sent to these mirrors and no others.
func (f *fleet) waitFor(file string, want []string) {
	f.t.Helper()
	slices.Sort(want)
	eventually(f.t, fmt.Sprintf("%s is had from %q", file, want), 2*patience, func() error {
		why := f.why(file)
		var got []string
		for _, m := range why.Mirrors {
			if m.Excluded == "" {
				got = append(got, m.Mirror)
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			return fmt.Errorf("had from %q: %+v", got, why)
		}
		return nil
	})
}

// why is what the director says of a path.
func (f *fleet) why(path string) (why directorapi.Why) {
	f.t.Helper()
	if err := json.Unmarshal(get(f.t, f.url+path+"?why=json", http.StatusOK), &why); err != nil {
		f.t.Fatal(err)
	}
	return why
}

// sentTo is how many clients were sent to a mirror.
func (f *fleet) sentTo(name string) int {
	f.t.Helper()
	return f.counted(`freshet_director_mirror_redirects_total{mirror="` + name + `"}`)
}

// counted is what a counter counts, 0 if there is none.
func (f *fleet) counted(name string) int {
	f.t.Helper()
	value := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\d+)`)
	m := value.FindSubmatch(get(f.t, "http://"+f.admin+"/metrics", http.StatusOK))
	if m == nil {
		return 0
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		f.t.Fatal(err)
	}
	return n
}

// rpms is a network in which one mirror is dead, one has the version before, one lacks the
// package, and one is good.
func rpms(t *testing.T) *fleet {
	t.Helper()
	first, second := publishTwice(t, dnfRepository())
	f := newFleet(t, second, directorapi.Repository{Kind: directorapi.KindRPM})
	f.add("dead", deadMirror(t))
	f.mirror(t, "stale", first)
	lacking := f.mirror(t, "lacking", second)
	if err := os.Remove(filepath.Join(lacking.dir, rpmFile(2))); err != nil {
		t.Fatal(err)
	}
	f.mirror(t, "good", second)
	f.serve(t, rpmFile(2), []string{"good"})
	return f
}

// dnf asks the director for each file, or for a metalink of the metadata. It is given the
// new version whole, and never sent to a mirror that has not what it asks for.
func TestRedirectorDnf(t *testing.T) {
	parallel(t)
	f := rpms(t)
	dir, out, err := dnfFrom(t, "baseurl="+f.url+"/")
	installedBy(t, dir, out, err, "version 2")
	if n := f.sentTo("good"); n == 0 {
		t.Error("dnf was not sent to the good mirror")
	}
	if n := f.sentTo("dead"); n > 0 {
		t.Errorf("dnf was sent to the dead mirror %d times", n)
	}
	f.waitFor("/repodata/repomd.xml", []string{"good"}) // it is seen to have all of the version
	f.origin.die()
	dir, out, err = dnfFrom(t, "metalink="+f.url+"/repodata/repomd.xml.metalink")
	installedBy(t, dir, out, err, "version 2")
	dir, out, err = dnfFrom(t, "mirrorlist="+f.url+"/?mirrorlist")
	installedBy(t, dir, out, err, "version 2")
	dir, out, err = dnfFrom(t, "baseurl="+f.url+"/")
	installedBy(t, dir, out, err, "version 2")
}

func TestRedirectorZypper(t *testing.T) {
	parallel(t)
	peertest.Require(t, zypperRepository().programs...)
	f := rpms(t)
	got, err := zypperRepository().install(newClient(t), f.url+"/", f.origin.dir)
	if err != nil || got != "version 2" {
		t.Fatalf("installed %q, %v", got, err)
	}
	// It says that it takes metalinks, and is given them.
	if f.counted(`freshet_director_file_answers_total{outcome="document"}`) == 0 {
		t.Error("zypper was given no metalink")
	}
}

// apt asks the director for each file, or has it write the list of its mirror method.
func TestRedirectorApt(t *testing.T) {
	parallel(t)
	eco := aptRepository()
	first, second := publishTwice(t, eco)
	f := newFleet(t, second, directorapi.Repository{Kind: directorapi.KindDeb, Pointer: "dists/stable/InRelease"})
	f.add("dead", deadMirror(t))
	f.mirror(t, "stale", first)
	f.mirror(t, "good", second)
	f.serve(t, "/pool"+eco.payload(2), []string{"good"})
	got, err := eco.install(newClient(t), f.url+"/", second)
	if err != nil || got != "version 2" {
		t.Fatalf("sent to a mirror for each file: installed %q, %v", got, err)
	}
	if f.sentTo("good") == 0 || f.sentTo("dead") > 0 {
		t.Errorf("apt was sent to the good mirror %d times, to the dead one %d times", f.sentTo("good"), f.sentTo("dead"))
	}
	f.waitFor("/dists/stable/InRelease", []string{"good"})
	if list := string(get(t, f.url+"/?mirrorlist=apt", http.StatusOK)); !strings.HasPrefix(list, f.mirrors["good"].url()+"/\tpriority:1\n") {
		t.Errorf("the list begins with something else:\n%s", list)
	}
	if got, err := eco.install(newClient(t), "mirror+"+f.url+"/?mirrorlist=apt", second); err != nil || got != "version 2" {
		t.Fatalf("with a list of mirrors: installed %q, %v", got, err)
	}
}

func TestRedirectorPacman(t *testing.T) {
	parallel(t)
	eco := pacmanRepository()
	first, second := publishTwice(t, eco)
	f := newFleet(t, second, directorapi.Repository{Kind: directorapi.KindArch, Pointer: "mine.db"})
	f.add("dead", deadMirror(t))
	f.mirror(t, "stale", first)
	f.mirror(t, "good", second)
	f.serve(t, eco.payload(2), []string{"good"})
	got, err := eco.install(newClient(t), f.url, second)
	if err != nil || got != "version 2" {
		t.Fatalf("sent to a mirror for each file: installed %q, %v", got, err)
	}
	if f.sentTo("good") == 0 || f.sentTo("dead") > 0 {
		t.Errorf("pacman was sent to the good mirror %d times, to the dead one %d times", f.sentTo("good"), f.sentTo("dead"))
	}
	file := filepath.Join(t.TempDir(), "mirrorlist")
	list := get(t, f.url+"/?mirrorlist=pacman&server=/", http.StatusOK)
	if err := os.WriteFile(file, list, 0o644); err != nil {
		t.Fatal(err)
	}
	got, err = eco.install(newClient(t), f.mirrors["good"].url()+"/nothing/here\nInclude = "+file, second)
	if err != nil || got != "version 2" {
		t.Errorf("with a list of mirrors: installed %q, %v\n%s", got, err, list)
	}
}

// ostree has metadata from one place, and objects by a list of mirrors.
func TestRedirectorOSTree(t *testing.T) {
	parallel(t)
	eco := ostreeRepository()
	peertest.Require(t, eco.programs...)
	repo := t.TempDir()
	if err := eco.publisher(t, repo)(1); err != nil {
		t.Fatal(err)
	}
	f := newFleet(t, repo, directorapi.Repository{Kind: directorapi.KindOSTree})
	f.add("dead", deadMirror(t))
	f.mirror(t, "good", repo)
	f.serve(t, "/config", []string{"good"})
	user := newClient(t)
	local, out := filepath.Join(user.home, "repo"), filepath.Join(user.home, "checkout")
	user.run("ostree", "init", "--repo="+local, "--mode=bare-user-only")
	user.run("ostree", "remote", "add", "--repo="+local, "--set=gpg-verify-summary=true", "--gpg-import="+repo+"/key.gpg",
		"--contenturl=mirrorlist="+f.url+"/?mirrorlist", "mine", f.url)
	user.run("ostree", "pull", "--repo="+local, "mine", "hello")
	user.run("ostree", "checkout", "--repo="+local, "--force-copy", "--union", "mine:hello", out)
	if got, err := installedVersion(out); err != nil || got != "version 1" {
		t.Errorf("installed %q, %v", got, err)
	}
}

// curl follows redirects for files with odd names, for parts of files, and to the origin
// for what no mirror has; and a client that has the file is told so.
func TestRedirectorCurl(t *testing.T) {
	parallel(t)
	peertest.Require(t, "curl")
	dir := t.TempDir()
	const odd = "a b%c#d?e+é:(f)&g.txt"
	image := noise(9, 3<<20)
	for name, text := range map[string][]byte{odd: []byte("odd\n"), "sub/image.iso": image} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755), os.WriteFile(filepath.Join(dir, name), text, 0o644), longAgo(filepath.Join(dir, name))); err != nil {
			t.Fatal(err)
		}
	}
	f := newFleet(t, dir)
	f.add("dead", deadMirror(t))
	f.mirror(t, "one", dir)
	other := f.mirror(t, "other", dir)
	if err := os.Remove(filepath.Join(other.dir, "sub/image.iso")); err != nil {
		t.Fatal(err)
	}
	f.serve(t, "/sub/image.iso", []string{"one"})
	user := newClient(t)
	if got := user.run("curl", "-sSfL", "-r", "5-9", f.url+"/sub/image.iso"); got != string(image[5:10]) {
		t.Errorf("a part: %q", got)
	}
	if got := user.run("curl", "-sSfL", f.url+"/a%20b%25c%23d%3Fe+%C3%A9:(f)&g.txt"); got != "odd\n" {
		t.Errorf("an odd name: %q", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "new.txt"), []byte("new\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := user.run("curl", "-sSfL", f.url+"/new.txt"); got != "new\n" {
		t.Errorf("what is new: %q", got)
	}
	if got := user.run("curl", "-sL", "-o", "/dev/null", "-w", "%{http_code}", f.url+"/none"); got != "404" {
		t.Errorf("what is not there: %s", got)
	}
	if n := f.sentTo("dead"); n > 0 {
		t.Errorf("the dead mirror was used %d times", n)
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(image))
	eventually(t, "the hash is known", patience, func() error {
		if why := f.why("/sub/image.iso"); why.File == nil || why.File.SHA256 != sum {
			return fmt.Errorf("%+v", why.File)
		}
		return nil
	})
	if got := string(get(t, f.url+"/sub/image.iso.sha256", http.StatusOK)); got != sum+"  image.iso\n" {
		t.Errorf("%q", got)
	}
}

// longAgo makes a file look as if it had not changed for an hour: what has just changed is
// not hashed before it has settled.
func longAgo(file string) error {
	then := time.Now().Add(-time.Hour)
	return os.Chtimes(file, then, then)
}

// aria2c downloads by the metalink of a file of which one mirror has died and another one
// has damaged bytes, of the right length.
func TestRedirectorAria2(t *testing.T) {
	parallel(t)
	peertest.Require(t, "aria2c")
	dir := t.TempDir()
	image := noise(7, 4<<20)
	file := filepath.Join(dir, "image.iso")
	if err := errors.Join(os.WriteFile(file, image, 0o644), longAgo(file)); err != nil {
		t.Fatal(err)
	}
	f := newFleet(t, dir)
	hotel := f.mirror(t, "hotel", dir)
	dying := f.mirror(t, "dying", dir)
	f.mirror(t, "good", dir)
	f.serve(t, "/image.iso", []string{"hotel", "dying", "good"}, "--no-probes")
	sum := fmt.Sprintf("%x", sha256.Sum256(image))
	eventually(t, "the metalink has the hash", patience, func() error {
		if link := string(get(t, f.url+"/image.iso.meta4", http.StatusOK)); !strings.Contains(link, sum) {
			return errors.New(link)
		}
		return nil
	})
	dying.die()
	if err := os.WriteFile(filepath.Join(hotel.dir, "image.iso"), []byte("<html>Room number?</html>"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"--follow-metalink=mem", f.url + "/image.iso.meta4"},
		{"--follow-metalink=mem", f.url + "/image.iso"}, // it says that it takes one
		{f.url + "/image.iso"},                          // and writes it beside the file
	} {
		user := newClient(t)
		out, err := user.try("aria2c", append([]string{"--check-integrity=true"}, args...)...)
		got, readErr := os.ReadFile(filepath.Join(user.home, "image.iso"))
		if err := errors.Join(err, readErr); err != nil || string(got) != string(image) {
			t.Errorf("%s: %d bytes, %v\n%s", args, len(got), err, out)
		}
	}
}
