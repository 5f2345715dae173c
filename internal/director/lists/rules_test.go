package lists_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"freshet/internal/director/lists"
	"freshet/internal/geoip"
	"freshet/internal/mirrorlist"
)

// told is the first line of a list without what names the repository, and its URLs.
func told(a *lists.Answer) (comment string, urls []string) {
	lines := strings.Split(strings.TrimSuffix(string(a.Body), "\n"), "\n")
	return strings.TrimPrefix(lines[0], "# repo = r-1 arch = x86_64 "), lines[1:]
}

// world is a network with mirrors for each rule. The name of a mirror says where it is.
func world() *network {
	n := example()
	n.hosts = nil
	add := func(id int64, country string, private bool, name string) {
		n.hosts = append(n.hosts, host{id, country, private, 100, []string{"http://" + name}})
	}
	add(10, "DE", false, "de")
	add(11, "AT", false, "at")
	add(12, "US", false, "us")
	add(13, "CA", false, "ca")
	add(14, "JP", false, "jp")
	add(20, "DE", true, "lan8")
	add(21, "DE", true, "lan16")
	add(22, "DE", true, "host")
	add(30, "US", true, "as64500")
	add(31, "US", false, "us-as64500")
	n.AddNetblock("10.0.0.0/8", []int64{20, 999}) // this test's example has it as well
	n.AddNetblock("10.1.77.7/16", []int64{21})    // bits behind its length do not matter
	n.AddNetblock("10.1.2.3", []int64{22})
	n.AddNetblock("2001:db8::/32", []int64{21})
	n.AddASN(64500, []int64{30, 31})
	var err error
	if n.sources.Netblocks, err = geoip.ParseNetblocks(strings.NewReader(
		"198.51.100.0/24 64500\n198.51.0.0/16 64501\n203.0.113.0/24 AS64500\n2001:db8:1::/48 64500\n")); err != nil {
		panic(err)
	}
	n.AddNetblockCountry("198.51.100.0/24", "US")
	n.AddNetblockCountry("2001:db8:2::/48", "CA")
	n.AddNetblockCountry("192.0.2.128/25", "JP")
	return n
}

// Each rule by which mirrors are chosen. Groups stand in order, and in braces those
// whose order is chance.
func TestRules(t *testing.T) {
	const eu = "country = DE country = AT "
	for _, c := range []struct {
		name, params string
		minimum      int
		comment      string
		groups       string
	}{
		{"country, then continent", "ip=192.0.2.1", 1, eu, "{de}{at}"},
		{"too few: the world", "ip=192.0.2.1", 3, eu + "country = global ", "{de}{at}{us ca jp us-as64500}"},
		{"as many as wanted", "ip=192.0.2.1", 2, eu, "{de}{at}"},
		{"a smaller netblock has another country", "ip=192.0.2.200", 1, "country = JP ", "{jp}"},
		{"country unknown", "ip=203.0.114.1", 5, "country = global ", "{de at us ca jp us-as64500}"},
		{"country unknown, and none wanted", "ip=203.0.114.1", 0, "", ""},
		{"the longest netblock first", "ip=10.1.2.3", 1, "Using preferred netblock ", "{host}{lan16}{lan8}"},
		{"netblocks of IPv6", "ip=2001:db8:ffff::1", 1, "Using preferred netblock ", "{lan16}"},
		{"netblocks are not asked for", "ip=10.1.2.3&netblock=0", 5, "country = global ", "{de at us ca jp us-as64500}"},
		{"nor with another value", "ip=10.1.2.3&netblock=yes", 5, "country = global ", "{de at us ca jp us-as64500}"},
		{"nor with none", "ip=10.1.2.3&netblock", 5, "country = global ", "{de at us ca jp us-as64500}"},
		{"they are with 1", "ip=10.1.2.3&netblock=1", 1, "Using preferred netblock ", "{host}{lan16}{lan8}"},
		{"system, with private mirrors", "ip=198.51.100.1", 1, "Using ASN 64500 country = US country = CA ", "{as64500 us-as64500}{us}{ca}"},
		{"system of the longest netblock", "ip=198.51.7.1", 1, "country = global ", "{de at us ca jp us-as64500}"},
		{"a system without number", "ip=203.0.113.1", 1, "country = global ", "{de at us ca jp us-as64500}"},
		{"system and netblock", "ip=2001:db8:1::1", 1, "Using preferred netblock Using ASN 64500 ", "{lan16}{as64500 us-as64500}"},
		{"system is not asked for", "ip=198.51.100.1&netblock=2", 1, "country = US country = CA ", "{us us-as64500}{ca}"},
		{"a country, and nothing else", "ip=10.1.2.3&country=jp", 5, "country = jp ", "{jp}"},
		{"countries in the order of their bytes", "country=us,AT,at,AT", 5, "country = AT country = at country = us ", "{at us us-as64500}"},
		{"the world", "country=Global", 1, "country = global ", "{de at us ca jp us-as64500}"},
		{"the world and a country", "country=global,de", 1, "country = de country = global ", "{de at us ca jp us-as64500}"},
		{"the continents of countries without mirrors", "country=CH", 5, eu0("AT", "DE"), "{de at}"},
		{"nowhere: as if not asked, without netblocks", "ip=10.1.2.3&country=zz", 5, "country = global ", "{de at us ca jp us-as64500}"},
		{"nowhere: the client's own", "ip=192.0.2.1&country=,", 1, eu, "{de}{at}"},
		{"empty: not asked", "ip=10.1.2.3&country=", 1, "Using preferred netblock ", "{host}{lan16}{lan8}"},
		{"IPv4 in IPv6", "ip=::ffff:10.1.2.3", 1, "Using preferred netblock ", "{host}{lan16}{lan8}"},
	} {
		d := world().data(t, lists.Options{Minimum: c.minimum})
		comment, urls := told(ask(d, "/mirrorlist?repo=r-1&arch=x86_64&"+c.params))
		if comment != c.comment || !inGroups(urls, c.groups) {
			t.Errorf("%s: %s, minimum %d: %q\n%v\nwant %q\n%s", c.name, c.params, c.minimum, comment, urls, c.comment, c.groups)
		}
	}
}

// eu0 is what is told of countries.
func eu0(codes ...string) string {
	var b strings.Builder
	for _, code := range codes {
		fmt.Fprintf(&b, "country = %s ", code)
	}
	return b.String()
}

// inGroups reports whether URLs are those of groups such as "{a b}{c}".
func inGroups(urls []string, groups string) bool {
	var names []string
	for _, u := range urls {
		name, ok := strings.CutSuffix(strings.TrimPrefix(u, "http://"), "/r/")
		if !ok {
			return false
		}
		names = append(names, name)
	}
	for group := range strings.SplitSeq(strings.Trim(groups, "{}"), "}{") {
		want := strings.Fields(group)
		if len(names) < len(want) {
			return false
		}
		got := slices.Sorted(slices.Values(names[:len(want)]))
		slices.Sort(want)
		if !slices.Equal(got, want) {
			return false
		}
		names = names[len(want):]
	}
	return len(names) == 0
}

// A mirror that is for some countries only is named to clients there alone; strictly,
// that counts only where countries were asked for, and for the whole world.
func TestAllowedCountries(t *testing.T) {
	for _, c := range []struct {
		params  string
		strict  bool
		comment string
		groups  string
	}{
		{"ip=192.0.2.1", false, "country = DE country = AT ", "{at}"},
		{"ip=192.0.2.1", true, "country = DE country = AT ", "{de}{at}"},
		{"ip=192.0.2.1&country=de", true, "country = de ", ""}, // nobody, and nothing else
		{"ip=192.0.2.1&country=de", false, "country = de ", ""},
		{"ip=198.51.100.1&country=de", false, "country = de ", "{de}"},
		{"ip=192.0.2.1&country=global", true, "country = global ", "{at us ca jp us-as64500}"},
		{"ip=203.0.114.1", true, "country = global ", "{at us ca jp us-as64500}"},
		{"ip=198.51.100.1", true, "Using ASN 64500 country = US country = CA ", "{as64500 us-as64500}{us}{ca}"},
		{"ip=10.0.0.1", true, "Using preferred netblock ", "{lan8}"},
		{"ip=10.0.0.1", false, "country = global ", "{at us ca jp us-as64500}"},
	} {
		n := world()
		n.AddAllowedCountries(10, []string{"US", "CA"})
		n.AddAllowedCountries(20, []string{"US"})
		d := n.data(t, lists.Options{Minimum: 1, Strict: c.strict})
		comment, urls := told(ask(d, "/mirrorlist?repo=r-1&arch=x86_64&"+c.params))
		if comment != c.comment || !inGroups(urls, c.groups) {
			t.Errorf("%s, strict %v: %q %v, want %q %s", c.params, c.strict, comment, urls, c.comment, c.groups)
		}
	}
}

// Which URLs of a mirror are given.
func TestProtocols(t *testing.T) {
	many := func() *network {
		n := example()
		n.hosts = []host{
			{1, "DE", false, 100, []string{"rsync://a", "http://a", "https://a", "http://a2", "ftp://a"}},
			{2, "AT", false, 100, []string{"rsync://b"}},
		}
		return n
	}
	for _, c := range []struct {
		params string
		https  bool
		urls   string // without "/r/"
	}{
		{"", false, "http://a"},
		{"", true, "https://a"},
		{"&protocol=http", false, "http://a"},
		{"&protocol=http", true, "http://a"},
		{"&protocol=http,https", false, "http://a https://a"},
		{"&protocol=https,http", true, "http://a https://a"},
		{"&protocol=http,http", false, "http://a"},
		{"&protocol=rsync", false, "rsync://a rsync://b"},
		{"&protocol=rsync,ftp,x", false, "rsync://a ftp://a rsync://b"},
		{"&protocol=HTTP", false, "rsync://a http://a https://a http://a2 ftp://a rsync://b"}, // there is no such
		{"&protocol", false, "rsync://a http://a https://a http://a2 ftp://a rsync://b"},
		{"&protocol=ftp%2Cx", false, "ftp://a"},
	} {
		d := many().data(t, lists.Options{Minimum: 1, PreferHTTPS: c.https})
		_, urls := told(ask(d, "/mirrorlist?repo=r-1&arch=x86_64"+c.params))
		if got := strings.ReplaceAll(strings.Join(urls, " "), "/r/", ""); got != c.urls {
			t.Errorf("%s, https %v: %s, want %s", c.params, c.https, got, c.urls)
		}
	}
	// A metalink has all, unless protocols are named; a mirror's are equally good.
	d := many().data(t, lists.Options{Minimum: 1})
	if got := strings.Count(string(ask(d, "/metalink?repo=r-1&arch=x86_64").Body), "<url "); got != 6 {
		t.Errorf("a metalink has %d URLs, want 6", got)
	}
	body := string(ask(d, "/metalink?repo=r-1&arch=x86_64&protocol=https").Body)
	if strings.Count(body, "<url ") != 1 || !strings.Contains(body, ">https://a/r/repodata/repomd.xml<") {
		t.Error(body)
	}
	// What is too few is counted by protocol, and by all if none is there.
	d = many().data(t, lists.Options{Minimum: 2})
	for params, want := range map[string]string{
		"&protocol=https": "country = DE country = AT country = global protocol = https",
		"&protocol=rsync": "country = DE country = AT protocol = rsync",
		"&protocol=none":  "country = DE country = AT protocol = none",
	} {
		if comment, _ := told(ask(d, "/mirrorlist?repo=r-1&arch=x86_64"+params)); comment != want {
			t.Errorf("%s: %q, want %q", params, comment, want)
		}
	}
}

func TestRedirects(t *testing.T) {
	for _, c := range []struct {
		target   string
		https    bool
		status   int
		location string
	}{
		{"path=//pub//r/a.iso/&redirect&protocol=https", false, 302, "https://a.de/pub/r/a.iso"},
		{"path=pub/r/a.iso&redirect", false, 302, "http://a.de/pub/r/a.iso"},
		{"path=pub/r/a.iso&redirect=0", true, 302, "https://a.de/pub/r/a.iso"},
		{"path=pub/r/a.iso&redirect&protocol=http", true, 302, "http://a.de/pub/r/a.iso"},
		{"path=pub/r/a.iso&redirect&country=at", false, 302, "https://b.at/p/r/a.iso"},
		{"path=pub/r/a.iso&redirect&protocol=rsync&country=at", false, 302, "https://b.at/p/r/a.iso"}, // as if not asked
		{"path=pub/r/a.iso&redirect&protocol=rsync", false, 404, ""},
		{"path=pub/r&redirect", false, 302, "http://a.de/pub/r/"},
		{"repo=r-1&arch=x86_64&redirect", false, 302, "http://a.de/pub/r/"},
		{"path=pub/r/libstdc%2B%2B&redirect", false, 302, "http://a.de/pub/r/libstdc%2B%2B"}, // sent on as it came
		{"path=pub%2Fr/a.iso&redirect", false, 302, "http://a.de/pub/r/a.iso"},
	} {
		d := example().data(t, lists.Options{Minimum: 1, PreferHTTPS: c.https})
		a := ask(d, "/mirrorlist?"+c.target)
		if a.Status != c.status || string(a.Location) != c.location || len(a.Body) != 0 || a.Type != "text/plain" {
			t.Errorf("%s: %d %s %q %s", c.target, a.Status, a.Location, a.Type, a.Body)
		}
	}
	// A metalink is one all the same.
	d := example().data(t, lists.Options{Minimum: 1})
	if a := ask(d, "/metalink?repo=r-1&arch=x86_64&redirect"); a.Status != 200 || len(a.Location) != 0 || len(a.Body) == 0 {
		t.Errorf("%d %s", a.Status, a.Location)
	}
}

// What of the directory is asked for, and how it is put together with the base URL.
func TestPaths(t *testing.T) {
	n := example()
	n.hosts = []host{{1, "DE", false, 1, []string{"http://a/"}}, {2, "DE", false, 1, []string{"http://b"}}}
	n.directories([]int64{1, 2}, "top", "top/x+y")
	n.AddRedirect("r-latest", "r-1")
	n.AddRedirect("r-chain", "r-latest")
	n.AddRepository("r-src-source+source", "top/x+y")
	n.AddRepository("md+x86_64", "pub/r/repodata")
	d := n.data(t, lists.Options{})
	for _, c := range []struct{ query, comment, urls string }{
		{"path=pub/r", "# path = pub/r ", "http://a//r/ http://b/r/"}, // the base decides
		{"path=pub/r/x", "# path = pub/r/x ", "http://a//r/x http://b/r/x"},
		{"path=top", "# path = top ", "http://a// http://b/"},
		{"path=/top/f", "# path = top/f ", "http://a/f http://b/f"},
		{"path=top///x+y//", "# path = top/x+y ", "http://a//x+y/ http://b/x+y/"},
		{"path=top/x%2by", "# path = top/x+y ", "http://a//x+y/ http://b/x+y/"},
		{"path=top&repo=r-1&arch=x86_64", "# path = top ", "http://a// http://b/"},
		{"repo=r-latest&arch=x86_64", "# repo = r-1 arch = x86_64 ", "http://a//r/ http://b/r/"},
		{"repo=r-src-source&arch=x86_64", "# repo = r-src-source arch = source ", "http://a//x+y/ http://b/x+y/"},
		{"repo=r%2D1&arch=x86%5F64", "# repo = r-1 arch = x86_64 ", "http://a//r/ http://b/r/"},
	} {
		lines := strings.Split(strings.TrimSuffix(string(ask(d, "/x/mirrorlist?country=de&"+c.query).Body), "\n"), "\n")
		slices.Sort(lines[1:])
		if got := strings.Join(lines[1:], " "); lines[0] != c.comment+"country = de " || got != c.urls {
			t.Errorf("%s: %q %s, want %q %s", c.query, lines[0], got, c.comment, c.urls)
		}
	}
	if a := ask(d, "/mirrorlist?repo=r-chain&arch=x86_64"); a.Reason != lists.UnknownRepo {
		t.Errorf("a chain of redirects: %s", a.Reason)
	}
	if a := ask(d, "/metalink?repo=md&arch=x86_64"); a.Status != 200 || !strings.Contains(string(a.Body), ">http://b/r/repodata/repomd.xml<") {
		t.Errorf("a repository that is its metadata: %s", a.Body)
	}
	strict := example().data(t, lists.Options{Strict: true, Minimum: 1})
	for _, target := range []string{"repo=r%2D1&arch=x86_64", "path=pub%2Fr"} {
		if a := ask(strict, "/mirrorlist?"+target); a.Status != 404 {
			t.Errorf("strictly, %s: %d", target, a.Status)
		}
	}
}

// Who the client is.
func TestClient(t *testing.T) {
	const none = "-"
	for _, c := range []struct {
		ip, forwarded, peer string
		client, strict      string // "-" if it is no address
	}{
		{"", none, "192.0.2.7", "192.0.2.7", "192.0.2.7"},
		{"", "198.51.100.1", "192.0.2.7", "198.51.100.1", "198.51.100.1"},
		{"", "10.0.0.1, 198.51.100.1", "192.0.2.7", "198.51.100.1", "198.51.100.1"},
		{"", "10.0.0.1,198.51.100.1", "192.0.2.7", "198.51.100.1", none},
		{"", "10.0.0.1,\t198.51.100.1", "192.0.2.7", "198.51.100.1", none},
		{"", "", "192.0.2.7", "192.0.2.7", none},
		{"", "unknown", "192.0.2.7", none, none},
		{"", "198.51.100.1:80", "192.0.2.7", none, none},
		{"2001:db8::1", "198.51.100.1", "192.0.2.7", "2001:db8::1", "2001:db8::1"},
		{"2001%3Adb8::1", none, "192.0.2.7", "2001:db8::1", none},
		{"::ffff:192.0.2.7", none, "192.0.2.9", "::ffff:192.0.2.7", "::ffff:192.0.2.7"},
		{"fe80::1%25eth0", none, "192.0.2.7", none, none},
		{"[2001:db8::1]", none, "192.0.2.7", none, none},
		{"192.0.2.07", none, "192.0.2.7", none, none},
		{"192.0.2", none, "192.0.2.7", none, none},
		{"", none, "", none, none},
	} {
		for _, strict := range []bool{false, true} {
			want := c.client
			if strict {
				want = c.strict
			}
			d := example().data(t, lists.Options{Minimum: 1, Strict: strict})
			r := &lists.Request{Target: "/mirrorlist?repo=r-1&arch=x86_64&ip=" + c.ip}
			if c.forwarded != none {
				r.Forwarded, r.HasForwarded = c.forwarded, true
			}
			if c.peer != "" {
				r.Peer = netip.MustParseAddr(c.peer)
			}
			a := asked(d, r)
			got := none
			if a.Client.IsValid() {
				got = a.Client.String()
			}
			if got != want || (a.Reason == lists.BadAddress) != (want == none) || a.Counted != (want != none) {
				t.Errorf("%+v, strict %v: %s %s", c, strict, got, a.Reason)
			}
		}
	}
}

// The lines of which statistics are made.
func TestLines(t *testing.T) {
	d := world().data(t, lists.Options{Minimum: 1})
	for target, want := range map[string]string{
		"/mirrorlist?repo=r-1&arch=x86_64":                       "IP: 192.0.2.7; DATE: 2024-09-06; COUNTRY: DE; REPO: r-1; ARCH: x86_64\n",
		"/metalink?repo=r-1&arch=x86_64&ip=10.9.9.9":             "IP: 10.9.9.9; DATE: 2024-09-06; COUNTRY: N/A; REPO: r-1; ARCH: x86_64\n",
		"/metalink?path=pub/r/x&repo=any%0athing&arch=n":         "IP: 192.0.2.7; DATE: 2024-09-06; COUNTRY: DE; REPO: any%0athing; ARCH: n\n",
		"/mirrorlist?path=pub/r&repo=&arch=&ip=::ffff:192.0.2.1": "IP: ::ffff:192.0.2.1; DATE: 2024-09-06; COUNTRY: DE; REPO: ; ARCH: \n",
		"/mirrorlist?path=pub/r":                                 "",
		"/mirrorlist?repo=r-9&arch=x86_64":                       "",
		"/mirrorlist?repo=r-1&arch=x86_64&ip=x":                  "",
	} {
		a := ask(d, target)
		got := ""
		if a.Counted {
			got = string(a.AppendLine(nil, made))
		}
		if got != want {
			t.Errorf("%s: %q, want %q", target, got, want)
		}
	}
	n := example()
	n.AddRepository("r-source+source", "pub/r")
	a := ask(n.data(t, lists.Options{}), "/mirrorlist?repo=r-source&arch=x86_64")
	if line := string(a.AppendLine(nil, made)); !strings.HasSuffix(line, "REPO: r-source; ARCH: source\n") {
		t.Error(line)
	}
}

// Newer versions of a file come first.
func TestVersions(t *testing.T) {
	n := example()
	n.AddFile("pub/r", "a+b", []mirrorlist.Version{{Size: 1}})
	n.AddFile("pub/r", "a.iso", []mirrorlist.Version{{Timestamp: 2, Size: 20, SHA256: "bb"}, {Timestamp: 1, SHA1: "aa"}})
	d := n.data(t, lists.Options{Minimum: 1})
	if a := ask(d, "/metalink?path=pub/r/a%2bb"); !strings.Contains(string(a.Body), `<file name="a+b">`) {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	a := ask(d, "/metalink?path=pub/r/a.iso")
	const want = `  <file name="a.iso">
   <mm0:timestamp>2</mm0:timestamp>
   <size>20</size>
   <verification>
    <hash type="sha256">bb</hash>
   </verification>
   <mm0:alternates>
    <mm0:alternate>
      <mm0:timestamp>1</mm0:timestamp>
      <verification>
       <hash type="sha1">aa</hash>
      </verification>
    </mm0:alternate>
   </mm0:alternates>
`
	if a.Status != 200 || !strings.Contains(string(a.Body), want) {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}
