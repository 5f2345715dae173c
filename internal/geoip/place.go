package geoip

import (
	"cmp"
	"encoding/binary"
	"math"
	"net/netip"
)

// Point is a place on the Earth, in degrees north and east.
type Point struct{ Latitude, Longitude float64 }

// Vector is a point as a vector of length 1, by which distances are computed quickly.
type Vector [3]float64

// Vector converts the point.
func (p Point) Vector() Vector {
	sinLat, cosLat := math.Sincos(p.Latitude * math.Pi / 180)
	sinLon, cosLon := math.Sincos(p.Longitude * math.Pi / 180)
	return Vector{cosLat * cosLon, cosLat * sinLon, sinLat}
}

// earthRadius is the mean radius of the Earth, in km.
const earthRadius = 6371.0

// Distance is the length of the great circle between two points, in km: at most half of
// the Earth's circumference. The Earth is a sphere here, which is wrong by 0.6 % at most.
func (v Vector) Distance(w Vector) float64 {
	x, y, z := v[0]-w[0], v[1]-w[1], v[2]-w[2]
	chord := math.Sqrt(x*x + y*y + z*z)
	return 2 * earthRadius * math.Asin(min(1, chord/2))
}

// Place is where something is, as far as it is known. The zero value is anywhere.
type Place struct {
	Country   Country
	Continent string // the code; known also of some places whose country is not
	// Point is where it is, within Radius km. A Radius of 0 says that no point is known.
	Point  Point
	Radius float64
}

// PlaceIn is the place of something of which only the country is known: the middle of
// it, and all around.
func PlaceIn(c Country) Place {
	return Place{Country: c, Continent: c.Continent(), Point: c.Middle(), Radius: c.Radius()}
}

// Location is where a client is, in the world and in the Internet.
type Location struct {
	Place

	// Addr is the address that was looked up: an IPv4 address also if an IPv6 address
	// carries it.
	Addr netip.Addr
	// ASN is the autonomous system that announces the address, 0 if it is not known.
	ASN uint32
}

// Locator finds out where clients are from all that there is. Every field may be nil. It
// must not be changed while it is used; any number of goroutines may use it.
type Locator struct {
	Places    *Places    // asked first
	Countries *Countries // asked for what Places does not know
	Netblocks *Netblocks // asked first for autonomous systems
	Systems   *Systems   // asked for what Netblocks does not know
}

// Locate tells where an address is. Of an address that is not known, or not valid, it
// tells only the address.
func (l *Locator) Locate(addr netip.Addr) Location {
	if l == nil {
		l = new(Locator)
	}
	addr = Carried(addr)
	at := Location{Addr: addr, Place: l.Places.Place(addr)}
	if at.Country == 0 {
		if c := CountryOf(l.Countries.Country(addr)); c != 0 {
			at.Place = PlaceIn(c)
		}
	}
	at.ASN, _ = l.Netblocks.ASN(addr)
	at.ASN = cmp.Or(at.ASN, l.Systems.ASN(addr))
	return at
}

// Carried is the IPv4 address that an IPv6 address carries for its user: mapped
// (::ffff:0:0/96, RFC 4291 §2.5.5.2), translated (64:ff9b::/96, RFC 6052), 6to4 (2002::/16, RFC
// 3056) or Teredo (2001::/32, RFC 4380 §4). It is addr itself, without a zone, of all others.
func Carried(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if !addr.Is6() {
		return addr
	}
	b := addr.As16()
	switch {
	case b[0] == 0x20 && b[1] == 0x02:
		return netip.AddrFrom4([4]byte(b[2:6]))
	case binary.BigEndian.Uint32(b[:4]) == 0x20010000:
		return netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]})
	case [12]byte(b[:12]) == [12]byte{0, 0x64, 0xff, 0x9b}:
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return addr
}
