package redirect_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/director/redirect"
	"freshet/internal/metalink"
)

// network has files that all mirrors have, but for those that lack some.
type network struct {
	files   map[string]redirect.File
	mirrors []redirect.Pick
	lacks   map[string][]string // mirror → paths
}

func (n *network) File(_ int, path string) (redirect.File, bool) {
	f, ok := n.files[path]
	return f, ok
}

func (n *network) Choose(q *redirect.Query) {
	q.Country, q.ASN = "DE", 64500
	for _, p := range n.mirrors {
		switch {
		case q.HTTPS && !strings.HasPrefix(p.Root, "https:"):
			p.Excluded = "no_https"
		case slices.Contains(n.lacks[p.Mirror.Name], q.Path):
			p.Excluded, p.Detail = "lacks_file", "since\nyesterday"
		}
		if p.Excluded == "" || q.Explain {
			q.Picks = append(q.Picks, p)
		}
	}
}

var (
	changed = time.Date(2026, 3, 4, 5, 6, 7, 890, time.UTC)
	sum     = sha256.Sum256([]byte("iso"))
)

func world() (*redirect.Data, *network) {
	n := &network{files: map[string]redirect.File{}, lacks: map[string][]string{"b": {"40/lacking.iso"}}}
	for _, name := range []string{"40/a.iso", "40/lacking.iso", "40/real.sha256", "odd/a b%c#d?e+é:(f)<.rpm"} {
		n.files[name] = redirect.File{Size: 1234, ModTime: changed, SHA256: sum, HasSHA256: true}
	}
	n.files["40/plain.iso"] = redirect.File{Size: 99}
	n.files["40/repodata/repomd.xml"] = redirect.File{Size: 5, ModTime: changed, SHA256: sum, HasSHA256: true, Mutable: true}
	pick := func(name, root, country string) redirect.Pick {
		return redirect.Pick{Mirror: &redirect.Mirror{Name: name, Country: country}, Root: root, Tier: "country", Score: 2, Kilometres: 30}
	}
	n.mirrors = []redirect.Pick{pick("b", "http://b.example/f/", "DE"), pick("c", "https://c.example/pub/", "AT")}
	return redirect.NewData([]redirect.Project{
		{Name: "epel", Path: "/epel/", Origins: []string{"http://origin.example/epel/"}},
		{Name: "fedora", Path: "/fedora/", Origins: []string{"http://origin.example/fedora/", "https://edge.example/fedora/"}},
	}, n), n
}

func request(target string) *redirect.Request {
	return &redirect.Request{Target: target, Client: netip.MustParseAddr("192.0.2.7"), Now: changed}
}

func TestPlaces(t *testing.T) {
	d, n := world()
	var a redirect.Answer
	for _, c := range []struct {
		target, what string // Location, or reason
		outcome      redirect.Outcome
	}{
		{"/fedora/40/a.iso", "http://b.example/f/40/a.iso", redirect.ToMirror},
		{"/fedora/40/a.iso?x=y", "http://b.example/f/40/a.iso", redirect.ToMirror},
		{"/fedora/40/a.iso?protocol=https", "https://c.example/pub/40/a.iso", redirect.ToMirror},
		{"/fedora/40/lacking.iso", "https://c.example/pub/40/lacking.iso", redirect.ToMirror},
		{"/fedora//x/../40/./a.iso", "http://b.example/f/40/a.iso", redirect.ToMirror},
		{"/fedora/40/%61.iso", "http://b.example/f/40/a.iso", redirect.ToMirror},
		{"/fedora%2f40%2Fa.iso", "http://b.example/f/40/a.iso", redirect.ToMirror},
		{"/epel/%2e%2e/fedora/40/a.iso", "http://b.example/f/40/a.iso", redirect.ToMirror},
		{"/fedora/odd/a%20b%25c%23d%3Fe+%C3%A9:(f)%3C.rpm", "http://b.example/f/odd/a%20b%25c%23d%3Fe+%C3%A9:%28f%29%3C.rpm", redirect.ToMirror},
		{"/fedora/40/new.iso", "http://origin.example/fedora/40/new.iso", redirect.ToOrigin},
		{"/fedora/40/new.iso?protocol=https", "https://edge.example/fedora/40/new.iso", redirect.ToOrigin},
		{"/fedora/40/new.iso.sha256", "http://origin.example/fedora/40/new.iso.sha256", redirect.ToOrigin},
		{"/fedora/40/real.sha256", "http://b.example/f/40/real.sha256", redirect.ToMirror},
		{"/fedora/40/", "http://origin.example/fedora/40/", redirect.ToOrigin},
		{"/fedora/40/x/..", "http://origin.example/fedora/40/", redirect.ToOrigin},
		{"/fedora/", "http://origin.example/fedora/", redirect.ToOrigin},
		{"/fedora", "http://origin.example/fedora/", redirect.ToOrigin},
		{"/epel/new?protocol=https", "no_place", redirect.Refused},
		{"/fedora/../etc/passwd", "unknown_project", redirect.Refused},
		{"/fedora/..", "unknown_project", redirect.Refused},
		{"/", "unknown_project", redirect.Refused},
		{"/fedorax/a", "unknown_project", redirect.Refused},
		{"/fedora/a%0d%0aX:y", "bad_path", redirect.Refused},
		{"/fedora/a%00", "bad_path", redirect.Refused},
		{"/fedora/a%zz", "bad_path", redirect.Refused},
		{"/fedora/" + strings.Repeat("a/", 2100), "bad_path", redirect.Refused},
		{"/fedora/40/a.iso?mirrorlist=ftp", "bad_query", redirect.Refused},
		{"/fedora/40/a.iso?why&ip=me", "bad_client_address", redirect.Refused},
		{"/fedora/40/plain.iso.sha256", "no_hash", redirect.Refused},
	} {
		a.Make(d, request(c.target))
		got := a.Fields.Get("Location")
		if c.outcome == redirect.Refused {
			got = string(a.Reason)
		}
		if a.Outcome != c.outcome || got != c.what || (a.Status == http.StatusFound) != (c.outcome != redirect.Refused) || a.Status >= 500 {
			t.Errorf("%s: %d %v %q, want %v %q", c.target, a.Status, a.Outcome, got, c.outcome, c.what)
		}
	}
	n.mirrors = nil
	if a.Make(d, request("/fedora/40/a.iso")); a.Fields.Get("Location") != "http://origin.example/fedora/40/a.iso" || a.Outcome != redirect.ToOrigin {
		t.Errorf("without mirrors: %v, %v", a.Outcome, a.Fields.Get("Location"))
	}
}

func TestFields(t *testing.T) {
	d, _ := world()
	var a redirect.Answer
	r := request("/fedora/40/a.iso")
	r.HTTPS = true
	a.Make(d, r)
	b64 := base64.StdEncoding.EncodeToString(sum[:])
	want := "Location: https://c.example/pub/40/a.iso\r\n" +
		"Cache-Control: private, max-age=30\r\n" +
		"Vary: Accept, X-Forwarded-For, X-Forwarded-Proto\r\n" +
		"Link: <https://c.example/pub/40/a.iso>; rel=duplicate; pri=1; geo=at\r\n" +
		"Link: <https://edge.example/fedora/40/a.iso>; rel=duplicate; pri=2\r\n" +
		"Link: </fedora/40/a.iso.meta4>; rel=describedby; type=\"application/metalink4+xml\"\r\n" +
		"Repr-Digest: sha-256=:" + b64 + ":\r\n" +
		"Digest: SHA-256=" + b64 + "\r\n"
	if got := string(a.Fields.AppendHead(nil)); got != want {
		t.Errorf("\n%s\nwant\n%s", got, want)
	}
	if a.Make(d, request("/fedora/40/repodata/repomd.xml")); a.Fields.Get("Cache-Control") != "private, no-store" {
		t.Errorf("a mutable name may be kept: %q", a.Fields.Get("Cache-Control"))
	}
}

// A client that has the current version need not get it again; and only then.
func TestNotModified(t *testing.T) {
	d, _ := world()
	var a redirect.Answer
	tag := fmt.Sprintf(`"%x-%x"`, changed.Unix(), 1234)
	for _, c := range []struct {
		match, since string
		want         int
	}{
		{"", changed.Format(http.TimeFormat), 304},
		{"", changed.Add(time.Second).Format(http.TimeFormat), 302},
		{"", changed.Add(-time.Second).Format(http.TimeFormat), 302},
		{"", "yesterday", 302},
		{tag, "", 304},
		{`"x", W/` + tag, "", 304},
		{`"x"`, changed.Format(http.TimeFormat), 302}, // RFC 9110 §13.1.3
		{fmt.Sprintf(`"%x"`, sum), "", 304},
		{`"`, "", 302},
		{"*", "", 302},
	} {
		r := request("/fedora/40/a.iso")
		r.IfNoneMatch, r.IfModifiedSince = c.match, c.since
		if a.Make(d, r); a.Status != c.want {
			t.Errorf("If-None-Match: %s, If-Modified-Since: %s: %d, want %d", c.match, c.since, a.Status, c.want)
		}
		r.Target = "/fedora/40/new.iso"
		if a.Make(d, r); a.Status != 302 {
			t.Errorf("a file that is not known: %d", a.Status)
		}
		r.Target = "/fedora/40/repodata/repomd.xml"
		if a.Make(d, r); a.Status == 304 && !strings.Contains(c.match, fmt.Sprintf("%x", sum)) {
			t.Errorf("a mutable file, %s %s: %d", c.match, c.since, a.Status)
		}
	}
}

func TestDocuments(t *testing.T) {
	d, _ := world()
	var a redirect.Answer
	for target, accept := range map[string]string{
		"/fedora/40/a.iso.meta4": "", "/fedora/40/a.iso.metalink": "", "/fedora/40/a.iso": "*/*,application/metalink4+xml",
	} {
		r := request(target)
		r.Accept = accept
		a.Make(d, r)
		files, err := metalink.Parse(strings.NewReader(string(a.Body)))
		if err != nil || a.Status != 200 || a.Outcome != redirect.Document {
			t.Fatalf("%s: %d %v %v\n%s", target, a.Status, a.Outcome, err, a.Body)
		}
		name := ""
		if accept != "" { // or aria2 would keep the metalink under the name of the file
			name = "attachment; filename*=UTF-8''a.iso.meta4"
		}
		if got := a.Fields.Get("Content-Disposition"); got != name {
			t.Errorf("%s: Content-Disposition %q, want %q", target, got, name)
		}
		f := files[0]
		var urls []string
		for _, u := range f.URLs {
			urls = append(urls, fmt.Sprint(u.Base, u.Location, u.Priority))
		}
		if f.Name != "a.iso" || f.Versions[0].Size != 1234 || f.Versions[0].SHA256 != fmt.Sprintf("%x", sum) ||
			!slices.Equal(urls, []string{"http://b.example/f/40/a.isoDE1", "https://c.example/pub/40/a.isoAT2", "http://origin.example/fedora/40/a.iso3"}) {
			t.Errorf("%s: %+v %q", target, f, urls)
		}
	}
	if a.Make(d, request("/fedora/40/a.iso.sha256")); string(a.Body) != fmt.Sprintf("%x  a.iso\n", sum) {
		t.Errorf("%q", a.Body)
	}
}

func TestLists(t *testing.T) {
	d, _ := world()
	var a redirect.Answer
	for target, want := range map[string]string{
		"/fedora/40/a.iso?mirrorlist":              "http://b.example/f/40/a.iso\nhttps://c.example/pub/40/a.iso\nhttp://origin.example/fedora/40/a.iso\n",
		"/fedora/40/?mirrorlist":                   "http://b.example/f/40/\nhttps://c.example/pub/40/\nhttp://origin.example/fedora/40/\n",
		"/fedora/40?mirrorlist&protocol=https":     "https://c.example/pub/40/\nhttps://edge.example/fedora/40/\n",
		"/fedora/?mirrorlist=pacman":               "Server = http://b.example/f/$repo/os/$arch\nServer = https://c.example/pub/$repo/os/$arch\nServer = http://origin.example/fedora/$repo/os/$arch\n",
		"/fedora/?mirrorlist=pacman&server=$repo":  "Server = http://b.example/f/$repo\nServer = https://c.example/pub/$repo\nServer = http://origin.example/fedora/$repo\n",
		"/fedora/core/os/x?mirrorlist=pacman":      "Server = http://b.example/f/core/os/x\nServer = https://c.example/pub/core/os/x\nServer = http://origin.example/fedora/core/os/x\n",
		"/fedora/?mirrorlist=apt":                  "http://b.example/f/\tpriority:1\nhttps://c.example/pub/\tpriority:2\nhttp://origin.example/fedora/\tpriority:3\n",
		"/fedora/40/lacking.iso?why=text":          "https://c.example/pub/40/lacking.iso\nhttp://origin.example/fedora/40/lacking.iso\n# b: not used: lacks_file: since yesterday\n# c: country, 30 km, score 2\n",
		"/fedora/40/lacking.iso?mirrorlist&server": "https://c.example/pub/40/lacking.iso\nhttp://origin.example/fedora/40/lacking.iso\n",
	} {
		if a.Make(d, request(target)); string(a.Body) != want || a.Status != 200 || a.Outcome != redirect.List {
			t.Errorf("%s: %d %v\n%s\nwant\n%s", target, a.Status, a.Outcome, a.Body, want)
		}
	}
}

func TestWhy(t *testing.T) {
	d, _ := world()
	var a redirect.Answer
	r := request("/fedora/40/lacking.iso?why&ip=2001:db8::1")
	r.Accept = "application/json"
	a.Make(d, r)
	var w directorapi.Why
	if err := json.Unmarshal(a.Body, &w); err != nil {
		t.Fatal(err)
	}
	if w.Project != "fedora" || w.Path != "/fedora/40/lacking.iso" || w.File == nil || w.File.SHA256 != fmt.Sprintf("%x", sum) || w.Client.Address != "2001:db8::1" ||
		w.Client.Country != "DE" || len(w.Mirrors) != 2 || w.Mirrors[0].URL != "https://c.example/pub/40/lacking.iso" || w.Location != w.Mirrors[0].URL ||
		w.Mirrors[0].Distance != 30 || w.Mirrors[1].Excluded != "lacks_file" || w.Mirrors[1].URL != "" || w.Status != 302 || w.Reason != "mirror" {
		t.Errorf("%s", a.Body)
	}
	r.Accept = "text/html"
	if a.Make(d, r); a.Page == nil || len(a.Body) > 0 || len(a.Page.Mirrors) != 2 {
		t.Errorf("no page: %+v, %q", a.Page, a.Body)
	}
	for target, want := range map[string]string{
		"/fedora/40/?mirrorlist=json":            "302 origin http://origin.example/fedora/40/ 2",
		"/fedora/40/new?why=json":                "302 origin http://origin.example/fedora/40/new 2",
		"/fedora/40/lacking.iso?mirrorlist=json": "302 mirror https://c.example/pub/40/lacking.iso 1",
		"/epel/x?why=json&protocol=https":        "404 no_place  2",
	} {
		var w directorapi.Why
		a.Make(d, request(target))
		if err := json.Unmarshal(a.Body, &w); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%d %s %s %d", w.Status, w.Reason, w.Location, len(w.Mirrors)); got != want {
			t.Errorf("%s: %s, want %s", target, a.Body, want)
		}
	}
}

func TestNoGarbage(t *testing.T) {
	d, _ := world()
	var a redirect.Answer
	r := request("/fedora/40/a.iso")
	if n := testing.AllocsPerRun(100, func() { a.Make(d, r) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRedirect(b *testing.B) {
	d, _ := world()
	var a redirect.Answer
	r := request("/fedora/40/a.iso")
	for b.Loop() {
		a.Make(d, r)
	}
}
