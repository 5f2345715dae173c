package choice_test

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"freshet/api/directorapi"
	"freshet/internal/director/choice"
	"freshet/internal/geoip"
)

var codes = []string{"", "AT", "DE", "CH", "FI", "US", "CA", "BR", "JP", "KP", "??"}

func drawPlace(t *rapid.T) geoip.Place {
	p := geoip.PlaceIn(geoip.CountryOf(rapid.SampledFrom(codes).Draw(t, "country")))
	if rapid.Bool().Draw(t, "located") {
		p.Point = geoip.Point{Latitude: rapid.Float64Range(-90, 90).Draw(t, "latitude"), Longitude: rapid.Float64Range(-180, 180).Draw(t, "longitude")}
		p.Radius = rapid.Float64Range(1, 5000).Draw(t, "radius")
	}
	return p
}

var blocks = []string{"0.0.0.0/0", "198.51.0.0/16", "198.51.100.0/24", "198.51.100.7/32", "2001:db8::/32", "203.0.113.0/24"}

func drawBlocks(t *rapid.T, label string) (all []netip.Prefix) {
	return prefixes(rapid.SliceOfN(rapid.SampledFrom(blocks), 0, 2).Draw(t, label)...)
}

func drawMirrors(t *rapid.T) (all []choice.Mirror) {
	rarely := func(label string) bool { return rapid.IntRange(0, 9).Draw(t, label) == 9 }
	for i := range rapid.IntRange(0, 12).Draw(t, "mirrors") {
		m := mirror(fmt.Sprint("m", i), "")
		m.Place = drawPlace(t)
		m.ASN = rapid.Uint32Range(0, 3).Draw(t, "asn")
		m.Capacity = rapid.SampledFrom([]int{0, 1, 100, 1000, 100000, -5}).Draw(t, "capacity")
		m.Shed = rapid.SampledFrom([]float64{0, 0, 0.3, 0.95, 1, 2}).Draw(t, "shed")
		m.Disabled = rarely("disabled")
		m.Rules = directorapi.Rules{
			Global: rarely("global"), RegionShare: rapid.SampledFrom([]float64{0, 0.1, 0.5, 1}).Draw(t, "limit"),
			CountryOnly: rarely("country only"), ASNOnly: rarely("asn only"), NetblocksOnly: rarely("netblocks only"), Exclusive: rarely("exclusive"),
			Netblocks: drawBlocks(t, "netblocks"), NotNetblocks: drawBlocks(t, "not netblocks"),
			Countries:   rapid.SliceOfN(rapid.SampledFrom(codes), 0, 2).Draw(t, "countries"),
			MaxFileSize: rapid.SampledFrom([]int64{0, 0, 100}).Draw(t, "max"),
		}
		for w := range m.Ways {
			if rarely("fault") {
				m.Ways[w].Fault = "broken"
			}
		}
		all = append(all, m)
	}
	return all
}

func drawRequest(t *rapid.T) choice.Request {
	client := geoip.Location{Place: drawPlace(t), ASN: rapid.Uint32Range(0, 3).Draw(t, "client asn")}
	client.Addr = rapid.SampledFrom([]netip.Addr{{}, netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8::7"), netip.MustParseAddr("192.0.2.1")}).Draw(t, "address")
	return choice.Request{
		Client: client, IPv6: rapid.Bool().Draw(t, "IPv6"), Scheme: choice.Scheme(rapid.IntRange(0, 2).Draw(t, "scheme")),
		Size: rapid.Int64Range(-1, 200).Draw(t, "size"), Path: "/p/f", Seed: rapid.Uint64().Draw(t, "seed"), Most: rapid.IntRange(0, 15).Draw(t, "most"),
	}
}

// Whatever mirrors and client are like, the choice is whole, ordered, explained, and the
// same again in another order of the mirrors.
func TestChoiceHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mirrors, r := drawMirrors(t), drawRequest(t)
		c := choice.New(mirrors)
		given := c.Choose(nil, &r)
		all := r
		all.Most, all.Explain = 0, true
		explained := c.Choose(nil, &all)

		seen, sum := make([]bool, len(mirrors)), 0.0
		chosen := 0
		for i := range explained {
			p := &explained[i]
			if seen[p.Mirror] {
				t.Fatalf("mirror %d is there twice", p.Mirror)
			}
			seen[p.Mirror] = true
			if c.Why(p, &all) == "" {
				t.Fatalf("%+v says nothing", p)
			}
			if p.Out == choice.None {
				if chosen != i {
					t.Fatal("one that is left out is before one that is not")
				}
				chosen++
				sum += p.Chance
				checkGiven(t, c, p, &r)
			} else if p.Chance != 0 {
				t.Fatalf("%s is left out, and has a chance", mirrors[p.Mirror].Name)
			}
			if math.IsNaN(p.Weight) || math.IsNaN(p.Chance) || p.Weight < 0 {
				t.Fatalf("%+v is no number", p)
			}
		}
		if slices.Contains(seen, false) {
			t.Fatal("one is missing")
		}
		if sum != 0 && math.Abs(sum-1) > 1e-6 {
			t.Fatalf("the chances add up to %v", sum)
		}
		want := chosen
		if r.Most > 0 {
			want = min(want, r.Most)
		}
		if !slices.Equal(names(c, given), names(c, explained[:want])) {
			t.Fatalf("%q is given, and %q explained", names(c, given), names(c, explained))
		}
		shuffled := rapid.Permutation(mirrors).Draw(t, "order")
		if again := choice.New(shuffled); !slices.Equal(names(again, again.Choose(nil, &r)), names(c, given)) && sum != 0 {
			t.Fatalf("in another order of the mirrors another choice is made: %q, %q", names(again, again.Choose(nil, &r)), names(c, given))
		}
	})
}

// checkGiven checks what must hold of each mirror that anybody is sent to.
func checkGiven(t *rapid.T, c *choice.Chooser, p *choice.Pick, r *choice.Request) {
	m := c.Mirror(p.Mirror)
	switch state := m.Ways[p.Way]; {
	case state.URL == "" || state.Fault != "":
		t.Fatalf("a way is given that does not work: %+v", state)
	case p.Way.IPv6() != r.IPv6:
		t.Fatal("the family is not the client's")
	case r.Scheme == choice.OnlyHTTPS && !p.Way.HTTPS():
		t.Fatal("https is given up")
	case r.Scheme == choice.OnlyHTTP && p.Way.HTTPS():
		t.Fatal("https is given to one who cannot")
	case m.Disabled, m.Rules.ASNOnly && m.ASN != r.Client.ASN, m.Rules.NetblocksOnly && p.Tier > choice.TierNetwork:
		t.Fatalf("%s is not for this client", m.Name)
	case m.Rules.MaxFileSize > 0 && r.Size > m.Rules.MaxFileSize:
		t.Fatal("the file is too large")
	}
}

// Who is not first can go, and nobody moves.
func TestOthersStay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mirrors, r := drawMirrors(t), drawRequest(t)
		for i := range mirrors {
			mirrors[i].Shed, mirrors[i].Rules.Global, mirrors[i].Rules.Exclusive, mirrors[i].Rules.Netblocks = 0, false, false, nil
			down("")(&mirrors[i])
		}
		r.Most = 0
		c := choice.New(mirrors)
		order := names(c, c.Choose(nil, &r))
		if len(order) < 2 {
			t.Skip("too few")
		}
		gone := rapid.IntRange(0, len(order)-1).Draw(t, "gone")
		mirrors = slices.DeleteFunc(mirrors, func(m choice.Mirror) bool { return m.Name == order[gone] })
		c = choice.New(mirrors)
		if got, want := names(c, c.Choose(nil, &r)), slices.Delete(order, gone, gone+1); !slices.Equal(got, want) {
			t.Fatalf("the order is %q, want %q", got, want)
		}
	})
}

// A client keeps its seed for a while, then has another one; its neighbour has another.
func TestSeed(t *testing.T) {
	addr, now := netip.MustParseAddr("198.51.100.7"), time.Date(2026, 11, 21, 20, 0, 0, 0, time.UTC)
	changes := 0
	before := choice.Seed(addr, 1, now)
	for second := range 3600 {
		seed := choice.Seed(addr, 1, now.Add(time.Duration(second)*time.Second))
		if seed != before {
			changes++
		}
		before = seed
	}
	if changes != 6 {
		t.Errorf("in an hour the seed changes %d times", changes)
	}
	same := func(a, b string) bool {
		return choice.Seed(netip.MustParseAddr(a), 1, now) == choice.Seed(netip.MustParseAddr(b), 1, now)
	}
	if same("198.51.100.7", "198.51.100.8") || !same("198.51.100.7", "::ffff:198.51.100.7") || !same("2001:db8::1", "2001:db8::ffff:2") || same("2001:db8::1", "2001:db8:0:1::1") {
		t.Error("who is the same client is wrong")
	}
	if choice.Seed(addr, 1, now) == choice.Seed(addr, 2, now) {
		t.Error("the salt changes nothing")
	}
	choice.Seed(netip.Addr{}, 1, now) // is somebody, too
}
