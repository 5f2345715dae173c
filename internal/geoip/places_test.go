package geoip

import (
	"bytes"
	"errors"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

// cities is a database of places, by netblocks.
func cities(tb testing.TB, kind string, records map[string]mmdbtype.Map) []byte {
	tb.Helper()
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: kind, RecordSize: 28, BuildEpoch: 1700000000, IncludeReservedNetworks: true})
	if err != nil {
		tb.Fatal(err)
	}
	for block, record := range records { // none is within another
		_, network, err := net.ParseCIDR(block)
		if err != nil {
			tb.Fatal(err)
		}
		if err := tree.Insert(network, record); err != nil {
			tb.Fatal(err)
		}
	}
	var out bytes.Buffer
	if _, err := tree.WriteTo(&out); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// town is a record of one, as GeoLite2-City has it.
func town(country string, lat, lon float64, accuracy int) mmdbtype.Map {
	return mmdbtype.Map{
		"city":      mmdbtype.Map{"geoname_id": mmdbtype.Uint32(1), "names": mmdbtype.Map{"en": mmdbtype.String("Town"), "de": mmdbtype.String("Stadt")}},
		"continent": mmdbtype.Map{"code": mmdbtype.String("EU"), "names": mmdbtype.Map{"en": mmdbtype.String("Europe")}},
		"country":   mmdbtype.Map{"iso_code": mmdbtype.String(country), "geoname_id": mmdbtype.Uint32(2)},
		"location": mmdbtype.Map{
			"accuracy_radius": mmdbtype.Uint16(accuracy), "latitude": mmdbtype.Float64(lat), "longitude": mmdbtype.Float64(lon), "time_zone": mmdbtype.String("Europe/Berlin"),
		},
		"subdivisions": mmdbtype.Slice{mmdbtype.Map{"iso_code": mmdbtype.String("BE")}},
	}
}

func without(m mmdbtype.Map, keys ...string) mmdbtype.Map {
	for _, k := range keys {
		delete(m, mmdbtype.String(k))
	}
	return m
}

func TestPlaces(t *testing.T) {
	small := town("AT", 48.2, 16.4, 20)
	small["location"] = mmdbtype.Map{"latitude": mmdbtype.Float32(48.2), "longitude": mmdbtype.Float32(16.4)}
	half := town("AT", 0, 0, 20)
	half["location"] = mmdbtype.Map{"latitude": mmdbtype.Float64(48.2)}
	data := cities(t, "Test-City", map[string]mmdbtype.Map{
		"192.0.2.0/26":       town("DE", 52.5, 13.4, 10),
		"192.0.2.64/26":      without(town("DE", 51.3, 9.5, 200), "city", "subdivisions"),
		"192.0.2.128/26":     town("US", 37.751, -97.822, 1000),
		"192.0.2.192/26":     small,
		"198.51.100.0/26":    half,
		"198.51.100.64/26":   without(town("DE", 50, 10, 100), "country", "city", "subdivisions"),
		"198.51.100.128/26":  without(town("DE", 50, 10, 100), "location"),
		"198.51.100.192/26":  town("DE", math.NaN(), 10, 100),
		"203.0.113.0/26":     town("??", 91, 0, 100),
		"203.0.113.64/26":    {"country": mmdbtype.String("DE")},
		"203.0.113.128/26":   {"country": mmdbtype.Map{"iso_code": mmdbtype.Uint32(7)}},
		"2001:db8::/33":      without(town("DE", 51.3, 9.5, 100), "city", "subdivisions"),
		"2001:db8:8000::/33": town("DE", 52.5, 13.4, 5),
	})
	places, err := ParsePlaces(data)
	if err != nil {
		t.Fatal(err)
	}
	germany, usa, austria := PlaceIn(CountryOf("DE")), PlaceIn(CountryOf("US")), PlaceIn(CountryOf("AT"))
	berlin := Place{germany.Country, "EU", Point{52.5, 13.4}, 10}
	for addr, want := range map[string]Place{
		"192.0.2.1":          berlin,
		"::ffff:192.0.2.1":   berlin,
		"192.0.2.65":         germany, // the point is that of the country
		"192.0.2.129":        usa,     // it could be anywhere
		"192.0.2.193":        {austria.Country, "EU", Point{float64(float32(48.2)), float64(float32(16.4))}, 50},
		"198.51.100.1":       austria,
		"198.51.100.65":      {0, "EU", Point{50, 10}, 100}, // at sea
		"198.51.100.129":     germany,
		"198.51.100.193":     germany, // no number is no point
		"203.0.113.1":        {Continent: "EU"},
		"203.0.113.65":       {},
		"203.0.113.129":      {},
		"10.0.0.1":           {},
		"2001:db8::1":        germany,
		"2001:db8:8000::1":   {germany.Country, "EU", Point{52.5, 13.4}, 5},
		"2001:db9::1":        {},
		"2002:c000:0201::99": berlin, // aliases of the database
	} {
		if got := places.Place(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s is at %+v, want %+v", addr, got, want)
		}
	}
	if places.Built().Unix() != 1700000000 || places.Place(netip.Addr{}) != (Place{}) {
		t.Error("no address is somewhere, or the time is wrong")
	}
	if _, err := ParsePlaces(data[:len(data)-300]); !errors.Is(err, ErrMalformed) {
		t.Errorf("half a database: %v", err)
	}
	if got := testing.AllocsPerRun(100, func() { places.Place(netip.MustParseAddr("192.0.2.1")) }); got > 2 {
		t.Errorf("to look up a place makes %v allocations", got)
	}
}

func TestLocate(t *testing.T) {
	places, err := ParsePlaces(cities(t, "Test-City", map[string]mmdbtype.Map{"192.0.2.0/24": town("DE", 52.5, 13.4, 10)}))
	if err != nil {
		t.Fatal(err)
	}
	systems, err := ParseSystems(cities(t, "Test-ASN", map[string]mmdbtype.Map{
		"192.0.2.0/24":    {"autonomous_system_number": mmdbtype.Uint32(64500), "autonomous_system_organization": mmdbtype.String("Example")},
		"198.51.100.0/24": {"autonomous_system_number": mmdbtype.Uint32(64501)},
		"203.0.113.0/24":  {"autonomous_system_number": mmdbtype.String("AS1")},
	}))
	if err != nil {
		t.Fatal(err)
	}
	countries, err := ParseCountries(database(t, 24, map[string]string{"192.0.2.0/24": "FR", "203.0.113.0/24": "AT"}))
	if err != nil {
		t.Fatal(err)
	}
	netblocks, err := ParseNetblocks(strings.NewReader("198.51.100.0/24 64999\n"))
	if err != nil {
		t.Fatal(err)
	}
	l := &Locator{Places: places, Countries: countries, Netblocks: netblocks, Systems: systems}
	for addr, want := range map[string]struct {
		addr, country string
		asn           uint32
	}{
		"192.0.2.1":                {"192.0.2.1", "DE", 64500},      // the better database
		"198.51.100.1":             {"198.51.100.1", "", 64999},     // the table before the database
		"203.0.113.1":              {"203.0.113.1", "AT", 0},        // only the country is known
		"::ffff:192.0.2.1":         {"192.0.2.1", "DE", 64500},      // mapped
		"64:ff9b::192.0.2.1":       {"192.0.2.1", "DE", 64500},      // by NAT64
		"2002:c000:201::5":         {"192.0.2.1", "DE", 64500},      // by 6to4
		"2001:0:1:2:3:4:3fff:fdfe": {"192.0.2.1", "DE", 64500},      // by Teredo
		"2001:db8::1":              {"2001:db8::1", "", 0},          // nothing
		"64:ff9b:1::192.0.2.1":     {"64:ff9b:1::192.0.2.1", "", 0}, // somebody's own
		"fe80::1%eth0":             {"fe80::1", "", 0},
	} {
		got := l.Locate(netip.MustParseAddr(addr))
		if got.Addr != netip.MustParseAddr(want.addr) || got.Country.Code() != want.country || got.ASN != want.asn {
			t.Errorf("%s is %s in %q, AS%d; want %+v", addr, got.Addr, got.Country.Code(), got.ASN, want)
		}
	}
	for _, l := range []*Locator{nil, {}, {Places: &Places{}, Systems: &Systems{}}} {
		if got := l.Locate(netip.MustParseAddr("192.0.2.1")); got.Place != (Place{}) || got.ASN != 0 {
			t.Errorf("nobody knows: %+v", got)
		}
	}
	if systems.Built().Unix() != 1700000000 || !new(Systems).Built().IsZero() || !new(Places).Built().IsZero() {
		t.Error("the times are wrong")
	}
}

// Distances that are known from elsewhere, within one in a hundred.
func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b Point
		km   float64
	}{
		{Point{52.52, 13.405}, Point{48.137, 11.575}, 504},       // Berlin, Munich
		{Point{51.5074, -0.1278}, Point{40.7128, -74.006}, 5570}, // London, New York
		{Point{-36.85, 174.76}, Point{-33.87, 151.21}, 2156},     // Auckland, Sydney
		{Point{-17, 179.9}, Point{-17, -179.9}, 21.3},            // across the date line
		{Point{90, 0}, Point{90, 120}, 0},                        // the pole has no longitude
		{Point{0, 0}, Point{0, 180}, 20015},                      // half around
		{Point{10, 20}, Point{10, 20}, 0},
	} {
		got := c.a.Vector().Distance(c.b.Vector())
		if math.Abs(got-c.km) > c.km/100+1e-6 {
			t.Errorf("from %v to %v it is %.1f km, want %v", c.a, c.b, got, c.km)
		}
		if back := c.b.Vector().Distance(c.a.Vector()); back != got {
			t.Errorf("from %v to %v it is %v, and back %v", c.a, c.b, got, back)
		}
	}
}

// The table of countries holds together.
func TestWorld(t *testing.T) {
	for i := 1; i < len(world); i++ {
		c, l := Country(i), world[i]
		if CountryOf(l.code) != c || !isCode(l.code) || l.code <= world[i-1].code {
			t.Errorf("%q is not found, or not in its place", l.code)
		}
		if !strings.Contains("AF AN AS EU NA OC SA", l.continent) || len(l.continent) != 2 || l.area <= 0 || !onEarth(l.middle) || l.name == "" {
			t.Errorf("%s: %+v", l.code, l)
		}
		codes := strings.Fields(l.neighbours)
		for j, code := range codes {
			other := CountryOf(code)
			if other == 0 || other == c || j > 0 && code <= codes[j-1] {
				t.Errorf("%s has a neighbour %q", l.code, code)
			}
			if !borders(other, c) {
				t.Errorf("of %s and %s only one is a neighbour", l.code, code)
			}
			// Neighbours are not farther away than their sizes allow, and a way by sea.
			if d := c.Middle().Vector().Distance(other.Middle().Vector()) - 2*c.Radius() - 2*other.Radius(); d > 2600 { // in the Pacific
				t.Errorf("%s and %s are %.0f km apart", l.code, code, d)
			}
		}
	}
	if CountryOf("") != 0 || CountryOf("de") != 0 || CountryOf("ZZ") != 0 || Country(255).Code() == "" || Country(0).Radius() != 0 {
		t.Error("what is no country is one")
	}
	for _, pair := range []string{"DE AT", "JP KR", "GB FR", "US MX", "CL AR"} {
		a, b, _ := strings.Cut(pair, " ")
		if !borders(CountryOf(a), CountryOf(b)) {
			t.Errorf("%s are no neighbours", pair)
		}
	}
	for _, pair := range []string{"DE IT", "KP KR", "DE DE", "CL BR", "XX DE", "DE XX", "XX XX"} {
		a, b, _ := strings.Cut(pair, " ")
		if borders(CountryOf(a), CountryOf(b)) {
			t.Errorf("%s are neighbours", pair)
		}
	}
}

func borders(c, other Country) bool { return slices.Contains(slices.Collect(c.Neighbours()), other) }

func FuzzPlaces(f *testing.F) {
	f.Add(cities(f, "Test-City", map[string]mmdbtype.Map{"192.0.2.0/24": town("DE", 52.5, 13.4, 10), "2001:db8::/32": town("AT", 48, 16, 500)}), []byte{192, 0, 2, 1})
	f.Add(cities(f, "Test-ASN", map[string]mmdbtype.Map{"192.0.2.0/24": {"autonomous_system_number": mmdbtype.Uint32(64500)}}), []byte{192, 0, 2, 1})
	f.Fuzz(func(t *testing.T, data, ip []byte) {
		places, err := ParsePlaces(data)
		if err != nil {
			return
		}
		systems, err := ParseSystems(data)
		if err != nil {
			t.Fatal(err)
		}
		addr, _ := netip.AddrFromSlice(ip)
		for _, a := range []netip.Addr{addr, netip.IPv4Unspecified(), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")} {
			systems.ASN(a)
			at := places.Place(a)
			if !onEarth(at.Point) || !(at.Radius >= 0) || at.Continent != "" && !isCode(at.Continent) {
				t.Errorf("%s is at %+v", a, at)
			}
		}
	})
}

func BenchmarkLocate(b *testing.B) {
	places, err := ParsePlaces(cities(b, "Test-City", map[string]mmdbtype.Map{"192.0.2.0/24": town("DE", 52.5, 13.4, 10)}))
	if err != nil {
		b.Fatal(err)
	}
	systems, err := ParseSystems(cities(b, "Test-ASN", map[string]mmdbtype.Map{"192.0.2.0/24": {"autonomous_system_number": mmdbtype.Uint32(64500)}}))
	if err != nil {
		b.Fatal(err)
	}
	l, addr := &Locator{Places: places, Systems: systems}, netip.MustParseAddr("192.0.2.1")
	b.ReportAllocs()
	for b.Loop() {
		l.Locate(addr)
	}
}

func TestPlaceMakesNoGarbage(t *testing.T) {
	places, err := ParsePlaces(cities(t, "Test-City", map[string]mmdbtype.Map{"192.0.2.0/24": town("DE", 52.5, 13.4, 10)}))
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddr("192.0.2.1")
	if n := testing.AllocsPerRun(1000, func() { places.Place(addr) }); n >= 1 {
		t.Errorf("%v allocations", n)
	}
}
