package mirrorlist

import (
	"encoding/binary"
	"hash/maphash"
	"slices"
)

// MirrorSet is a set of mirrors that a Builder knows.
type MirrorSet uint32

// Mirrors is a set of mirrors in the ids of the database.
type Mirrors struct {
	// Global are the public hosts.
	Global []int64
	// ByCountry are the same by the upper-case code of their country.
	ByCountry []CountryHosts
	// Internet2 are those for the clients of an Internet2 network. Nothing asks for it.
	Internet2 []CountryHosts
	// URLs are the base URLs of all hosts, private ones too.
	URLs []HostURLs
}

// CountryHosts are hosts in a country.
type CountryHosts struct {
	Code  string
	Hosts []int64
}

// HostURLs are the ids of the URLs of a host, in the order of preference.
type HostURLs struct {
	Host int64
	URLs []int64
}

// Mirrors returns the number of a set of mirrors: the same one for the same set, in
// whatever order its hosts are. The order of the URLs of a host matters.
func (b *Builder) Mirrors(m Mirrors) MirrorSet {
	d := b.draft()
	for _, id := range m.Global {
		d.addGlobal(id)
	}
	for _, g := range m.ByCountry {
		d.addGroup(&d.byCountry, g.Code, g.Hosts)
	}
	for _, g := range m.Internet2 {
		d.addGroup(&d.internet2, g.Code, g.Hosts)
	}
	for _, h := range m.URLs {
		d.addURLs(h.Host, h.URLs)
	}
	return d.done()
}

// draft is a set of mirrors while it is put together. Hosts and countries come in any
// order.
type draft struct {
	b         *Builder
	global    []Host
	byCountry members
	internet2 members
	links     []link
	row       []URL
}

// members are the hosts of countries.
type members struct {
	list []member
	seen map[Country]bool
}

// member is a host of a country: the country, and the host in the lower half.
type member uint32

func newMember(c Country, h Host) member { return member(c)<<16 | member(h) }

func (m member) country() Country { return Country(m >> 16) }

func (m member) host() Host { return Host(m & 0xffff) }

func (m *members) reset() {
	m.list = m.list[:0]
	clear(m.seen)
}

// order sorts the members and leaves each there once.
func (m *members) order() {
	slices.Sort(m.list)
	m.list = slices.Compact(m.list)
}

// draft returns an empty draft, which is good until the next one is asked for.
func (b *Builder) draft() *draft {
	d := &b.sets.draft
	d.b = b
	d.global, d.links = d.global[:0], d.links[:0]
	d.byCountry.reset()
	d.internet2.reset()
	return d
}

func (d *draft) addGlobal(id int64) {
	if h, ok := d.b.host(id); ok {
		d.global = append(d.global, h)
	}
}

// addGroup adds the hosts of a country to one of the groups. Of several lists for one
// country the first one counts.
func (d *draft) addGroup(to *members, code string, ids []int64) {
	c, ok := d.b.country(code)
	if !ok || to.seen[c] {
		return
	}
	if to.seen == nil {
		to.seen = make(map[Country]bool)
	}
	to.seen[c] = true
	for _, id := range ids {
		if h, ok := d.b.host(id); ok {
			to.list = append(to.list, newMember(c, h))
		}
	}
}

func (d *draft) addURLs(id int64, ids []int64) {
	if l, ok := d.link(id, ids); ok {
		d.links = append(d.links, l)
	}
}

// link is what a set keeps of a host and its URLs.
func (d *draft) link(id int64, ids []int64) (link, bool) {
	n, ok := d.b.host(id)
	if !ok {
		return 0, false
	}
	d.row = d.row[:0]
	for _, id := range ids {
		d.row = append(d.row, d.b.url(id))
	}
	h := &d.b.s.hosts[n]
	for at, known := range h.lists {
		if slices.Equal(known, d.row) {
			return newLink(n, at), true
		}
	}
	if len(h.lists) == maxLists {
		d.b.fail("host %d has more than %d different lists of URLs: %w", id, maxLists, ErrTooMany)
		return 0, false
	}
	d.b.hold(24 + 4*len(d.row))
	h.lists = append(h.lists, slices.Clone(d.row))
	return newLink(n, len(h.lists)-1), true
}

// done brings the draft into order and returns the number of the set.
func (d *draft) done() MirrorSet {
	slices.Sort(d.global)
	d.global = slices.Compact(d.global)
	d.byCountry.order()
	d.internet2.order()
	// Stable, as of two lists of one host the first one counts.
	slices.SortStableFunc(d.links, func(a, b link) int { return int(a.host()) - int(b.host()) })
	d.links = slices.CompactFunc(d.links, func(a, b link) bool { return a.host() == b.host() })
	return d.b.sets.intern(d)
}

// interner keeps each set of mirrors once.
type interner struct {
	seeds [2]maphash.Seed
	known map[fingerprint]MirrorSet
	sets  []mirrors
	draft draft
	bytes []byte
	marks []bool

	hosts  slab[Host]
	groups slab[group]
	links  slab[link]
}

// fingerprint stands for bytes. Two hashes with secret seeds: nobody can make two texts
// that have the same, and by chance there are none.
type fingerprint [2]uint64

func newInterner() interner {
	return interner{
		seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
		known: make(map[fingerprint]MirrorSet),
	}
}

func (n *interner) fingerprint(b []byte) fingerprint {
	return fingerprint{maphash.Bytes(n.seeds[0], b), maphash.Bytes(n.seeds[1], b)}
}

// intern returns the number of a set that is in order.
func (n *interner) intern(d *draft) MirrorSet {
	b := n.bytes[:0]
	le := binary.LittleEndian
	for _, length := range []int{len(d.global), len(d.byCountry.list), len(d.internet2.list)} {
		b = le.AppendUint32(b, uint32(length))
	}
	for _, h := range d.global {
		b = le.AppendUint16(b, uint16(h))
	}
	for _, m := range d.byCountry.list {
		b = le.AppendUint32(b, uint32(m))
	}
	for _, m := range d.internet2.list {
		b = le.AppendUint32(b, uint32(m))
	}
	for _, l := range d.links {
		b = le.AppendUint32(b, uint32(l))
	}
	n.bytes = b
	sum := n.fingerprint(b)
	if set, known := n.known[sum]; known {
		return set
	}
	m := mirrors{byCountry: n.group(d, d.byCountry.list), internet2: n.group(d, d.internet2.list), links: n.links.keep(d.links)}
	if n.sameHosts(d.global, m.byCountry.hosts) {
		m.global = m.byCountry.hosts
	} else {
		m.global = n.hosts.keep(d.global)
	}
	d.b.hold(200 + len(b))
	set := MirrorSet(len(n.sets))
	n.sets = append(n.sets, m)
	n.known[sum] = set
	return set
}

// group keeps members, which are by country, as groups.
func (n *interner) group(d *draft, list []member) groups {
	if len(list) > maxNumbers {
		d.b.fail("a directory has more than %d hosts in countries: %w", maxNumbers, ErrTooMany)
		return groups{}
	}
	hosts := make([]Host, 0, 256)
	ends := make([]group, 0, 64)
	for i, m := range list {
		hosts = append(hosts, m.host())
		c := m.country()
		if len(ends) == 0 || ends[len(ends)-1].country != c {
			ends = append(ends, group{country: c})
		}
		ends[len(ends)-1].end = uint16(i + 1)
	}
	return groups{n.hosts.keep(hosts), n.groups.keep(ends)}
}

// sameHosts tells whether b, in any order, has the hosts of a, each once.
func (n *interner) sameHosts(a, b []Host) bool {
	if len(a) != len(b) || len(a) == 0 {
		return false
	}
	if n.marks == nil {
		n.marks = make([]bool, maxNumbers+1)
	}
	for _, h := range a {
		n.marks[h] = true
	}
	same := true
	for _, h := range b {
		same = same && n.marks[h]
		n.marks[h] = false
	}
	for _, h := range a {
		n.marks[h] = false
	}
	return same
}
