package lists

import (
	"net/netip"
	"slices"
	"strings"

	"freshet/internal/metalink"
	"freshet/internal/mirrorlist"
)

// client is who is to be given mirrors.
type client struct {
	addr    netip.Addr // as it is looked up
	country string     // as far as it is known
}

// choice is which mirrors are given, in which order. The zero value is ready for the
// first one; its memory is used again.
type choice struct {
	// hosts are the mirrors, the best first: each once, and all have the directory.
	hosts []mirrorlist.Host
	best  Step

	data    *Data
	dir     mirrorlist.Directory
	client  client
	comment *metalink.Comment // is told by which rules mirrors were found

	group   []mirrorlist.Host // that is being made
	codes   []string          // of countries that were asked for
	seen    marks             // what is in hosts
	shuffle shuffler
}

// choose chooses among the mirrors that have dir. All chance is of seed.
func (c *choice) choose(d *Data, dir mirrorlist.Directory, who client, q *query, comment *metalink.Comment, seed uint64) {
	c.data, c.dir, c.client, c.comment = d, dir, who, comment
	c.hosts, c.group, c.best = c.hosts[:0], c.group[:0], Nowhere
	c.seen.begin(d.Snapshot.NumHosts())
	c.shuffle.seed(seed)

	anywhere := q.country.value == ""
	if anywhere && (!q.netblock.given || q.netblock.value == "1") {
		c.byNetblock()
		c.byASN()
	}
	if !anywhere && c.byRequest(q.country.value) {
		return
	}
	c.addCountry(who.country)
	c.takeWeighted(ByCountry, !d.opt.Strict)
	c.addContinent(who.country)
	c.takeWeighted(ByContinent, !d.opt.Strict)
	if c.count(&q.protocol) < d.opt.Minimum {
		c.addGlobal()
		c.takeWeighted(Everywhere, true)
	}
}

// byNetblock takes the mirrors that prefer netblocks of the client.
func (c *choice) byNetblock() {
	told := false
	for _, hosts := range c.data.Snapshot.Netblocks(c.client.addr) { // no two have the same length
		c.group = append(c.group, hosts...)
		c.restrict(!c.data.opt.Strict)
		c.shuffle.evenly(c.group)
		if before := len(c.hosts); c.take(ByNetblock) > before && !told {
			c.comment.Netblock()
			told = true
		}
	}
}

// byASN takes the mirrors that prefer the client's autonomous system.
func (c *choice) byASN() {
	number, ok := c.data.Netblocks.ASN(c.client.addr)
	if !ok {
		return
	}
	c.group = append(c.group, c.data.Snapshot.ASNHosts(int64(number))...)
	c.restrict(!c.data.opt.Strict)
	if len(c.group) > 0 {
		c.comment.ASN(number) // whether or not they have the directory
	}
	c.shuffle.evenly(c.group)
	c.take(ByASN)
}

// byRequest takes the mirrors in the listed countries or, if there are none, on their
// continents, and reports whether there are any: also if none of them is for clients
// like this one. A continent that several countries are on is taken once.
func (c *choice) byRequest(list string) bool {
	c.codes = c.codes[:0]
	for code := range strings.SplitSeq(list, ",") {
		c.codes = append(c.codes, code)
	}
	slices.Sort(c.codes)
	c.codes = slices.Compact(c.codes)
	global := false
	for _, code := range c.codes {
		if !global && strings.EqualFold(code, "global") {
			global = true
			c.addGlobal()
			c.restrict(true)
		}
		c.addCountry(code)
	}
	if len(c.group) == 0 {
		c.addContinents()
	}
	if len(c.group) == 0 {
		return false
	}
	c.takeWeighted(ByRequest, true)
	return true
}

// addContinents adds to the group what is on the continents of all countries that were
// asked for.
func (c *choice) addContinents() {
	var had []string
	for _, code := range c.codes {
		continent := c.data.Continents.Of(strings.ToUpper(code))
		if continent != "" && !slices.Contains(had, continent) {
			had = append(had, continent)
			c.addContinent(code)
		}
	}
}

// addContinent adds to the group what is on the continent of a country, apart from
// that country.
func (c *choice) addContinent(country string) {
	if country = strings.ToUpper(country); country == "" {
		return
	}
	for _, other := range c.data.Continents.Countries(c.data.Continents.Of(country)) {
		if other != country {
			c.addCountry(other)
		}
	}
}

// addCountry adds to the group what is in a country.
func (c *choice) addCountry(code string) {
	number, ok := c.data.Snapshot.Country(strings.ToUpper(code))
	if !ok {
		return
	}
	if hosts := c.dir.Country(number); len(hosts) > 0 {
		c.group = append(c.group, hosts...)
		c.comment.Country(code)
	}
}

// addGlobal adds to the group what is anywhere.
func (c *choice) addGlobal() {
	c.group = append(c.group, c.dir.Global()...)
	c.comment.Country("global")
}

// restrict takes those out of the group that are not for clients in the client's
// country, if that counts.
func (c *choice) restrict(counts bool) {
	if counts {
		c.group = slices.DeleteFunc(c.group, func(h mirrorlist.Host) bool { return !c.data.Snapshot.Allows(h, c.client.country) })
	}
}

// takeWeighted takes the group in an order in which bandwidth counts.
func (c *choice) takeWeighted(by Step, restricted bool) {
	c.restrict(restricted)
	// To leave out now what is not taken has no effect on the order of the others.
	c.group = slices.DeleteFunc(c.group, func(h mirrorlist.Host) bool { return !c.takes(h) })
	c.shuffle.byWeight(c.group, c.data.Snapshot.Bandwidth)
	c.take(by)
}

// take appends the group to the mirrors, and returns how many these are. The group is
// empty then.
func (c *choice) take(by Step) int {
	for _, h := range c.group {
		if !c.takes(h) {
			continue
		}
		if len(c.hosts) == 0 {
			c.best = by
		}
		c.seen.mark(h)
		c.hosts = append(c.hosts, h)
	}
	c.group = c.group[:0]
	return len(c.hosts)
}

// takes reports whether a mirror is new, and has the directory.
func (c *choice) takes(h mirrorlist.Host) bool {
	if c.seen.has(h) {
		return false
	}
	urls, ok := c.dir.URLs(h)
	return ok && len(urls) > 0
}

// count is how many of the mirrors have a URL of a protocol that was asked for, all of
// them if none has.
func (c *choice) count(protocol *param) int {
	if !protocol.given {
		return len(c.hosts)
	}
	n, list := 0, shortened(protocol.value)
	for _, h := range c.hosts {
		urls, _ := c.dir.URLs(h)
		if slices.ContainsFunc(urls, func(u mirrorlist.URL) bool { return hasProtocol(c.data.Snapshot.URL(u), list) }) {
			n++
		}
	}
	if n == 0 {
		return len(c.hosts)
	}
	return n
}

// marks is a set of hosts that is quickly emptied.
type marks struct {
	when []uint32
	turn uint32
}

// begin empties the set. It is for the hosts 0 to n-1.
func (m *marks) begin(n int) {
	if m.turn++; len(m.when) < n || m.turn == 0 {
		m.when, m.turn = make([]uint32, n), 1
	}
}

func (m *marks) mark(h mirrorlist.Host)     { m.when[h] = m.turn }
func (m *marks) has(h mirrorlist.Host) bool { return m.when[h] == m.turn }
