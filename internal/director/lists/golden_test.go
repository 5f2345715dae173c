package lists_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"freshet/internal/director/lists"
)

// The worked examples of the protocol. Lines that begin with "~" are in any order.
func TestExamples(t *testing.T) {
	const list = "/mirrorlist?repo=r-1&arch=x86_64"
	for _, c := range []struct {
		target  string
		minimum int
		want    string // body, with "|" for the ends of lines
	}{
		{list, 1, "# repo = r-1 arch = x86_64 country = DE country = AT |http://a.de/pub/r/|https://b.at/p/r/|"},
		{list + "&protocol=https", 1, "# repo = r-1 arch = x86_64 country = DE country = AT protocol = https|https://a.de/pub/r/|https://b.at/p/r/|"},
		{list + "&protocol=gopher", 1, "# repo = r-1 arch = x86_64 country = DE country = AT protocol = gopher|" +
			"http://a.de/pub/r/|https://a.de/pub/r/|rsync://a.de/pub/r/|https://b.at/p/r/|"},
		{list + "&time", 1, "# repo = r-1 arch = x86_64 country = DE country = AT |# database creation time: 1700000000|http://a.de/pub/r/|https://b.at/p/r/|"},
		{list + "&ip=10.1.2.3", 1, "# repo = r-1 arch = x86_64 Using preferred netblock |http://c.lan/p/r/|"},
		{list + "&ip=10.1.2.3", 5, "# repo = r-1 arch = x86_64 Using preferred netblock country = global |http://c.lan/p/r/|~http://a.de/pub/r/|~https://b.at/p/r/|"},
		{list + "&ip=10.1.2.3&netblock=0", 1, "# repo = r-1 arch = x86_64 country = global |~http://a.de/pub/r/|~https://b.at/p/r/|"},
		{list + "&ip=10.1.2.3&netblock=1", 1, "# repo = r-1 arch = x86_64 Using preferred netblock |http://c.lan/p/r/|"},
		{list + "&country=at", 1, "# repo = r-1 arch = x86_64 country = at |https://b.at/p/r/|"},
		{list + "&country=ch", 5, "# repo = r-1 arch = x86_64 country = AT country = DE |~http://a.de/pub/r/|~https://b.at/p/r/|"},
		{list + "&country=zz", 1, "# repo = r-1 arch = x86_64 country = DE country = AT |http://a.de/pub/r/|https://b.at/p/r/|"},
		{list + "&country=zz&ip=10.1.2.3", 1, "# repo = r-1 arch = x86_64 country = global |~http://a.de/pub/r/|~https://b.at/p/r/|"},
	} {
		d := example().data(t, lists.Options{Minimum: c.minimum})
		a := ask(d, c.target)
		if a.Status != 200 || a.Type != "text/plain" || a.Reason != "" {
			t.Errorf("%s: %d %s %s", c.target, a.Status, a.Type, a.Reason)
		}
		if got := strings.ReplaceAll(string(a.Body), "\n", "|"); !sameLines(got, c.want) {
			t.Errorf("%s, minimum %d:\n%s\nwant\n%s", c.target, c.minimum, got, c.want)
		}
	}
}

// sameLines compares what has "|" for ends of lines. Neighbours that begin with "~" in
// want are in any order.
func sameLines(got, want string) bool {
	var fixed []string
	lines := strings.Split(got, "|")
	wanted := strings.Split(want, "|")
	if len(lines) != len(wanted) {
		return false
	}
	for i := 0; i < len(wanted); {
		n := i
		for n < len(wanted) && strings.HasPrefix(wanted[n], "~") {
			n++
		}
		if n == i {
			fixed = append(fixed, wanted[i])
			i++
			continue
		}
		group := slices.Sorted(slices.Values(lines[i:n]))
		for j, w := range slices.Sorted(slices.Values(wanted[i:n])) {
			if group[j] != w[1:] {
				return false
			}
		}
		fixed = append(fixed, lines[i:n]...)
		i = n
	}
	return slices.Equal(lines, fixed)
}

const metalinkHead = `<?xml version="1.0" encoding="utf-8"?>
<metalink version="3.0" xmlns="http://www.metalinker.org/" type="dynamic" pubdate="Fri, 06 Sep 2024 14:05:02 GMT" generator="mirrormanager" xmlns:mm0="http://fedorahosted.org/mirrormanager">
`

func TestMetalinkExamples(t *testing.T) {
	d := example().data(t, lists.Options{Minimum: 1})
	const repo = "/metalink?repo=r-1&arch=x86_64"
	a := ask(d, repo+"&ip=10.1.2.3")
	want := metalinkHead + ` <files>
  <file name="repomd.xml">
   <mm0:timestamp>1699999000</mm0:timestamp>
   <size>2046</size>
   <verification>
    <hash type="md5">` + strings.Repeat("1", 32) + `</hash>
    <hash type="sha1">` + strings.Repeat("2", 40) + `</hash>
    <hash type="sha256">` + strings.Repeat("3", 64) + `</hash>
    <hash type="sha512">` + strings.Repeat("4", 128) + `</hash>
   </verification>
   <resources maxconnections="1">
    <url protocol="http" type="http" location="DE" preference="100" mm0:private="True">http://c.lan/p/r/repodata/repomd.xml</url>
   </resources>
  </file>
 </files>
</metalink>
`
	if a.Status != 200 || a.Type != "application/metalink+xml" || string(a.Body) != want {
		t.Errorf("%d %s\n%s\nwant\n%s", a.Status, a.Type, a.Body, want)
	}
	got := regexp.MustCompile(`(?m)^    <url .*`).FindAllString(string(ask(d, repo).Body), -1)
	if want := []string{
		`    <url protocol="http" type="http" location="DE" preference="100">http://a.de/pub/r/repodata/repomd.xml</url>`,
		`    <url protocol="https" type="https" location="DE" preference="100">https://a.de/pub/r/repodata/repomd.xml</url>`,
		`    <url protocol="rsync" type="rsync" location="DE" preference="100">rsync://a.de/pub/r/repodata/repomd.xml</url>`,
		`    <url protocol="https" type="https" location="AT" preference="99">https://b.at/p/r/repodata/repomd.xml</url>`,
	}; !slices.Equal(got, want) {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// What is answered when there is no list, in both modes.
func TestFailures(t *testing.T) {
	const repos = "# following repositories are available:\n# repo=r-1&arch=x86_64\n# repo=r-2&arch=x86_64\n"
	for _, c := range []struct {
		query, forwarded string
		status           int
		reason           lists.Reason
		list, xml        string // body, and comment; xml "" if there is the same in both modes
	}{
		{"", "", 200, lists.MissingParameter, "# either path=, or repo= and arch= must be specified", "# either path=, or repo= and arch= must be specified"},
		{"repo=r-1", "", 200, lists.MissingParameter, "# either path=, or repo= and arch= must be specified", "# either path=, or repo= and arch= must be specified"},
		{"path=pub/nothing/x", "", 404, lists.UnknownPath, "error: invalid path", "error: invalid path"},
		{"path=", "", 404, lists.UnknownPath, "error: invalid path", "error: invalid path"},
		{"repo=old&arch=x86_64", "", 200, lists.RepoDisabled, "repo disabled", "repo disabled"},
		{"repo=r-9&arch=x86_64", "", 404, lists.UnknownRepo, "# repo = r-9 arch = x86_64 error: invalid repo or arch\n" + repos, "# repo = r-9 arch = x86_64 error: invalid repo or arch\n" + repos},
		{"repo=r-source-1&arch=x86_64", "", 404, lists.UnknownRepo, "# repo = r-source-1 arch = source error: invalid repo or arch\n" + repos, "# repo = r-source-1 arch = source error: invalid repo or arch\n" + repos},
		{"repo=a--b&arch=%0a-->", "", 404, lists.UnknownRepo, "# repo = a--b arch = %0a--> error: invalid repo or arch\n" + repos, "# repo = a- -b arch = %0a- -> error: invalid repo or arch\n" + repos},
		{"repo=r-2&arch=x86_64", "", 500, lists.NoDirectory, "mirrorlist cache index out of range, you broke it!", ""},
		{"repo=r-1&arch=x86_64&ip=300.1.1.1", "", 500, lists.BadAddress, "Cannot parse client IP address. Aborting.", "Cannot parse client IP address. Aborting."},
		{"repo=r-1&arch=x86_64", "unknown", 500, lists.BadAddress, "Cannot parse client IP address. Aborting.", "Cannot parse client IP address. Aborting."},
	} {
		n := example()
		n.AddDisabled("old", true)
		n.AddRepository("r-2+x86_64", "pub/gone")
		n.AddRepository("a+b+c", "pub/r") // is not listed
		d := n.data(t, lists.Options{Minimum: 1})
		for _, mode := range []string{"/mirrorlist?", "/metalink?"} {
			r := &lists.Request{Target: mode + c.query, Peer: inDE}
			if c.forwarded != "" {
				r.Forwarded, r.HasForwarded = c.forwarded, true
			}
			a := asked(d, r)
			body, kind := c.list, ""
			if mode == "/metalink?" && c.xml != "" {
				body, kind = metalinkHead+"<!-- "+c.xml+"\n-->\n</metalink>\n", "application/metalink+xml"
			}
			if a.Status != c.status || a.Reason != c.reason || a.Type != kind || string(a.Body) != body {
				t.Errorf("%s%s: %d %s %q\n%s\nwant %d %s %q\n%s", mode, c.query, a.Status, a.Reason, a.Type, a.Body, c.status, c.reason, kind, body)
			}
		}
	}
	d := example().data(t, lists.Options{})
	if a := ask(d, "/"); a.Status != 404 || a.Reason != lists.UnknownEndpoint || a.Type != "" || string(a.Body) != "We don't serve their kind here!" {
		t.Errorf("/: %d %s %q %s", a.Status, a.Reason, a.Type, a.Body)
	}
	for target, what := range map[string]string{
		"/metalink?path=pub/r":                  "pub/r/",
		"/metalink?path=/pub//r/repodata/x.xml": "pub/r/repodata/x.xml",
	} {
		a := ask(d, target)
		want := metalinkHead + "<!-- " + what + " not found or has not metalink\n-->\n</metalink>\n"
		if a.Status != 404 || a.Reason != lists.NoMetalink || a.Type != "application/metalink+xml" || string(a.Body) != want {
			t.Errorf("%s: %d %s %q %s", target, a.Status, a.Reason, a.Type, a.Body)
		}
	}
}
