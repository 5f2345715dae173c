package choice_test

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"testing"

	"freshet/api/directorapi"
	"freshet/internal/director/choice"
	"freshet/internal/geoip"
)

// mirror is one in a country that works in every way.
func mirror(name, country string, change ...func(*choice.Mirror)) choice.Mirror {
	m := choice.Mirror{Name: name, Place: geoip.PlaceIn(geoip.CountryOf(country))}
	for w := range m.Ways {
		m.Ways[w].URL = map[bool]string{false: "http://", true: "https://"}[choice.Way(w).HTTPS()] + name + ".example/"
	}
	for _, f := range change {
		f(&m)
	}
	return m
}

func capacity(mbit int) func(*choice.Mirror) {
	return func(m *choice.Mirror) { m.Capacity = mbit }
}

func shed(part float64) func(*choice.Mirror) {
	return func(m *choice.Mirror) { m.Shed = part }
}

// at puts a mirror where it is known to within a kilometre.
func at(lat, lon float64) func(*choice.Mirror) {
	return func(m *choice.Mirror) { m.Place.Point, m.Place.Radius = geoip.Point{Latitude: lat, Longitude: lon}, 1 }
}

func rules(r directorapi.Rules) func(*choice.Mirror) {
	return func(m *choice.Mirror) { m.Rules = r }
}

func asn(number uint32) func(*choice.Mirror) {
	return func(m *choice.Mirror) { m.ASN = number }
}

func down(fault string) func(*choice.Mirror) {
	return func(m *choice.Mirror) {
		for w := range m.Ways {
			m.Ways[w].Fault = fault
		}
	}
}

// from is a client in a country, at an address that has nothing to say.
func from(country string) geoip.Location {
	return geoip.Location{Place: geoip.PlaceIn(geoip.CountryOf(country)), Addr: netip.MustParseAddr("192.0.2.1")}
}

// in is a client in a town.
func in(country string, lat, lon float64) geoip.Location {
	l := from(country)
	l.Point, l.Radius = geoip.Point{Latitude: lat, Longitude: lon}, 20
	return l
}

func prefixes(blocks ...string) (all []netip.Prefix) {
	for _, b := range blocks {
		all = append(all, netip.MustParsePrefix(b))
	}
	return all
}

// names are those of picks, in their order, and of those left out with the reason.
func names(c *choice.Chooser, picks []choice.Pick) (all []string) {
	for _, p := range picks {
		name := c.Mirror(p.Mirror).Name
		if p.Out != choice.None {
			name += ":" + p.Out.String()
		}
		all = append(all, name)
	}
	return all
}

// firsts counts which mirror is the first one, over n seeds.
func firsts(c *choice.Chooser, r choice.Request, n int) map[string]int {
	count := make(map[string]int)
	var picks []choice.Pick
	r.Most = 1
	for seed := range n {
		r.Seed = uint64(seed)
		picks = c.Choose(picks, &r)
		if len(picks) > 0 {
			count[c.Mirror(picks[0].Mirror).Name]++
		}
	}
	return count
}

// chances are those that the picks tell, by name. They must be a distribution.
func chances(t *testing.T, c *choice.Chooser, r choice.Request) map[string]float64 {
	t.Helper()
	of, sum := make(map[string]float64), 0.0
	for _, p := range c.Choose(nil, &r) {
		of[c.Mirror(p.Mirror).Name] = p.Chance
		sum += p.Chance
	}
	if math.Abs(sum-1) > 1e-9 {
		t.Errorf("the chances %v add up to %v", of, sum)
	}
	return of
}

// What is nearer comes first, whatever its capacity.
func TestTiers(t *testing.T) {
	client := from("AT")
	client.ASN = 64500
	client.Addr = netip.MustParseAddr("198.51.100.7")
	c := choice.New([]choice.Mirror{
		mirror("world", "US", capacity(100000)),
		mirror("continent", "SE", capacity(50000)),
		mirror("neighbour", "DE", capacity(20000)),
		mirror("country", "AT", capacity(10000)),
		mirror("network", "DE", asn(64500), capacity(5000)),
		mirror("wide", "SE", rules(directorapi.Rules{Netblocks: prefixes("198.51.0.0/16")}), capacity(5000)),
		mirror("netblock", "US", rules(directorapi.Rules{Netblocks: prefixes("198.51.100.0/24", "198.51.0.0/16")}), capacity(10)),
	})
	for seed := range uint64(50) {
		picks := c.Choose(nil, &choice.Request{Client: client, Seed: seed})
		got := names(c, picks)
		slices.Sort(got[1:3]) // of one tier
		want := []string{"netblock", "network", "wide", "country", "neighbour", "continent", "world"}
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d: %q, want %q", seed, got, want)
		}
		tiers := []choice.Tier{
			choice.TierNetblock, choice.TierNetwork, choice.TierNetwork, choice.TierCountry,
			choice.TierNeighbour, choice.TierContinent, choice.TierWorld,
		}
		for i, p := range picks {
			if p.Tier != tiers[i] {
				t.Errorf("%s is in tier %s, want %s", got[i], p.Tier, tiers[i])
			}
		}
		if picks[0].Chance != 1 || picks[1].Chance != 0 {
			t.Errorf("the chance of the first is %v", picks[0].Chance)
		}
	}
}

// How near a mirror counts, for mirrors that rules bring near.
func TestTierByRules(t *testing.T) {
	for name, c := range map[string]struct {
		client geoip.Location
		mirror choice.Mirror
		want   choice.Tier
	}{
		"as if it were there":        {from("CL"), mirror("m", "US", rules(directorapi.Rules{Countries: []string{"PE", "CL"}})), choice.TierCountry},
		"its own all the same":       {from("US"), mirror("m", "US", rules(directorapi.Rules{Countries: []string{"CL"}})), choice.TierCountry},
		"global":                     {from("CL"), mirror("m", "US", rules(directorapi.Rules{Global: true})), choice.TierCountry},
		"global for unknown":         {geoip.Location{}, mirror("m", "US", rules(directorapi.Rules{Global: true})), choice.TierCountry},
		"across the sea":             {from("JP"), mirror("m", "KR"), choice.TierNeighbour},
		"not across a closed border": {from("KP"), mirror("m", "KR"), choice.TierContinent},
		"nobody knows the client":    {geoip.Location{}, mirror("m", "US"), choice.TierWorld},
		"nobody knows the mirror":    {from("US"), mirror("m", ""), choice.TierWorld},
		"both unknown":               {geoip.Location{}, mirror("m", ""), choice.TierWorld},
		"only the continent":         {geoip.Location{Place: geoip.Place{Continent: "EU"}}, mirror("m", "PL"), choice.TierContinent},
		"no number is no system":     {from("CL"), mirror("m", "US", asn(0)), choice.TierWorld},
	} {
		picks := choice.New([]choice.Mirror{c.mirror}).Choose(nil, &choice.Request{Client: c.client})
		if len(picks) != 1 || picks[0].Tier != c.want || picks[0].Chance != 1 {
			t.Errorf("%s: %+v, want tier %s", name, picks, c.want)
		}
	}
}

// Within a tier the distance counts, but no better than the places are known.
func TestDistance(t *testing.T) {
	c := choice.New([]choice.Mirror{
		mirror("new-york", "US", at(40.7, -74.0)), mirror("boston", "US", at(42.4, -71.1)),
		mirror("denver", "US", at(39.7, -105.0)), mirror("san-francisco", "US", at(37.8, -122.4)),
	})
	// A client in Philadelphia: 130 km, 440 km, 2,540 km, 4,050 km.
	near := chances(t, c, choice.Request{Client: in("US", 39.95, -75.16)})
	if near["new-york"] < 0.7 || near["boston"] < 0.2 || near["denver"] > 0.02 || near["san-francisco"] > near["denver"] {
		t.Errorf("from Philadelphia: %v", near)
	}
	// Of somebody somewhere in the country, the middle of which is near Denver.
	for name, chance := range chances(t, c, choice.Request{Client: from("US")}) {
		if chance < 0.15 || chance > 0.35 {
			t.Errorf("from somewhere in the country: %s has a chance of %v", name, chance)
		}
	}
	// The date line is no border.
	for _, p := range choice.New([]choice.Mirror{mirror("m", "FJ", at(-17, 179.9))}).Choose(nil, &choice.Request{Client: in("FJ", -17, -179.9)}) {
		if p.Distance < 20 || p.Distance > 23 {
			t.Errorf("across the date line it is %v km", p.Distance)
		}
	}
}

// A point that is that of the country wins nothing against the network.
func TestCentroid(t *testing.T) {
	client := from("US")
	client.Addr, client.ASN = netip.MustParseAddr("2001:db8::1"), 64500
	c := choice.New([]choice.Mirror{
		mirror("at-the-centroid", "US", at(client.Point.Latitude, client.Point.Longitude), capacity(100000)),
		mirror("in-the-network", "DE", asn(64500), capacity(100)),
	})
	if got := firsts(c, choice.Request{Client: client, IPv6: true}, 200); got["in-the-network"] != 200 {
		t.Errorf("first are %v", got)
	}
}

// Choosing again and again makes no garbage.
func TestNoGarbage(t *testing.T) {
	c, r := sixty(), request()
	picks := c.Choose(nil, &r)
	if allocs := testing.AllocsPerRun(100, func() {
		r.Seed++
		picks = c.Choose(picks, &r)
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func request() choice.Request {
	return choice.Request{Client: in("DE", 48.1, 11.6), Scheme: choice.OnlyHTTPS, Path: "/fedora/linux/releases/44/Everything/x86_64/os/Packages/b/bash-5.3.rpm", Size: 1 << 20}
}

// sixty are mirrors as a distribution has them.
func sixty() *choice.Chooser {
	codes := []string{"DE", "DE", "DE", "DE", "AT", "CH", "FR", "NL", "PL", "CZ", "SE", "GB", "US", "US", "US", "CA", "BR", "AU", "JP", "CN"}
	var all []choice.Mirror
	for i := range 60 {
		code := codes[i%len(codes)]
		p := geoip.PlaceIn(geoip.CountryOf(code)).Point
		m := mirror("mirror"+string(rune('a'+i%26))+string(rune('a'+i/26)), code, at(p.Latitude+float64(i%7), p.Longitude-float64(i%5)), capacity(1000*(i%10+1)), asn(uint32(64500+i)))
		if i%8 == 0 {
			m.Rules.Netblocks = prefixes("203.0.113.0/24", "2001:db8:8000::/33")
		}
		if i%9 == 0 {
			m.Rules.NotPaths = []string{"/fedora/*/debug/*", "/archive/*"}
		}
		all = append(all, m)
	}
	all[12].Rules.Global, all[12].Rules.RegionShare = true, 0.3
	return choice.New(all)
}

func BenchmarkChoose(b *testing.B) {
	for _, most := range []int{1, 6, 0} {
		b.Run(fmt.Sprintf("most=%d", most), func(b *testing.B) {
			c, r := sixty(), request()
			r.Most = most
			var picks []choice.Pick
			b.ReportAllocs()
			for b.Loop() {
				r.Seed++
				picks = c.Choose(picks, &r)
			}
			b.ReportMetric(float64(len(picks)), "picks")
		})
	}
}
