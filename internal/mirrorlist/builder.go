package mirrorlist

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of a snapshot. The largest network known has some 1,000 hosts and 170,000
// directories.
const (
	maxNumbers     = 1<<16 - 1 // hosts, countries, hosts of a directory
	maxLists       = 1 << 12   // lists of URLs of one host: it has one per category
	maxURLs        = 1 << 20
	maxDirectories = 1 << 22
	maxBytes       = 1 << 30 // of all together, in memory
)

// Builder makes a Snapshot from its parts, in any order, by the ids of the database.
// What is told twice counts as it was told first. Strings are kept, slices are not.
//
// A part that makes no sense is left out and told in the snapshot's Problems. What the
// snapshot cannot hold is an error, which Snapshot returns. The zero value is not ready
// for use: see NewBuilder.
type Builder struct {
	s        *Snapshot
	err      error
	urls     map[int64]URL
	sets     interner
	timed    bool
	netblock map[string]int // place in netblockTexts
	bytes    int            // that it holds, about
	limit    int            // of bytes
}

// NewBuilder returns a builder of an empty snapshot.
func NewBuilder() *Builder {
	return &Builder{
		s: &Snapshot{
			hostNumbers:  make(map[int64]Host),
			countryCodes: make(map[string]Country),
			redirects:    make(map[string]string),
			disabled:     make(map[string]bool),
			repositories: make(map[string]string),
			continents:   make(map[string]string),
			asns:         make(map[int64][]Host),
		},
		limit:    maxBytes,
		urls:     make(map[int64]URL),
		netblock: make(map[string]int),
		sets:     newInterner(),
	}
}

// ErrTooMany is wrapped by errors of snapshots with more of something than this package
// has numbers for.
var ErrTooMany = errors.New("too many for a snapshot")

func (b *Builder) fail(format string, args ...any) {
	if b.err == nil {
		b.err = fmt.Errorf(format, args...)
	}
}

// hold counts bytes that the snapshot will hold.
func (b *Builder) hold(n int) {
	if b.bytes += n; b.bytes > b.limit {
		b.fail("more than %d bytes of content: %w", b.limit, ErrTooMany)
	}
}

// SetTime says when the snapshot is made, in seconds of Unix time.
func (b *Builder) SetTime(seconds uint64) { b.s.time, b.timed = seconds, true }

// AddURL says what base URL an id stands for. A slash at its end is kept.
func (b *Builder) AddURL(id int64, base string) {
	if !b.clean("HCUrlCache", base) {
		return
	}
	u := &b.s.urls[b.url(id)]
	if !u.set {
		u.base, u.set = base, true
	}
}

// AddBandwidth says what bandwidth a host has, in Mbit/s.
func (b *Builder) AddBandwidth(host, mbits int64) {
	if h := b.hostField(host, hasBandwidth); h != nil {
		h.bandwidth = mbits
	}
}

// AddMaxConnections says how many connections a client should make to a host.
func (b *Builder) AddMaxConnections(host, connections int64) {
	if h := b.hostField(host, hasConns); h != nil {
		h.conns = connections
	}
}

// AddHostCountry says in which country a host is.
func (b *Builder) AddHostCountry(host int64, code string) {
	if !b.clean("HostCountryCache", code) {
		return
	}
	if h := b.hostField(host, hasCountry); h != nil {
		h.country = code
	}
}

// AddAllowedCountries says whose clients alone a host serves.
func (b *Builder) AddAllowedCountries(host int64, codes []string) {
	if h := b.hostField(host, hasAllowed); h != nil {
		h.allowed = slices.Clone(codes)
	}
}

// AddASN says which hosts prefer the clients of an autonomous system.
func (b *Builder) AddASN(asn int64, hosts []int64) {
	if _, known := b.s.asns[asn]; !known {
		b.hold(50 + 2*len(hosts))
		b.s.asns[asn] = b.hosts(hosts)
	}
}

// AddNetblock says which hosts prefer the clients of a netblock: a prefix, whose
// address may have bits behind its length, or one address.
func (b *Builder) AddNetblock(netblock string, hosts []int64) {
	at, known := b.netblock[netblock]
	if !known {
		at = len(b.s.netblockTexts)
		b.netblock[netblock] = at
		b.s.netblockTexts = append(b.s.netblockTexts, namedHosts{name: netblock})
	}
	b.hold(200 + len(netblock) + 4*len(hosts)) // a prefix may need a node of its own
	n := &b.s.netblockTexts[at]
	n.hosts = append(n.hosts, b.hosts(hosts)...)
	prefix, ok := parseNetblock(netblock)
	if !ok {
		b.AddProblem("HostNetblockCache", netblock, "is neither a prefix nor an address")
		return
	}
	b.s.netblocks.Modify(prefix, func(old []Host, _ bool) ([]Host, bool) {
		return append(old, b.hosts(hosts)...), false
	})
}

// AddNetblockCountry says in which country a netblock is, whatever GeoIP says.
func (b *Builder) AddNetblockCountry(netblock, code string) {
	if !b.clean("NetblockCountryCache", code) {
		return
	}
	prefix, ok := parseNetblock(netblock)
	b.s.countryBlocks = append(b.s.countryBlocks, CountryBlock{Text: netblock, Prefix: prefix, Country: code})
	if !ok {
		b.AddProblem("NetblockCountryCache", netblock, "is neither a prefix nor an address")
		return
	}
	if _, known := b.s.netblockCountry.Get(prefix); !known {
		b.s.netblockCountry.Insert(prefix, code)
	}
}

// AddLocation says which hosts are at a named location. Nothing asks for it.
func (b *Builder) AddLocation(name string, hosts []int64) {
	b.hold(len(name) + 2*len(hosts))
	b.s.locations = append(b.s.locations, namedHosts{name, b.hosts(hosts)})
}

// AddRepository says which directory is that of a repository and an architecture,
// which key has with a plus sign between.
func (b *Builder) AddRepository(key, directory string) {
	addText(b, "RepoArchToDirectoryName", b.s.repositories, key, directory)
}

// AddRedirect says for which repository an alias stands.
func (b *Builder) AddRedirect(alias, repository string) {
	addText(b, "RepositoryRedirectCache", b.s.redirects, alias, repository)
}

// AddContinent moves a country to another continent.
func (b *Builder) AddContinent(country, continent string) {
	addText(b, "CountryContinentRedirectCache", b.s.continents, country, continent)
}

// AddDisabled says whether a repository is switched off.
func (b *Builder) AddDisabled(repository string, disabled bool) {
	if _, known := b.s.disabled[repository]; !known {
		b.s.disabled[repository] = disabled
	}
}

func addText(b *Builder, table string, m map[string]string, key, value string) {
	if !b.clean(table, key) || !b.clean(table, value) {
		return
	}
	if _, known := m[key]; known {
		b.AddProblem(table, key, "is there twice")
		return
	}
	m[key] = value
}

// AddDirectory says which mirrors have a directory. The subpath is its name below the
// top directory of its category.
func (b *Builder) AddDirectory(name, subpath string, set MirrorSet) {
	switch {
	case !b.clean("MirrorListCache", name), !b.clean("MirrorListCache", subpath):
		return
	case len(b.s.directories) == maxDirectories:
		b.fail("more than %d directories: %w", maxDirectories, ErrTooMany)
		return
	}
	d := directory{name: name, subpath: int32(len(subpath)), set: uint32(set)}
	if !strings.HasSuffix(name, subpath) {
		b.s.subpaths = append(b.s.subpaths, subpath)
		d.subpath = -int32(len(b.s.subpaths))
	}
	b.hold(32)
	b.s.directories = append(b.s.directories, d)
}

// AddFile says which versions of a file there are, the newest first.
func (b *Builder) AddFile(directory, name string, versions []Version) {
	if !b.clean("FileDetailsCache", directory) || !b.clean("FileDetailsCache", name) {
		return
	}
	for _, v := range versions {
		if !b.clean("FileDetailsCache", v.MD5) || !b.clean("FileDetailsCache", v.SHA1) ||
			!b.clean("FileDetailsCache", v.SHA256) || !b.clean("FileDetailsCache", v.SHA512) {
			return
		}
	}
	if n := len(b.s.files); n == 0 || b.s.files[n-1].name != directory {
		b.s.files = append(b.s.files, fileDirectory{name: directory})
	}
	d := &b.s.files[len(b.s.files)-1]
	b.hold(80 + 80*len(versions))
	d.files = append(d.files, file{name, slices.Clone(versions)})
}

// Snapshot returns what was built. The builder must not be used any more.
func (b *Builder) Snapshot() (*Snapshot, error) {
	s := b.s
	b.s = nil
	if b.err != nil {
		return nil, b.err
	}
	s.sets = slices.Clip(b.sets.sets)
	s.directories = inOrder(s.directories, func(d directory) string { return d.name })
	s.byName = newIndex(len(s.directories), func(i int) string { return s.directories[i].name })
	b.orderFiles(s)
	return s, nil
}

// orderFiles brings the files into order, and those of one directory together.
func (b *Builder) orderFiles(s *Snapshot) {
	slices.SortStableFunc(s.files, func(a, b fileDirectory) int { return strings.Compare(a.name, b.name) })
	joined := s.files[:0]
	for _, d := range s.files {
		if n := len(joined); n > 0 && joined[n-1].name == d.name {
			joined[n-1].files = append(joined[n-1].files, d.files...)
		} else {
			joined = append(joined, d)
		}
	}
	s.files = slices.Clone(joined)
	for i := range s.files {
		s.files[i].files = inOrder(s.files[i].files, func(f file) string { return f.name })
	}
	s.filesByName = newIndex(len(s.files), func(i int) string { return s.files[i].name })
}

// inOrder sorts by name. Of several with one name the first is kept.
func inOrder[T any](v []T, name func(T) string) []T {
	slices.SortStableFunc(v, func(a, b T) int { return strings.Compare(name(a), name(b)) })
	return slices.Clone(slices.CompactFunc(v, func(a, b T) bool { return name(a) == name(b) }))
}

// host returns the number of a host.
func (b *Builder) host(id int64) (Host, bool) {
	if h, known := b.s.hostNumbers[id]; known {
		return h, true
	}
	if len(b.s.hosts) == maxNumbers {
		b.fail("more than %d hosts: %w", maxNumbers, ErrTooMany)
		return 0, false
	}
	h := Host(len(b.s.hosts))
	b.s.hosts = append(b.s.hosts, host{id: id})
	b.s.hostNumbers[id] = h
	return h, true
}

// hostField returns a host that has had no such field, which it has now.
func (b *Builder) hostField(id int64, field hostFields) *host {
	n, ok := b.host(id)
	if !ok || b.s.hosts[n].has&field != 0 {
		return nil
	}
	b.s.hosts[n].has |= field
	return &b.s.hosts[n]
}

func (b *Builder) hosts(ids []int64) []Host {
	numbers := make([]Host, 0, len(ids))
	for _, id := range ids {
		if h, ok := b.host(id); ok {
			numbers = append(numbers, h)
		}
	}
	return numbers
}

func (b *Builder) country(code string) (Country, bool) {
	if c, known := b.s.countryCodes[code]; known {
		return c, true
	}
	if !b.clean("MirrorListCache", code) {
		return 0, false
	}
	if len(b.s.countries) == maxNumbers {
		b.fail("more than %d countries: %w", maxNumbers, ErrTooMany)
		return 0, false
	}
	c := Country(len(b.s.countries))
	b.s.countries = append(b.s.countries, code)
	b.s.countryCodes[code] = c
	return c, true
}

func (b *Builder) url(id int64) URL {
	if u, known := b.urls[id]; known {
		return u
	}
	if len(b.s.urls) == maxURLs {
		b.fail("more than %d URLs: %w", maxURLs, ErrTooMany)
		return 0
	}
	u := URL(len(b.s.urls))
	b.s.urls = append(b.s.urls, url{id: id})
	b.urls[id] = u
	return u
}

// clean tells whether a text may be put into an answer: it is UTF-8 and has no control
// characters, which would begin a new line there. If not, that is a problem. It is
// counted among what is held.
func (b *Builder) clean(table, text string) bool {
	b.hold(len(text))
	if !utf8.ValidString(text) {
		b.AddProblem(table, text, "is not UTF-8")
		return false
	}
	for i := range len(text) {
		if text[i] < ' ' || text[i] == 0x7f {
			b.AddProblem(table, text, "has a control character")
			return false
		}
	}
	return true
}

// parseNetblock reads a prefix or an address.
func parseNetblock(text string) (netip.Prefix, bool) {
	if prefix, err := netip.ParsePrefix(text); err == nil {
		return prefix.Masked(), true
	}
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(addr, addr.BitLen()), true
}
