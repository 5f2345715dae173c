package choice

import (
	"hash/fnv"
	"net/netip"
	"slices"
	"time"

	"github.com/gaissmai/bart"

	"freshet/api/directorapi"
	"freshet/internal/geoip"
)

// Mirror is all that is known of a mirror that carries a project.
type Mirror struct {
	Name  string      // unique
	Place geoip.Place // of its site
	ASN   uint32      // of its site; 0: not known
	// Capacity is how much it may be given, in Mbit/s; 0: [DefaultCapacity].
	Capacity int
	// Shed is the part of its share, from 0 to 1, that it is not given because of its
	// load (see internal/director/headroom).
	Shed  float64
	Rules directorapi.Rules
	// Disabled: operators say that nobody is given it.
	Disabled bool
	// Ways are how clients can reach it, by [Way].
	Ways [NumWays]State
}

// PlaceOf is where a site is, as well as the catalogue says.
func PlaceOf(s *directorapi.Site) geoip.Place {
	at := geoip.PlaceIn(geoip.CountryOf(s.Country))
	if s.Latitude != 0 || s.Longitude != 0 {
		at.Point, at.Radius = geoip.Point{Latitude: s.Latitude, Longitude: s.Longitude}, 1
	}
	return at
}

// DefaultCapacity is that of a mirror of which none is said, in Mbit/s.
const DefaultCapacity = 1000

// Way is a scheme and an address family by which a mirror is reached.
type Way uint8

// The ways.
const (
	HTTP4 Way = iota
	HTTP6
	HTTPS4
	HTTPS6
	NumWays = 4
)

// WayOf is the way by http or https over IPv4 or IPv6.
func WayOf(https, ipv6 bool) Way {
	w := HTTP4
	if https {
		w = HTTPS4
	}
	if ipv6 {
		w++
	}
	return w
}

// HTTPS reports whether the way is by https.
func (w Way) HTTPS() bool { return w >= HTTPS4 }

// IPv6 reports whether the way is over IPv6.
func (w Way) IPv6() bool { return w&1 == 1 }

// State is what is known of a way to a mirror. It is used if it has a URL and no fault.
type State struct {
	URL   string    // of the project's root, ending in a slash; "": there is no such way
	Fault string    // why it does not work, in a few words for everybody
	Since time.Time // when the fault was first seen
}

func (s *State) works() bool { return s.URL != "" && s.Fault == "" }

// Scheme says which schemes a client takes.
type Scheme uint8

// The schemes.
const (
	// PreferHTTP takes http, and https of mirrors that have only that.
	PreferHTTP Scheme = iota
	// OnlyHTTPS is for clients that came by https, or ask for it. They are never sent to
	// anything less.
	OnlyHTTPS
	// OnlyHTTP is for clients that cannot do https.
	OnlyHTTP
)

// Files tells which mirrors have the file of a request.
type Files interface {
	// Holds is [None] if the mirror with this index may be used for the file, and else
	// why it may not: [NoFile], [OtherVersion], [NotCurrent], [Doubtful].
	Holds(mirror int) Reason
}

// Request is what is asked.
type Request struct {
	Client geoip.Location
	// IPv6 is whether the client came over IPv6 (its address, as it is known in Client,
	// may be the IPv4 address that this carries).
	IPv6   bool
	Scheme Scheme
	Path   string // on the director, for the rules about paths
	Size   int64  // of the file, in bytes; less than 0: not known
	Files  Files  // nil: all mirrors have it
	// Seed is all chance that there is; see [Seed].
	Seed uint64
	// Most is how many picks are wanted at most; 0: all. A few are cheaper than all.
	Most int
	// Explain asks for the mirrors that are left out, too.
	Explain bool
}

// Pick is what was decided of a mirror.
type Pick struct {
	// Mirror is its index in the mirrors of the Chooser.
	Mirror int
	// Out says why it is left out. The fields that follow are set as far as they were
	// found out before.
	Out Reason
	// Way is how the client reaches it.
	Way Way
	// Tier is how near it is.
	Tier Tier
	// Distance is how far away it is, in km; less than 0: not known.
	Distance float64
	// Weight decides within a tier: Mbit/s of its capacity that are left for this client,
	// fewer the farther it is away.
	Weight float64
	// Chance is the part of requests like this one for which it is the first, over all
	// seeds.
	Chance float64

	usual   float64 // the weight, were the mirror not loaded
	time    float64 // after which it wins, the shortest first
	key     uint64  // by which picks are sorted
	bits    int     // of the longest netblock that the client is in, -1: none
	limited bool    // it has less than its weight because of its limit
	fixed   bool    // while weights are scaled: it has its limit
}

// Tier is how near a mirror is to a client; a lower one is nearer.
type Tier uint8

// The tiers.
const (
	// TierNetblock: the client is in a netblock of the mirror, and in no longer one of
	// another.
	TierNetblock Tier = iota
	// TierNetwork: it is in a shorter netblock of it, or in the same autonomous system.
	TierNetwork
	// TierCountry: the mirror is in the client's country, is for it as if it were there,
	// or is near everybody.
	TierCountry
	// TierNeighbour: in a neighbouring country.
	TierNeighbour
	// TierContinent: on the same continent.
	TierContinent
	// TierWorld: anywhere.
	TierWorld
	NumTiers = 6
)

// Chooser chooses among the mirrors of a project. It never changes, and may be used by any
// number of goroutines.
type Chooser struct {
	mirrors []Mirror
	known   []known // the same, as it is computed with
}

// known is what is made of a mirror once, so that requests need not.
type known struct {
	id         uint64 // by which its chance differs from that of others
	at         geoip.Vector
	netblocks  *bart.Table[struct{}] // nil: none
	avoided    *bart.Table[struct{}]
	countries  countrySet // it is in, or is for
	neighbours countrySet // of the one it is in
	notIn      countrySet
	capacity   float64
	room       float64 // 1 - Shed
	restricted bool    // there is any rule of whom it is not for
}

// leastRoom is the part of its share that every mirror is given, so that one that is alone
// remains what it is.
const leastRoom = 1e-6

// countrySet is a set of countries.
type countrySet [4]uint64

func (s *countrySet) add(c geoip.Country)      { s[c>>6] |= 1 << (c & 63) }
func (s *countrySet) has(c geoip.Country) bool { return c != 0 && s[c>>6]>>(c&63)&1 == 1 }

// New makes a Chooser. It keeps mirrors, which must not be changed any more.
func New(mirrors []Mirror) *Chooser {
	c := &Chooser{mirrors: mirrors, known: make([]known, len(mirrors))}
	for i := range mirrors {
		c.known[i] = know(&mirrors[i])
	}
	return c
}

func know(m *Mirror) known {
	name := fnv.New64a()
	_, _ = name.Write([]byte(m.Name)) // never fails
	r := &m.Rules
	k := known{
		id: name.Sum64(), at: m.Place.Point.Vector(),
		netblocks: table(r.Netblocks), avoided: table(r.NotNetblocks),
		capacity: float64(max(0, m.Capacity)), room: max(leastRoom, 1-max(0, m.Shed)),
		restricted: r.CountryOnly || r.ASNOnly || r.NetblocksOnly || len(r.NotCountries)+len(r.NotASNs)+len(r.NotNetblocks)+len(r.NotPaths) > 0 || r.MaxFileSize > 0,
	}
	if k.capacity == 0 {
		k.capacity = DefaultCapacity
	}
	k.countries.add(m.Place.Country)
	for c := range m.Place.Country.Neighbours() {
		k.neighbours.add(c)
	}
	for _, code := range r.Countries {
		k.countries.add(geoip.CountryOf(code))
	}
	for _, code := range r.NotCountries {
		k.notIn.add(geoip.CountryOf(code))
	}
	return k
}

// table is a set of netblocks, nil for none.
func table(blocks []netip.Prefix) *bart.Table[struct{}] {
	if len(blocks) == 0 {
		return nil
	}
	t := new(bart.Table[struct{}])
	for _, b := range blocks {
		t.Insert(b, struct{}{})
	}
	return t
}

// Len is how many mirrors there are.
func (c *Chooser) Len() int { return len(c.mirrors) }

// Mirror is the mirror with an index. It must not be changed.
func (c *Chooser) Mirror(i int) *Mirror { return &c.mirrors[i] }

// Choose decides of each mirror whether the client of r can be given it, and brings those
// that it can be given into the order in which they are to be tried. With r.Explain those
// that are left out follow, in the order of the mirrors, whatever r.Most is. The picks are in dst, the memory
// of which is used again.
func (c *Chooser) Choose(dst []Pick, r *Request) []Pick {
	if c == nil {
		return dst[:0]
	}
	who := whoIs(r)
	var s state
	s.picks = slices.Grow(dst[:0], len(c.mirrors))[:len(c.mirrors)]
	n := 0
	for i := range c.mirrors {
		p := &s.picks[n]
		if c.judge(p, i, r, &who); p.Out == None || p.Out == Down || r.Explain {
			n++
		}
	}
	s.picks = s.picks[:n]
	s.settle(c)
	s.weigh(c, r.Client.Continent == "")
	s.order(c, r)
	return s.picks
}
