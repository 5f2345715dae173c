package e2e

import (
	"encoding/json"
	"fmt"
	"html"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/peertest"
	"freshet/internal/rsync/rsynctest"
)

// oddNames are what upstreams call files.
func oddNames() map[string]string {
	files := make(map[string]string)
	for i, name := range []string{
		"a:b % #?.rpm", "100%.xml", "%2e%2e", "%252e", "x.db", "x.db.sig", "plus+amp&lt;.sig", "q?x=1#y", "quote\"'`.txt", "back\\slash", "*[a-z]{b}", " both ends ", "-rf", "~tilde",
		"semi;colon,comma", "é ü 漢字 \U0001f600", "e\u0301", "..dots", "new..rpm", "tab\tname", "index.html", "robots.txt", "\xff\xfe.bin", "two\nlines.txt",
	} {
		files["odd/"+name] = fmt.Sprintf("file %d %q", i, name)
		files["folder "+name+"/inner"] = fmt.Sprintf("inner %d %q", i, name)
	}
	return files
}

// Files with odd names come from upstream by rsync, and are had over HTTP by the links of
// listings, by rsync, and over a director that has scanned the mirror by either: each byte by
// byte, and nothing else.
func TestMirrorOddNames(t *testing.T) {
	parallel(t)
	peertest.Require(t, "rsync")
	up, files := t.TempDir(), oddNames()
	for name, text := range files {
		writeTree(t, filepath.Join(up, name), []byte(text))
		if err := longAgo(filepath.Join(up, name)); err != nil {
			t.Fatal(err)
		}
	}
	writeTree(t, filepath.Join(up, "odd/.~tmp~/half"), []byte("half"))
	for name, to := range map[string]string{"odd/dangling": "nowhere", "odd/out": "/etc", "odd/above": "../../../../../state"} {
		if err := os.Symlink(to, filepath.Join(up, name)); err != nil {
			t.Fatal(err)
		}
	}
	listen := freeAddr(t)
	disk := t.TempDir()
	if os.Geteuid() == 0 { // rsync becomes nobody
		for top := disk; len(top) > len(os.TempDir()); top = filepath.Dir(top) {
			_ = os.Chmod(top, 0o755)
		}
	}
	b := startBoxes(t, disk, fmt.Sprintf("[mirror.projects.p]\nkind = \"plain\"\nupstreams = [%q]\nschedule = \"never\"\n[mirror.rsyncd]\nlisten = %q\n", rsynctest.Serve(t, up), listen), "")
	b.mustSync("published", "")
	base := "http://" + b.listen + "/p/"

	for _, form := range []string{"json", "html"} {
		got := make(map[string]string)
		crawl(t, form, base, "", got)
		for name := range got {
			if _, ok := files[name]; !ok {
				t.Errorf("a listing shows %q", name)
			}
		}
		same(t, form, got, files)
	}
	for _, path := range []string{"odd/.~tmp~/", "odd/.~tmp~/half", "odd/dangling", "odd/out/", "odd/out/passwd", "odd/above/", "../staging/", "..%2fstaging/", "%2e%2e/%2e%2e/state/", "staging/", "current/"} {
		if text, err := fetchBody(base + path); err == nil {
			t.Errorf("%s is served: %q", path, text)
		}
	}

	copied := filepath.Join(t.TempDir(), "copy")
	user := newClient(t)
	user.run("rsync", "-rt", "--no-links", "rsync://"+listen+"/p/", copied+"/")
	same(t, "rsync", filesOf(t, copied), files)
	for _, path := range []string{"../", "..", "odd/../../", "../../staging"} {
		out, err := user.try("rsync", "-r", "--list-only", "rsync://"+listen+"/p/"+path)
		for line := range strings.Lines(out) {
			if strings.HasPrefix(line, "rsync") {
				continue // what is wrong
			}
			if strings.Contains(line, "staging") || strings.Contains(line, "manifest") || strings.Contains(line, "state") {
				t.Errorf("rsync lists of %s: %v: %s", path, err, line)
			}
		}
	}

	f := newFleet(t, up)
	f.catalogue.Projects[0].Origins = []string{base}
	f.catalogue.Projects[0].Canary = "odd/robots.txt" // mirrors are looked at before they are scanned, too
	for name, source := range map[string]directorapi.Source{
		"http": {How: directorapi.HowHTTP, Every: directorapi.Duration(time.Minute)}, "rsync": {How: directorapi.HowRsync, URL: "rsync://" + listen + "/p/", Every: directorapi.Duration(time.Minute)},
	} {
		f.catalogue.Mirrors = append(f.catalogue.Mirrors, directorapi.Mirror{Name: name, Site: "here", Carries: []directorapi.Carried{{Project: "pub", HTTP: base, Inventory: source}}})
	}
	config := filepath.Join(t.TempDir(), "director.toml")
	if err := os.WriteFile(config, []byte("[director.rsync]\nany-version = true\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	f.serve(t, "/odd/x.db", []string{"http", "rsync"}, "--config", config)
	for name, text := range files {
		path := (&url.URL{Path: "/" + name}).EscapedPath()
		if strings.ContainsAny(name, "\t\n") {
			get(t, f.url+path, http.StatusBadRequest) // which a director passes on to nobody
			continue
		}
		got, err := fetchBody(f.url + path)
		if err != nil || string(got) != text {
			t.Errorf("over the director: %q: %q, %v", name, got, err)
		}
		why := f.why(path)
		for _, m := range why.Mirrors {
			if m.Excluded != "" {
				t.Errorf("%q: mirror %s: %s", name, m.Mirror, m.Excluded)
			}
		}
		if len(why.Mirrors) != 2 {
			t.Errorf("%q: %+v", name, why)
		}
	}
	for _, name := range []string{"/odd/dangling", "/odd/.~tmp~/half", "/odd/out"} {
		if why := f.why(name); slices.ContainsFunc(why.Mirrors, func(m directorapi.WhyMirror) bool { return m.Excluded == "" }) {
			t.Errorf("clients who want %s are sent to a mirror: %+v", name, why)
		}
	}
}

// crawl reads what listings lead to, by path; in JSON, or as a browser has them.
func crawl(t *testing.T, form, base, folder string, into map[string]string) {
	t.Helper()
	at, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	text, err := fetchBody(base + "?format=" + form)
	if err != nil {
		t.Fatalf("%s: %v", base, err)
	}
	var links []string
	if form == "json" {
		var entries []struct{ Href string }
		if err := json.Unmarshal(text, &entries); err != nil {
			t.Fatalf("%s: %v", base, err)
		}
		for _, e := range entries {
			links = append(links, e.Href)
		}
	} else {
		for _, m := range anchors.FindAllStringSubmatch(string(text), -1) {
			links = append(links, html.UnescapeString(m[1]))
		}
	}
	for _, link := range links {
		to, err := at.Parse(link)
		if err != nil {
			t.Fatal(err)
		}
		escaped, below := strings.CutPrefix(to.EscapedPath(), at.EscapedPath())
		if !below || escaped == "" || to.Host != at.Host { // up, or to sort
			continue
		}
		name, err := url.PathUnescape(escaped)
		if err != nil || to.RawQuery != "" || to.Fragment != "" {
			t.Errorf("%s: a link to %q: %v", base, link, err)
		}
		if strings.HasSuffix(escaped, "/") {
			crawl(t, form, to.String(), folder+name, into)
			continue
		}
		body, err := fetchBody(to.String())
		if err != nil {
			t.Errorf("%s: %v", to, err)
		}
		into[folder+name] = string(body)
	}
}

// anchors are the links of a page.
var anchors = regexp.MustCompile(`<a [^>]*href="([^"]*)"`)

// filesOf are the regular files below a folder, by path.
func filesOf(t *testing.T, folder string) map[string]string {
	t.Helper()
	got := make(map[string]string)
	if err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		got[strings.TrimPrefix(path, folder+"/")] = string(text)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

// same compares what was had with what there is.
func same(t *testing.T, how string, got, want map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("by %s: %q is %q, want %q", how, name, got[name], want[name])
		}
	}
	if len(got) != len(want) {
		t.Errorf("by %s there are %d files, want %d", how, len(got), len(want))
	}
}
