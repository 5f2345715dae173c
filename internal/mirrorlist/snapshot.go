package mirrorlist

import (
	"iter"
	"maps"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"
)

// Snapshot is the state of a mirror network at one time. It is immutable: all its
// methods may be called by any number of goroutines, and what they return is shared
// and must not be changed. Look-ups do not allocate.
//
// Where a file names a key twice, the first one counts.
type Snapshot struct {
	time         uint64
	hosts        []host
	hostNumbers  map[int64]Host
	countries    []string
	countryCodes map[string]Country
	urls         []url

	redirects    map[string]string // repository alias → repository
	disabled     map[string]bool
	repositories map[string]string // "prefix+arch" → directory
	continents   map[string]string // country → continent it is moved to

	asns            map[int64][]Host
	netblocks       bart.Table[[]Host]
	netblockTexts   []namedHosts // as the file has them
	netblockCountry bart.Table[string]
	countryBlocks   []CountryBlock

	directories []directory // by name
	byName      index
	sets        []mirrors
	files       []fileDirectory // by name
	filesByName index
	subpaths    []string // those that are not the end of a directory's name
	locations   []namedHosts

	problems Problems
}

// Host is the number of a host in one snapshot, less than NumHosts, so that a slice
// serves as a table of hosts. It means nothing in another snapshot.
type Host uint16

// Country is the number of a country code in one snapshot, less than NumCountries.
type Country uint16

// URL is the number of a base URL in one snapshot.
type URL uint32

// host is what is known of a host apart from what it holds.
type host struct {
	id        int64
	bandwidth int64
	conns     int64
	country   string
	allowed   []string
	has       hostFields
	lists     [][]URL // the different lists of URLs that directories have for it
}

// hostFields are the tables in which a host has an entry.
type hostFields uint8

const (
	hasBandwidth hostFields = 1 << iota
	hasConns
	hasCountry
	hasAllowed
)

// namedHosts are hosts under a name.
type namedHosts struct {
	name  string
	hosts []Host
}

type url struct {
	id   int64
	base string
	set  bool // in HCUrlCache; else only named by a directory
}

// Time is when the snapshot was made, in seconds of Unix time.
func (s *Snapshot) Time() uint64 { return s.time }

// Problems tells what was left out when the snapshot was read.
func (s *Snapshot) Problems() Problems { return s.problems }

// NumHosts is the number of hosts that the snapshot names anywhere.
func (s *Snapshot) NumHosts() int { return len(s.hosts) }

// HostID is the id of a host in MirrorManager's database.
func (s *Snapshot) HostID(h Host) int64 { return s.hosts[h].id }

// HostByID finds a host by its id.
func (s *Snapshot) HostByID(id int64) (Host, bool) {
	h, ok := s.hostNumbers[id]
	return h, ok
}

// HostCountry is the country code of a host as the file spells it, "" if it has none.
func (s *Snapshot) HostCountry(h Host) string { return s.hosts[h].country }

// Bandwidth is a host's bandwidth in Mbit/s, the weight by which mirrors are
// shuffled; 0 if the file has none. It may be anything that the file says.
func (s *Snapshot) Bandwidth(h Host) int64 { return s.hosts[h].bandwidth }

// Allows tells whether a host serves clients in the country with this code, which is
// compared as it is: a host without a list of allowed countries serves all.
func (s *Snapshot) Allows(h Host, code string) bool {
	return s.hosts[h].has&hasAllowed == 0 || slices.Contains(s.hosts[h].allowed, code)
}

// AllowedCountries are the country codes whose clients a host serves; nil means all.
func (s *Snapshot) AllowedCountries(h Host) []string { return s.hosts[h].allowed }

// NumCountries is the number of country codes under which directories group hosts.
func (s *Snapshot) NumCountries() int { return len(s.countries) }

// Country finds the number of a country code, which is compared as it is: files have
// upper case. Countries without a mirror are not found.
func (s *Snapshot) Country(code string) (Country, bool) {
	c, ok := s.countryCodes[code]
	return c, ok
}

// CountryCode is the code of a country.
func (s *Snapshot) CountryCode(c Country) string { return s.countries[c] }

// URL is a base URL without a slash at its end, "" for one that directories name and
// the file does not tell.
func (s *Snapshot) URL(u URL) string { return s.urls[u].base }

// URLID is the id of a base URL in MirrorManager's database.
func (s *Snapshot) URLID(u URL) int64 { return s.urls[u].id }

// Redirect is the repository that a repository name stands for. It is not followed
// further.
func (s *Snapshot) Redirect(repo string) (to string, ok bool) {
	to, ok = s.redirects[repo]
	return to, ok
}

// Disabled tells whether a repository is switched off, for all architectures.
func (s *Snapshot) Disabled(repo string) bool { return s.disabled[repo] }

// RepositoryDirectory is the name of the directory of a repository.
func (s *Snapshot) RepositoryDirectory(repo, arch string) (directory string, ok bool) {
	var room [128]byte
	key := append(append(append(room[:0], repo...), '+'), arch...)
	directory, ok = s.repositories[string(key)]
	return directory, ok
}

// Repositories yields the keys "repository+architecture" in byte order, each with the
// name of its directory. It allocates.
func (s *Snapshot) Repositories() iter.Seq2[string, string] { return sorted(s.repositories) }

// Redirects yields the aliases of repositories in byte order, each with what it stands for.
// It allocates.
func (s *Snapshot) Redirects() iter.Seq2[string, string] { return sorted(s.redirects) }

// ContinentRedirects yields the countries that are moved to another continent, each
// with the code of the continent. It allocates.
func (s *Snapshot) ContinentRedirects() iter.Seq2[string, string] { return sorted(s.continents) }

// ASNHosts are the hosts that prefer clients of an autonomous system, in stored order.
func (s *Snapshot) ASNHosts(asn int64) []Host { return s.asns[asn] }

// Netblocks yields every netblock that contains addr and that hosts prefer, the longest
// prefix first, with those hosts in stored order; one host may be there twice. An IPv4
// address in IPv6 form (::ffff:a.b.c.d) is an IPv6 address here.
func (s *Snapshot) Netblocks(addr netip.Addr) iter.Seq2[netip.Prefix, []Host] {
	return func(yield func(netip.Prefix, []Host) bool) {
		for bits := addr.BitLen(); bits >= 0; {
			prefix, hosts, ok := s.netblocks.LookupPrefixLPM(netip.PrefixFrom(addr, bits))
			if !ok || !yield(prefix, hosts) {
				return
			}
			bits = prefix.Bits() - 1
		}
	}
}

// CountryBlock says in which country a netblock is, whatever GeoIP says.
type CountryBlock struct {
	Text    string       // as in the file
	Prefix  netip.Prefix // not valid where Text is no netblock
	Country string
}

// NetblockCountry is the country of the longest netblock that contains addr.
func (s *Snapshot) NetblockCountry(addr netip.Addr) (code string, ok bool) {
	return s.netblockCountry.Lookup(addr)
}

// CountryBlocks are the netblocks of NetblockCountry in stored order, those that are no
// netblocks too.
func (s *Snapshot) CountryBlocks() []CountryBlock { return s.countryBlocks }

// sorted yields a map in the order of its keys.
func sorted(m map[string]string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}
