package mirrormanager

import (
	"encoding/binary"
	"slices"

	"freshet/internal/mirrorlist"
)

// bitmap is a set of small numbers.
type bitmap []uint64

func newBitmap(n int) bitmap { return make(bitmap, (n+63)/64) }

func (b bitmap) set(i int) { b[i/64] |= 1 << (i % 64) }

func (b bitmap) has(i int) bool { return b[i/64]&(1<<(i%64)) != 0 }

// bigEndian is a bigint in the binary format of PostgreSQL.
func bigEndian(b []byte) int64 { return int64(binary.BigEndian.Uint64(b)) }

// addDirectories adds the directories with a category. Those on the same hosts share
// a set, which is put together once.
func (r *reader) addDirectories() {
	sets := make(map[string]mirrorlist.MirrorSet)
	var key []byte
	for at, name := range r.names {
		c := r.category[at]
		if c == nil {
			continue
		}
		holders := newBitmap(len(c.carriers))
		for i, carrier := range c.carriers {
			if carrier.always || carrier.upTo.has(at) {
				holders.set(i)
			}
		}
		key = binary.LittleEndian.AppendUint64(key[:0], uint64(c.id))
		for _, word := range holders {
			key = binary.LittleEndian.AppendUint64(key, word)
		}
		set, known := sets[string(key)]
		if !known {
			set = r.b.Mirrors(r.mirrors(c, holders))
			sets[string(key)] = set
		}
		below, _ := subpath(name, c.topdir)
		r.b.AddDirectory(name, below, set)
	}
}

// mirrors says where each of the holders of a directory is listed.
func (r *reader) mirrors(c *category, holders bitmap) mirrorlist.Mirrors {
	var m mirrorlist.Mirrors
	for i, k := range c.carriers {
		if !holders.has(i) {
			continue
		}
		h := r.hosts[k.host]
		if len(k.urls) > 0 {
			ids := make([]int64, 0, len(k.urls))
			for _, u := range k.urls {
				ids = append(ids, u.id)
			}
			m.URLs = append(m.URLs, mirrorlist.HostURLs{Host: k.host, URLs: ids})
		}
		if h.country != "" && h.internet2 && (!h.private || h.internet2Clients) {
			m.Internet2 = addCountry(m.Internet2, h.country, k.host)
		}
		if h.private {
			continue
		}
		m.Global = append(m.Global, k.host)
		if h.country != "" {
			m.ByCountry = addCountry(m.ByCountry, h.country, k.host)
		}
	}
	return m
}

func addCountry(to []mirrorlist.CountryHosts, code string, host int64) []mirrorlist.CountryHosts {
	at := slices.IndexFunc(to, func(c mirrorlist.CountryHosts) bool { return c.Code == code })
	if at < 0 {
		return append(to, mirrorlist.CountryHosts{Code: code, Hosts: []int64{host}})
	}
	to[at].Hosts = append(to[at].Hosts, host)
	return to
}
