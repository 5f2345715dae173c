package diskcache

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/http"
	"time"
)

// ID names an entry: a digest of everything that tells it from others.
type ID [16]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Short is the begin of the ID, which is enough to find it by.
func (id ID) Short() uint64 { return binary.BigEndian.Uint64(id[:8]) }

// Meta is the response an entry was made from. It is not changed after the
// entry exists.
type Meta struct {
	// Key is the identity of the resource, for people.
	Key string
	// Site, URI and Path are the parts of the identity that bans and lists go
	// by.
	Site, URI, Path string
	// Vary are the names of the request fields that selected this response,
	// VaryKey their values.
	Vary    []string
	VaryKey string
	Status  int
	Header  http.Header
	// Fixed says that the name binds the bytes for good. What is fixed and what
	// may change have separate shares of the store.
	Fixed bool
	// Index says that it has its place in the share of what may change, although
	// it is fixed: what leads to other entries is not driven out by them.
	Index bool
	// Listed says that [Store.Listed] shall yield the entry.
	Listed bool
}

// State is what changes during the life of an entry.
type State struct {
	// Validated is when the response arrived, or the last 304 that confirmed
	// it.
	Validated time.Time
	// InitialAge is how old it was then, kept in hundredths of a second up to a
	// year, Lifetime how long from its birth it is fresh by what the origin
	// said, in whole seconds.
	InitialAge, Lifetime time.Duration
	// Revalidate and OnError are how long after Lifetime it may be used stale,
	// in whole seconds.
	Revalidate, OnError time.Duration
	// Flags are the edge's; their meaning is not known here.
	Flags uint32
}

// Age is the age at the given time.
func (s State) Age(now time.Time) time.Duration {
	return s.InitialAge + max(0, now.Sub(s.Validated))
}

// maxMeta bounds an encoded Meta: header fields are at most some 10 kB.
const maxMeta = 48 << 10

// flags are what of it stands in the head of a record.
func (m *Meta) flags() uint8 {
	var flags uint8
	if m.Fixed {
		flags |= flagFixed
	}
	if m.Listed {
		flags |= flagListed
	}
	if m.Index {
		flags |= flagIndex
	}
	return flags
}

// append encodes m: strings with their lengths before them, lists with their
// counts, numbers as in [binary.AppendUvarint]. Fixed, Index and Listed are in the
// record's head.
func (m *Meta) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(m.Status))
	for _, s := range [...]string{m.Key, m.Site, m.URI, m.Path, m.VaryKey} {
		b = appendString(b, s)
	}
	b = appendStrings(b, m.Vary)
	b = binary.AppendUvarint(b, uint64(len(m.Header)))
	for name, values := range m.Header {
		b = appendString(b, name)
		b = appendStrings(b, values)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendStrings(b []byte, list []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, s := range list {
		b = appendString(b, s)
	}
	return b
}

// parseMeta decodes what append made of a Meta.
func parseMeta(b []byte) (*Meta, error) {
	d := metaReader{s: string(b)} // the one copy that all strings are parts of
	m := &Meta{Status: d.number(999)}
	for _, s := range [...]*string{&m.Key, &m.Site, &m.URI, &m.Path, &m.VaryKey} {
		*s = d.string()
	}
	m.Vary = d.strings()
	n := d.number(len(b))
	m.Header = make(http.Header, n)
	for range n {
		name := d.string()
		m.Header[name] = d.strings()
	}
	if d.bad || d.s != "" {
		return nil, errors.New("damaged fields")
	}
	return m, nil
}

// metaReader takes values from the front of s. After the first that is not
// there, all are zero.
type metaReader struct {
	s    string
	bad  bool
	pool []string // values of lists are cut from here: most lists have one
}

func (d *metaReader) number(limit int) int {
	n, shift := uint64(0), 0
	for i := range len(d.s) {
		c := d.s[i]
		n |= uint64(c&0x7f) << shift
		if shift += 7; c < 0x80 {
			d.s = d.s[i+1:]
			if n <= uint64(limit) {
				return int(n)
			}
			break
		}
		if shift > 28 {
			break
		}
	}
	d.bad, d.s = true, ""
	return 0
}

func (d *metaReader) string() string {
	n := d.number(len(d.s))
	if n > len(d.s) {
		d.bad, d.s = true, ""
		return ""
	}
	s := d.s[:n]
	d.s = d.s[n:]
	return s
}

func (d *metaReader) strings() []string {
	n := d.number(len(d.s))
	if n == 0 || n > len(d.s) {
		d.bad = d.bad || n > len(d.s)
		return nil
	}
	if len(d.pool) < n {
		d.pool = make([]string, max(n, 16))
	}
	list := d.pool[:n:n]
	d.pool = d.pool[n:]
	for i := range list {
		list[i] = d.string()
	}
	return list
}
