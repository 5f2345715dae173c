package lists_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"freshet/internal/director/lists"
	"freshet/internal/geoip"
	"freshet/internal/mirrorlist"
)

// network is a network of mirrors that a test makes.
type network struct {
	*mirrorlist.Builder
	sources lists.Sources
	hosts   []host
}

// host is a mirror of a network.
type host struct {
	id        int64
	country   string
	private   bool
	bandwidth int64
	urls      []string
}

// example is the network of the worked examples: two public mirrors in DE and AT, a
// private one in DE that prefers 10.0.0.0/8, and a repository. Clients in 192.0.2.0/24
// are in DE.
func example() *network {
	n := &network{Builder: mirrorlist.NewBuilder(), hosts: []host{
		{1, "DE", false, 100, []string{"http://a.de/pub", "https://a.de/pub", "rsync://a.de/pub"}},
		{2, "AT", false, 100, []string{"https://b.at/p"}},
		{3, "DE", true, 100, []string{"http://c.lan/p"}},
	}}
	n.SetTime(1700000000)
	n.AddNetblock("10.0.0.0/8", []int64{3})
	n.AddNetblockCountry("192.0.2.0/24", "DE")
	n.AddRepository("r-1+x86_64", "pub/r")
	n.AddFile("pub/r/repodata", "repomd.xml", []mirrorlist.Version{{
		Timestamp: 1699999000, Size: 2046, MD5: strings.Repeat("1", 32), SHA1: strings.Repeat("2", 40),
		SHA256: strings.Repeat("3", 64), SHA512: strings.Repeat("4", 128),
	}})
	continents, err := geoip.ParseContinents(strings.NewReader("code,continent\nDE,EU\nAT,EU\nCH,EU\nUS,NA\nCA,NA\nJP,AS\n"))
	if err != nil {
		panic(err)
	}
	n.sources.Continents = continents
	return n
}

// directories says that hosts have directories. Their subpath is their name behind the
// first slash.
func (n *network) directories(hosts []int64, names ...string) {
	var m mirrorlist.Mirrors
	by := make(map[string]int)
	for _, h := range n.hosts {
		found := false
		for _, id := range hosts {
			found = found || id == h.id
		}
		if !found {
			continue
		}
		urls := mirrorlist.HostURLs{Host: h.id}
		for i := range h.urls {
			urls.URLs = append(urls.URLs, h.id*100+int64(i))
		}
		m.URLs = append(m.URLs, urls)
		if h.private {
			continue
		}
		m.Global = append(m.Global, h.id)
		at, known := by[h.country]
		if !known {
			at = len(m.ByCountry)
			by[h.country] = at
			m.ByCountry = append(m.ByCountry, mirrorlist.CountryHosts{Code: h.country})
		}
		m.ByCountry[at].Hosts = append(m.ByCountry[at].Hosts, h.id)
	}
	set := n.Mirrors(m)
	for _, name := range names {
		_, sub, _ := strings.Cut(name, "/")
		n.AddDirectory(name, sub, set)
	}
}

// data ends the making of a network. All hosts have pub/r and its metadata.
func (n *network) data(tb testing.TB, opt lists.Options) *lists.Data {
	tb.Helper()
	var all []int64
	for _, h := range n.hosts {
		all = append(all, h.id)
		n.AddHostCountry(h.id, h.country)
		n.AddBandwidth(h.id, h.bandwidth)
		for i, u := range h.urls {
			n.AddURL(h.id*100+int64(i), u)
		}
	}
	n.directories(all, "pub/r", "pub/r/repodata")
	snapshot, err := n.Snapshot()
	if err != nil {
		tb.Fatal(err)
	}
	n.sources.Snapshot = snapshot
	return lists.NewData(n.sources, opt)
}

// inDE is a client in DE; made is when requests are made.
var (
	inDE = netip.MustParseAddr("192.0.2.7")
	made = time.Date(2024, 9, 6, 14, 5, 2, 0, time.UTC)
)

// ask asks for a target as a client in DE.
func ask(d *lists.Data, target string) *lists.Answer {
	return asked(d, &lists.Request{Target: target, Peer: inDE})
}

func asked(d *lists.Data, r *lists.Request) *lists.Answer {
	if r.Now.IsZero() {
		r.Now = made
	}
	a := new(lists.Answer)
	a.Make(d, r)
	return a
}
