// Package sample makes snapshots like those of a large distribution: its hosts, its
// categories and releases, the same directories on most mirrors of a category, and here
// and there one that is behind. The same seed gives the same snapshot.
//
// It is for tests and benchmarks, and for whoever wants to try a director without
// a MirrorManager.
package sample

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"freshet/internal/mirrorlist"
)

// Config says what to make. The zero value is a network of the size of Fedora's, whose
// file has some 270 MB.
type Config struct {
	// Seed chooses one of many networks of the same size.
	Seed uint64
	// Hosts is how many mirrors there are (default 700). Three in seven are private.
	Hosts int
	// Directories is about how many there are (default 165,000).
	Directories int
	// Time is when the snapshot is made, in seconds of Unix time (default: that
	// of 14 November 2023, 22:13:20 UTC).
	Time uint64
}

// category is a tree that hosts carry as a whole.
type category struct {
	top      string
	share    int // of the directories, in thousands of 165
	hosts    int // that carry it, of 700
	releases func(n int) string
	key      string // repository key, with %s for the release; "" has none
	arches   []string
}

// fedoraRelease counts down from the newest one.
func fedoraRelease(n int) string { return fmt.Sprint(44 - n) }

func plainRelease(n int) string { return fmt.Sprint(10 + n) }

// categories are those of Fedora's MirrorManager, with how large and how popular they
// are.
func categories() []category {
	usual := []string{"x86_64", "aarch64", "ppc64le", "s390x"}
	return []category{
		{"pub/fedora/linux", 25, 170, fedoraRelease, "fedora%s-%s", usual},
		{"pub/epel", 10, 230, plainRelease, "epel%s-%s", usual},
		{"pub/centos-stream", 20, 120, func(n int) string { return fmt.Sprint(9+n, "-stream") }, "centos-baseos%s-%s", usual},
		{"pub/fedora-secondary", 15, 60, fedoraRelease, "fedora-secondary%s-%s", []string{"riscv64", "i386"}},
		{"pub/archive/fedora/linux", 90, 30, func(n int) string { return fmt.Sprint(41 - n) }, "", usual},
		{"pub/alt", 5, 40, plainRelease, "", usual[:1]},
	}
}

// Snapshot makes a snapshot.
func Snapshot(cfg Config) (*mirrorlist.Snapshot, error) {
	cfg.Hosts = cmp.Or(cfg.Hosts, 700)
	cfg.Directories = cmp.Or(cfg.Directories, 165_000)
	m := maker{cfg: cfg, b: mirrorlist.NewBuilder(), rand: rand.New(rand.NewPCG(cfg.Seed, 0))}
	m.b.SetTime(cmp.Or(cfg.Time, 1_700_000_000))
	m.hosts()
	m.netblocks()
	for _, c := range categories() {
		m.category(c)
	}
	m.redirects()
	return m.b.Snapshot()
}

// maker makes one snapshot.
type maker struct {
	cfg  Config
	b    *mirrorlist.Builder
	rand *rand.Rand
	all  []mirror
	urls int64
	keys int
}

// mirror is a host.
type mirror struct {
	id      int64
	country string
	private bool
}

// carrier is a host with the URLs of one category.
type carrier struct {
	mirror
	urls []int64
}

// countries are codes, the more often the more mirrors are there.
func countries() []string {
	codes := strings.Fields("NL SE CA AU IT PL CZ RU IN TW KR ES CH AT DK NO FI BE RO BG HU UA TR ZA ID SG HK TH VN MY PH NZ" +
		" AR CL CO MX EC PE CR UY PT GR IE IS EE LV LT SK SI HR RS BY KZ GE IR IL KE TZ MA TN NC BD LK UZ AZ")
	for code, weight := range map[string]int{"US": 24, "DE": 10, "FR": 6, "GB": 6, "CN": 6, "BR": 5, "JP": 5} {
		codes = append(codes, slices.Repeat([]string{code}, weight)...)
	}
	slices.Sort(codes) // maps have no order
	return codes
}

func (m *maker) hosts() {
	codes := countries()
	bandwidths := []int64{100, 1000, 2000, 10000, 10000}
	asns := make(map[int64][]int64)
	var order []int64
	id := int64(0)
	for n := range m.cfg.Hosts {
		id += 1 + m.rand.Int64N(6)
		host := mirror{id, codes[m.rand.IntN(len(codes))], n%7 > 3}
		m.all = append(m.all, host)
		m.b.AddHostCountry(id, host.country)
		m.b.AddBandwidth(id, bandwidths[m.rand.IntN(len(bandwidths))])
		m.b.AddMaxConnections(id, 1)
		if m.rand.IntN(10) < 6 {
			asn := 1000 + 7*m.rand.Int64N(300)
			if asns[asn] == nil {
				order = append(order, asn)
			}
			asns[asn] = append(asns[asn], id)
		}
	}
	for _, asn := range order {
		m.b.AddASN(asn, asns[asn])
	}
}

// netblocks gives private hosts the networks of their houses, and one host thousands of
// a cloud.
func (m *maker) netblocks() {
	m.b.AddNetblockCountry("198.51.100.0/24", "US")
	for _, host := range m.all {
		if !host.private {
			continue
		}
		bits := 16 + m.rand.IntN(17)
		m.b.AddNetblock(fmt.Sprintf("%d.%d.%d.0/%d", 11+m.rand.IntN(200), m.rand.IntN(256), m.rand.IntN(256), min(bits, 24)), []int64{host.id})
		if m.rand.IntN(3) == 0 {
			m.b.AddNetblock(fmt.Sprintf("2001:%x::/%d", 0x400+m.rand.IntN(0x1000), 32+m.rand.IntN(17)), []int64{host.id})
		}
	}
	cloud := []int64{m.all[m.rand.IntN(len(m.all))].id}
	for n := range 20 * m.cfg.Hosts / 7 {
		m.b.AddNetblock(fmt.Sprintf("%d.%d.%d.0/%d", 3+n%15, m.rand.IntN(256), m.rand.IntN(256), 18+n%7), cloud)
	}
}

// category adds the directories of a category, newest release first, until it has its
// share.
func (m *maker) category(c category) {
	carriers := m.carriers(c)
	wanted := max(m.cfg.Directories*c.share/165, 1)
	m.b.AddDirectory(c.top, "", m.set(carriers))
	for n, made := 0, 1; made < wanted; n++ {
		release := c.releases(n)
		holders := m.without(carriers, 10)
		for _, arch := range c.arches {
			for _, kind := range []string{"", "-debug", "-source"} {
				made += m.repository(c, release, arch, kind, holders)
			}
		}
		if n%3 == 0 {
			made += m.images(c, release, holders)
		}
	}
}

// carriers chooses the hosts of a category and gives them URLs.
func (m *maker) carriers(c category) []carrier {
	var chosen []carrier
	for _, at := range m.rand.Perm(len(m.all))[:max(1, c.hosts*len(m.all)/700)] {
		host := m.all[at]
		k := carrier{mirror: host}
		for _, offer := range []struct {
			scheme  string
			percent int
		}{{"http", 100}, {"https", 75}, {"rsync", 60}} {
			if m.rand.IntN(100) >= offer.percent {
				continue
			}
			m.urls++
			m.b.AddURL(m.urls, fmt.Sprintf("%s://mirror%d.%s.example/%s", offer.scheme, host.id, strings.ToLower(host.country), c.top))
			k.urls = append(k.urls, m.urls)
		}
		chosen = append(chosen, k)
	}
	slices.SortFunc(chosen, func(a, b carrier) int { return cmp.Compare(a.id, b.id) })
	return chosen
}

// without leaves out some percent of the hosts.
func (m *maker) without(hosts []carrier, percent int) []carrier {
	rest := make([]carrier, 0, len(hosts))
	for _, h := range hosts {
		if m.rand.IntN(100) >= percent {
			rest = append(rest, h)
		}
	}
	return rest
}

// repository adds the directories of one, and returns how many they are. In three of ten
// repositories some mirrors are behind, and in one of ten directories others.
func (m *maker) repository(c category, release, arch, kind string, holders []carrier) int {
	path := fmt.Sprintf("releases/%s/Everything/%s/os", release, arch)
	switch kind {
	case "-debug":
		path = fmt.Sprintf("releases/%s/Everything/%s/debug/tree", release, arch)
	case "-source":
		path = fmt.Sprintf("releases/%s/Everything/source/%s/tree", release, arch)
	}
	if m.rand.IntN(10) < 3 {
		holders = m.without(holders, 5)
	}
	usual := m.set(holders)
	leaves := []string{"", "/repodata", "/Packages"}
	for letter := range strings.FieldsSeq("a b c g k l m p q r s t") {
		leaves = append(leaves, "/Packages/"+letter)
	}
	for _, leaf := range leaves {
		set := usual
		if m.rand.IntN(10) == 0 {
			set = m.set(m.without(holders, 3))
		}
		m.b.AddDirectory(c.top+"/"+path+leaf, path+leaf, set)
	}
	m.b.AddFile(c.top+"/"+path+"/repodata", "repomd.xml", m.versions())
	if kind == "-source" {
		arch = "source"
	}
	if c.key != "" && m.keys < 3000 {
		key := fmt.Sprintf(c.key, kind, release) + "+" + arch
		if kind != "-source" || arch == c.arches[0] {
			m.b.AddRepository(key, c.top+"/"+path)
			m.keys++
		}
	}
	return len(leaves)
}

// images adds a directory with files that have checksums.
func (m *maker) images(c category, release string, holders []carrier) int {
	path := "releases/" + release + "/Server/x86_64/iso"
	m.b.AddDirectory(c.top+"/"+path, path, m.set(holders))
	for _, image := range []string{"dvd", "netinst"} {
		name := fmt.Sprintf("Sample-Server-%s-x86_64-%s.iso", image, release)
		m.b.AddFile(c.top+"/"+path, name, m.versions()[:1])
	}
	return 1
}

// versions are those of a repomd.xml: the present one, and the one before.
func (m *maker) versions() []mirrorlist.Version {
	versions := make([]mirrorlist.Version, 2)
	at := 1_699_990_000 - m.rand.Uint64N(1_000_000)
	for i := range versions {
		versions[i] = mirrorlist.Version{
			Timestamp: at - 86400*uint64(i), Size: 1500 + m.rand.Uint64N(3000),
			MD5: m.hex(16), SHA1: m.hex(20), SHA256: m.hex(32), SHA512: m.hex(64),
		}
	}
	return versions
}

func (m *maker) hex(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(m.rand.Uint32())
	}
	return fmt.Sprintf("%x", b)
}

// set is the set of mirrors of these hosts.
func (m *maker) set(hosts []carrier) mirrorlist.MirrorSet {
	var set mirrorlist.Mirrors
	byCountry := make(map[string][]int64)
	for _, h := range hosts {
		set.URLs = append(set.URLs, mirrorlist.HostURLs{Host: h.id, URLs: h.urls})
		if !h.private {
			set.Global = append(set.Global, h.id)
			byCountry[h.country] = append(byCountry[h.country], h.id)
		}
	}
	for code, ids := range byCountry {
		set.ByCountry = append(set.ByCountry, mirrorlist.CountryHosts{Code: code, Hosts: ids})
	}
	slices.SortFunc(set.ByCountry, func(a, b mirrorlist.CountryHosts) int { return strings.Compare(a.Code, b.Code) })
	return m.b.Mirrors(set)
}

// redirects adds aliases of repositories, and repositories that are switched off.
func (m *maker) redirects() {
	for n := range 300 {
		m.b.AddRedirect(fmt.Sprint("updates-released-f", n), fmt.Sprint("fedora-", 44-n%8))
	}
	for n := range 20 {
		m.b.AddDisabled(fmt.Sprint("fedora-", 1+n), true)
	}
	for _, code := range []string{"IL", "AM", "JO"} {
		m.b.AddContinent(code, "EU")
	}
}
