package mirrorlist

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"freshet/internal/durable"
)

// Write writes the snapshot as a file that MirrorManager's tools read too. The bytes
// depend on the content alone: tables are sorted by their keys, and hosts by their ids.
// What was left out as a problem is not there.
func (s *Snapshot) Write(to io.Writer) error {
	w := &encoder{s: s, to: bufio.NewWriterSize(to, 1<<18), rank: s.ranks()}
	w.scalars()
	w.files()
	w.repositories()
	w.hosts()
	w.netblocks()
	w.directories()
	return w.to.Flush()
}

// WriteFile writes the snapshot to a file, replacing the one that is there: readers see
// the old or the new one, whole, and when WriteFile returns the new one is on the disk.
func (s *Snapshot) WriteFile(name string) error {
	dir, err := durable.Open(filepath.Dir(name))
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	defer dir.Root.Close() //nolint:errcheck // all is on the disk
	if err := dir.Write(filepath.Base(name), 0o644, s.Write); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	return nil
}

// ranks are the places of the hosts in the order of their ids.
func (s *Snapshot) ranks() []Host {
	ranks := make([]Host, len(s.hosts))
	for rank, h := range s.hostsByID() {
		ranks[h] = Host(rank)
	}
	return ranks
}

// hostsByID are all hosts in the order of their ids.
func (s *Snapshot) hostsByID() []Host {
	hosts := make([]Host, len(s.hosts))
	for i := range hosts {
		hosts[i] = Host(i)
	}
	slices.SortFunc(hosts, func(a, b Host) int { return cmp.Compare(s.hosts[a].id, s.hosts[b].id) })
	return hosts
}

// encoder writes the tables. Errors are those of the buffered writer, which keeps the
// first one.
type encoder struct {
	s    *Snapshot
	to   *bufio.Writer
	rank []Host

	row, part []byte
	sorted    []Host
	sets      map[uint32]encodedSet
	held      int
}

// message is one under construction.
type message []byte

func (m message) text(field protowire.Number, v string) message {
	return protowire.AppendString(protowire.AppendTag(m, field, protowire.BytesType), v)
}

func (m message) number(field protowire.Number, v uint64) message {
	return protowire.AppendVarint(protowire.AppendTag(m, field, protowire.VarintType), v)
}

func (m message) inner(field protowire.Number, v message) message {
	return protowire.AppendBytes(protowire.AppendTag(m, field, protowire.BytesType), v)
}

// put writes the row as an entry of a table.
func (w *encoder) put(field protowire.Number, row message) {
	head := protowire.AppendTag(w.part[:0], field, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(len(row)))
	w.to.Write(head) //nolint:errcheck // Flush returns it
	w.to.Write(row)  //nolint:errcheck // so here
	w.row, w.part = row[:0], head[:0]
}

func (w *encoder) start() message { return w.row[:0] }

func (w *encoder) scalars() {
	w.to.Write(message(nil).number(fieldTime, w.s.time)) //nolint:errcheck // Flush returns it
	for _, b := range w.s.countryBlocks {
		w.put(fieldNetblockCountry, w.start().text(1, b.Text).text(2, b.Country))
	}
	locations := slices.Clone(w.s.locations)
	slices.SortStableFunc(locations, byName)
	for _, l := range locations {
		w.put(fieldLocation, w.ids(w.start().text(1, l.name), l.hosts))
	}
	urls := slices.Clone(w.s.urls)
	slices.SortFunc(urls, func(a, b url) int { return cmp.Compare(a.id, b.id) })
	for _, u := range urls {
		if u.set {
			w.put(fieldURL, w.start().number(1, uint64(u.id)).text(2, u.base))
		}
	}
}

func byName(a, b namedHosts) int { return cmp.Compare(a.name, b.name) }

func (w *encoder) files() {
	for _, d := range w.s.files {
		row := w.start().text(1, d.name)
		for _, f := range d.files {
			entry := message(nil).text(1, f.name)
			for _, v := range f.versions {
				entry = entry.inner(2, encodeVersion(v))
			}
			row = row.inner(2, entry)
		}
		w.put(fieldFiles, row)
	}
}

func encodeVersion(v Version) message {
	m := message(nil).number(1, v.Timestamp).number(2, v.Size)
	for i, sum := range []string{v.SHA1, v.MD5, v.SHA256, v.SHA512} {
		if sum != "" {
			m = m.text(protowire.Number(3+i), sum)
		}
	}
	return m
}

func (w *encoder) repositories() {
	for _, repo := range slices.Sorted(maps.Keys(w.s.disabled)) {
		row := w.start().text(1, repo)
		w.put(fieldDisabled, row.number(2, protowire.EncodeBool(w.s.disabled[repo])))
	}
	tables := []struct {
		field protowire.Number
		rows  map[string]string
	}{{fieldContinentRedirect, w.s.continents}, {fieldRedirect, w.s.redirects}, {fieldRepository, w.s.repositories}}
	for _, t := range tables {
		for key, value := range sorted(t.rows) {
			w.put(t.field, w.start().text(1, key).text(2, value))
		}
	}
}

func (w *encoder) hosts() {
	for _, asn := range slices.Sorted(maps.Keys(w.s.asns)) {
		w.put(fieldASN, w.ids(w.start().number(1, uint64(asn)), w.s.asns[asn]))
	}
	byID := w.s.hostsByID()
	put := func(field protowire.Number, has hostFields, value func(message, *host) message) {
		for _, n := range byID {
			if h := &w.s.hosts[n]; h.has&has != 0 {
				w.put(field, value(w.start().number(1, uint64(h.id)), h))
			}
		}
	}
	put(fieldMaxConnections, hasConns, func(m message, h *host) message { return m.number(2, uint64(h.conns)) })
	put(fieldHostCountry, hasCountry, func(m message, h *host) message { return m.text(2, h.country) })
	put(fieldBandwidth, hasBandwidth, func(m message, h *host) message { return m.number(2, uint64(h.bandwidth)) })
	put(fieldAllowed, hasAllowed, func(m message, h *host) message {
		for _, code := range slices.Sorted(slices.Values(h.allowed)) {
			m = m.text(2, code)
		}
		return m
	})
}

func (w *encoder) netblocks() {
	blocks := slices.Clone(w.s.netblockTexts)
	slices.SortFunc(blocks, byName)
	for _, b := range blocks {
		w.put(fieldNetblock, w.ids(w.start().text(1, b.name), b.hosts))
	}
}

// ids appends the ids of hosts, sorted. They are field 2 wherever there are some.
func (w *encoder) ids(m message, hosts []Host) message {
	w.sorted = append(w.sorted[:0], hosts...)
	slices.SortFunc(w.sorted, func(a, b Host) int { return int(w.rank[a]) - int(w.rank[b]) })
	for _, h := range w.sorted {
		m = m.number(2, uint64(w.s.hosts[h].id))
	}
	return m
}

// encodedSet is a set of mirrors: what stands before the subpath, and behind it.
type encodedSet struct{ global, rest message }

// maxHeld is how many bytes of encoded sets are kept: neighbours often have the same.
const maxHeld = 32 << 20

func (w *encoder) directories() {
	for i := range w.s.directories {
		d := Directory{w.s, i}
		set := w.set(w.s.directories[i].set)
		row := append(w.start().text(directoryName, d.Name()), set.global...)
		w.put(fieldDirectory, append(row.text(directorySubpath, d.Subpath()), set.rest...))
	}
}

func (w *encoder) set(n uint32) encodedSet {
	if set, known := w.sets[n]; known {
		return set
	}
	m := &w.s.sets[n]
	set := encodedSet{global: w.ids(nil, m.global)}
	set.rest = w.groups(set.rest, directoryCountry, m.byCountry)
	set.rest = w.groups(set.rest, directoryInternet2, m.internet2)
	links := slices.Clone(m.links)
	slices.SortFunc(links, func(a, b link) int { return int(w.rank[a.host()]) - int(w.rank[b.host()]) })
	var entry message
	for _, l := range links {
		h := &w.s.hosts[l.host()]
		entry = entry[:0].number(1, uint64(h.id))
		for _, u := range h.lists[l.list()] {
			entry = entry.number(2, uint64(w.s.urls[u].id))
		}
		set.rest = set.rest.inner(directoryHost, entry)
	}
	if w.held > maxHeld || w.sets == nil {
		w.sets, w.held = make(map[uint32]encodedSet), 0
	}
	w.sets[n] = set
	w.held += len(set.global) + len(set.rest)
	return set
}

func (w *encoder) groups(m message, field protowire.Number, g groups) message {
	type named struct {
		code  string
		hosts []Host
	}
	all := make([]named, 0, len(g.ends))
	for c, hosts := range g.all() {
		all = append(all, named{w.s.countries[c], hosts})
	}
	slices.SortFunc(all, func(a, b named) int { return cmp.Compare(a.code, b.code) })
	var entry message
	for _, n := range all {
		entry = w.ids(entry[:0].text(1, n.code), n.hosts)
		m = m.inner(field, entry)
	}
	return m
}
