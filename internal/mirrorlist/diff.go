package mirrorlist

import (
	"bytes"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
)

// Change is an entry that two snapshots do not have in common.
type Change struct {
	// Table is the schema's name of the table.
	Table string `json:"table"`
	// Key is that of the entry: a repository, a directory, the id of a host, ….
	Key string `json:"key"`
	// InOld and InNew tell which snapshots have the key.
	InOld bool `json:"in-old"`
	InNew bool `json:"in-new"`
	// Old is what the old snapshot says and the new one does not, and New the other
	// way round. Of a directory these are only the hosts that differ, such as
	// "global 12, DE 12, host 12 = 31 32" for one with two URLs.
	Old string `json:"old"`
	New string `json:"new"`
}

// Diff yields how a snapshot differs from the one before, table by table, by key. The order in which files
// have their entries does not matter, nor does their time; that of a host's URLs does.
func Diff(before, after *Snapshot) iter.Seq[Change] {
	return func(yield func(Change) bool) {
		d := differ{before: before, after: after, yield: yield}
		for _, t := range smallTables() {
			if !d.rows(t.name, t.rows(before), t.rows(after)) {
				return
			}
		}
		d.directories()
	}
}

// table is one of all but the large one, as text.
type table struct {
	name string
	rows func(*Snapshot) map[string]string
}

func smallTables() []table {
	hostTable := func(field hostFields, value func(host) string) func(*Snapshot) map[string]string {
		return func(s *Snapshot) map[string]string {
			rows := make(map[string]string)
			for _, h := range s.hosts {
				if h.has&field != 0 {
					rows[fmt.Sprint(h.id)] = value(h)
				}
			}
			return rows
		}
	}
	return []table{
		{tableName(fieldNetblockCountry), func(s *Snapshot) map[string]string {
			rows := make(map[string]string)
			for _, b := range s.countryBlocks {
				rows[b.Text] = b.Country
			}
			return rows
		}},
		{tableName(fieldLocation), func(s *Snapshot) map[string]string { return s.namedIDs(s.locations) }},
		{tableName(fieldURL), func(s *Snapshot) map[string]string {
			rows := make(map[string]string)
			for _, u := range s.urls {
				if u.set {
					rows[fmt.Sprint(u.id)] = u.base
				}
			}
			return rows
		}},
		{tableName(fieldFiles), (*Snapshot).fileRows},
		{tableName(fieldDisabled), func(s *Snapshot) map[string]string {
			rows := make(map[string]string)
			for repo, disabled := range s.disabled {
				rows[repo] = fmt.Sprint(disabled)
			}
			return rows
		}},
		{tableName(fieldContinentRedirect), func(s *Snapshot) map[string]string { return s.continents }},
		{tableName(fieldRedirect), func(s *Snapshot) map[string]string { return s.redirects }},
		{tableName(fieldRepository), func(s *Snapshot) map[string]string { return s.repositories }},
		{tableName(fieldASN), func(s *Snapshot) map[string]string {
			rows := make(map[string]string)
			for asn, hosts := range s.asns {
				rows[fmt.Sprint(asn)] = s.idText(hosts)
			}
			return rows
		}},
		{tableName(fieldMaxConnections), hostTable(hasConns, func(h host) string { return fmt.Sprint(h.conns) })},
		{tableName(fieldHostCountry), hostTable(hasCountry, func(h host) string { return h.country })},
		{tableName(fieldBandwidth), hostTable(hasBandwidth, func(h host) string { return fmt.Sprint(h.bandwidth) })},
		{tableName(fieldAllowed), hostTable(hasAllowed, func(h host) string {
			return strings.Join(slices.Sorted(slices.Values(h.allowed)), " ")
		})},
		{tableName(fieldNetblock), func(s *Snapshot) map[string]string { return s.namedIDs(s.netblockTexts) }},
	}
}

func (s *Snapshot) namedIDs(named []namedHosts) map[string]string {
	rows := make(map[string]string)
	for _, n := range named {
		rows[n.name] = s.idText(n.hosts)
	}
	return rows
}

// idText are the ids of hosts, in order.
func (s *Snapshot) idText(hosts []Host) string {
	ids := make([]int64, 0, len(hosts))
	for _, h := range hosts {
		ids = append(ids, s.hosts[h].id)
	}
	slices.Sort(ids)
	return strings.Trim(fmt.Sprint(ids), "[]")
}

func (s *Snapshot) fileRows() map[string]string {
	rows := make(map[string]string)
	for _, d := range s.files {
		for _, f := range d.files {
			var versions []string
			for _, v := range f.versions {
				fields := []string{fmt.Sprint("time ", v.Timestamp), fmt.Sprint("size ", v.Size)}
				for i, sum := range []string{v.MD5, v.SHA1, v.SHA256, v.SHA512} {
					if sum != "" {
						fields = append(fields, []string{"md5 ", "sha1 ", "sha256 ", "sha512 "}[i]+sum)
					}
				}
				versions = append(versions, strings.Join(fields, " "))
			}
			rows[d.name+"/"+f.name] = strings.Join(versions, ", then ")
		}
	}
	return rows
}

type differ struct {
	before, after *Snapshot
	yield         func(Change) bool
}

// rows compares a table, and tells whether to go on.
func (d *differ) rows(table string, before, after map[string]string) bool {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(before)), maps.Keys(after))
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		was, inOld := before[key]
		is, inNew := after[key]
		if was == is && inOld == inNew {
			continue
		}
		if !d.yield(Change{Table: table, Key: key, InOld: inOld, InNew: inNew, Old: was, New: is}) {
			return false
		}
	}
	return true
}

// directories compares the large table. Of two sets of mirrors it finds out once how they
// differ.
func (d *differ) directories() {
	type pair struct{ before, after uint32 }
	type texts struct{ before, after string }
	known := make(map[pair]texts)
	a, b := d.before.setEncoder(), d.after.setEncoder()
	before, after := d.before.directories, d.after.directories
	for len(before) > 0 || len(after) > 0 {
		change := Change{Table: tableName(fieldDirectory)}
		change.InOld = len(before) > 0 && (len(after) == 0 || before[0].name <= after[0].name)
		change.InNew = len(after) > 0 && (len(before) == 0 || after[0].name <= before[0].name)
		switch {
		case !change.InNew:
			change.Key, change.Old = before[0].name, d.before.setText(before[0].set)
		case !change.InOld:
			change.Key, change.New = after[0].name, d.after.setText(after[0].set)
		default:
			change.Key = before[0].name
			sets := pair{before[0].set, after[0].set}
			t, seen := known[sets]
			if !seen {
				if !a.set(sets.before).equal(b.set(sets.after)) {
					t.before, t.after = apart(d.before.setItems(sets.before), d.after.setItems(sets.after))
				}
				known[sets] = t
			}
			change.Old, change.New = t.before, t.after
			wasBelow, isBelow := d.before.subpath(&before[0]), d.after.subpath(&after[0])
			if wasBelow != isBelow {
				change.Old, change.New = change.Old+" subpath "+wasBelow, change.New+" subpath "+isBelow
			}
		}
		if change.InOld {
			before = before[1:]
		}
		if change.InNew {
			after = after[1:]
		}
		if (change.Old != change.New || change.InOld != change.InNew) && !d.yield(change) {
			return
		}
	}
}

func (s *Snapshot) setEncoder() *encoder { return &encoder{s: s, rank: s.ranks()} }

func (e encodedSet) equal(other encodedSet) bool {
	return bytes.Equal(e.global, other.global) && bytes.Equal(e.rest, other.rest)
}

func (s *Snapshot) setText(set uint32) string { return strings.Join(s.setItems(set), ", ") }

// setItems are the parts of a set of mirrors, in order.
func (s *Snapshot) setItems(set uint32) []string {
	m := &s.sets[set]
	var items []string
	for _, h := range m.global {
		items = append(items, fmt.Sprint("global ", s.hosts[h].id))
	}
	for c, hosts := range m.byCountry.all() {
		for _, h := range hosts {
			items = append(items, fmt.Sprint(s.countries[c], " ", s.hosts[h].id))
		}
	}
	for c, hosts := range m.internet2.all() {
		for _, h := range hosts {
			items = append(items, fmt.Sprint("internet2 ", s.countries[c], " ", s.hosts[h].id))
		}
	}
	for _, l := range m.links {
		h := &s.hosts[l.host()]
		ids := make([]int64, 0, 4)
		for _, u := range h.lists[l.list()] {
			ids = append(ids, s.urls[u].id)
		}
		items = append(items, fmt.Sprintf("host %d = %s", h.id, strings.Trim(fmt.Sprint(ids), "[]")))
	}
	slices.Sort(items)
	return items
}

// apart is what only one of two ordered lists has.
func apart(a, b []string) (onlyA, onlyB string) {
	without := func(a, b []string) string {
		var only []string
		for _, item := range a {
			if _, found := slices.BinarySearch(b, item); !found {
				only = append(only, item)
			}
		}
		return strings.Join(only, ", ")
	}
	return without(a, b), without(b, a)
}
