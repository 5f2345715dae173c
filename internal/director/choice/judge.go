package choice

import (
	"net/netip"
	"slices"

	"freshet/internal/geoip"
	"freshet/internal/glob"
)

// who is what is found out of a client once for all mirrors.
type who struct {
	addr    netip.Prefix // of one address; not valid if it is not known
	at      geoip.Vector
	located bool
}

func whoIs(r *Request) who {
	w := who{at: r.Client.Point.Vector(), located: r.Client.Radius > 0}
	if a := r.Client.Addr; a.IsValid() {
		w.addr = netip.PrefixFrom(a, a.BitLen())
	}
	return w
}

// judge finds out whether a mirror can be given to the client, and how near it is.
func (c *Chooser) judge(p *Pick, i int, r *Request, w *who) {
	m, k := &c.mirrors[i], &c.known[i]
	*p = Pick{Mirror: i}
	switch {
	case m.Disabled:
		p.Out = Disabled
	case r.Files != nil:
		p.Out = r.Files.Holds(i)
	}
	if p.Out != None && !r.Explain {
		return
	}
	p.bits, p.Distance = bitsOf(k, w), distance(m, k, w)
	p.Tier = tierOf(m, k, r, p.bits)
	p.usual = k.capacity * nearness(p.Distance, w.located && !m.near(p.Tier), r.Client.Radius+m.Place.Radius)
	p.Weight = p.usual * k.room
	if p.Out == None && k.restricted {
		p.Out = forbidden(m, k, r, p.bits)
	}
	if p.Out == None {
		p.Way, p.Out = m.way(r)
	}
}

// bitsOf is the length of the longest netblock of the mirror that the client is in, -1 if
// there is none.
func bitsOf(k *known, w *who) int {
	if k.netblocks == nil || !w.addr.IsValid() {
		return -1
	}
	if lpm, _, ok := k.netblocks.LookupPrefixLPM(w.addr); ok {
		return lpm.Bits()
	}
	return -1
}

// tierOf is how near the mirror is. Of netblocks only the longest will remain in the first.
func tierOf(m *Mirror, k *known, r *Request, bits int) Tier {
	from := &r.Client
	switch {
	case bits >= 0:
		return TierNetblock
	case m.ASN != 0 && m.ASN == from.ASN:
		return TierNetwork
	case m.Rules.Global || k.countries.has(from.Country):
		return TierCountry
	case k.neighbours.has(from.Country):
		return TierNeighbour
	case from.Continent != "" && m.Place.Continent == from.Continent:
		return TierContinent
	}
	return TierWorld
}

// near reports whether it counts as near in this tier wherever it is.
func (m *Mirror) near(tier Tier) bool { return m.Rules.Global && tier == TierCountry }

func distance(m *Mirror, k *known, w *who) float64 {
	if !w.located || m.Place.Radius == 0 {
		return -1
	}
	return w.at.Distance(k.at)
}

const (
	// equalWithin is the distance in km up to which all mirrors are equally near.
	equalWithin = 250
	// nowhere is how far away, in km, a mirror is taken to be of which it is not known: so
	// far as two places on the Earth are in the mean.
	nowhere = 10000
)

// nearness is by what a mirror's capacity is multiplied. Up to a distance at which
// all are equal it is 1, from there on it falls with the square of the distance. How well
// the places are known, in km, is the least such distance: what could be wrong decides nothing.
func nearness(distance float64, counts bool, known float64) float64 {
	if !counts {
		return 1
	}
	if distance < 0 {
		distance = nowhere
	}
	equal := max(equalWithin, known)
	if distance <= equal {
		return 1
	}
	return equal / distance * (equal / distance)
}

// forbidden applies the rules of whom and what the mirror is not for.
func forbidden(m *Mirror, k *known, r *Request, bits int) Reason {
	rules, from := &m.Rules, &r.Client
	switch {
	case rules.CountryOnly && !k.countries.has(from.Country):
		return CountryOnly
	case rules.ASNOnly && (m.ASN == 0 || m.ASN != from.ASN):
		return ASNOnly
	case rules.NetblocksOnly && bits < 0:
		return NetblocksOnly
	case k.notIn.has(from.Country):
		return NotCountry
	case from.ASN != 0 && slices.Contains(rules.NotASNs, from.ASN):
		return NotASN
	case k.avoided != nil && from.Addr.IsValid() && k.avoided.Contains(from.Addr):
		return NotNetblock
	case rules.MaxFileSize > 0 && r.Size > rules.MaxFileSize:
		return TooLarge
	case glob.MatchAny(rules.NotPaths, r.Path):
		return NotPath
	}
	return None
}

// way is how the client reaches the mirror, or why it does not.
func (m *Mirror) way(r *Request) (Way, Reason) {
	way, other := WayOf(r.Scheme == OnlyHTTPS, r.IPv6), WayOf(true, r.IPv6)
	if r.Scheme == PreferHTTP && !m.Ways[way].works() && m.Ways[other].URL != "" {
		if m.Ways[other].works() || m.Ways[way].URL == "" {
			way = other
		}
	}
	switch {
	case m.Ways[way].works():
		return way, None
	case m.Ways[way].URL == "" && m.Ways[way^1].URL == "":
		return way, NoScheme
	case m.Ways[way^1].works():
		return way, NoFamily
	}
	return way, Down
}
