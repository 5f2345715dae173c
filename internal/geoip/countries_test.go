package geoip

import (
	"bytes"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

// database is a file in the MaxMind DB format with the countries of netblocks.
func database(tb testing.TB, size int, countries map[string]string) []byte {
	tb.Helper()
	tree, err := mmdbwriter.New(mmdbwriter.Options{
		DatabaseType: "Test-Country", RecordSize: size, BuildEpoch: 1700000000, IncludeReservedNetworks: true,
	})
	if err != nil {
		tb.Fatal(err)
	}
	for _, block := range slices.Sorted(maps.Keys(countries)) { // the wider one of two first
		code := countries[block]
		_, network, err := net.ParseCIDR(block)
		if err != nil {
			tb.Fatal(err)
		}
		if err := tree.Insert(network, mmdbtype.Map{
			"continent": mmdbtype.Map{"code": mmdbtype.String("EU")},
			"country":   mmdbtype.Map{"geoname_id": mmdbtype.Uint32(1), "iso_code": mmdbtype.String(code)},
		}); err != nil {
			tb.Fatal(err)
		}
	}
	var out bytes.Buffer
	if _, err := tree.WriteTo(&out); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

func TestCountry(t *testing.T) {
	for _, size := range []int{24, 28, 32} {
		countries, err := ParseCountries(database(t, size, map[string]string{
			"192.0.2.0/24": "DE", "192.0.2.128/25": "AT", "2001:db8::/32": "CH", "198.51.100.0/24": "xx", "203.0.113.0/24": "LONG",
		}))
		if err != nil {
			t.Fatal(err)
		}
		for addr, want := range map[string]string{
			"192.0.2.1": "DE", "192.0.2.200": "AT", "2001:db8::1": "CH",
			"::ffff:192.0.2.1": "DE", "2002:c000:0201::1": "DE",
			"198.51.100.1": "", "203.0.113.1": "", "127.0.0.1": "", "2001:db9::1": "", "::": "",
		} {
			if got := countries.Country(netip.MustParseAddr(addr)); got != want {
				t.Errorf("record size %d: %s is in %q, want %q", size, addr, got, want)
			}
		}
		if got := countries.Country(netip.Addr{}); got != "" {
			t.Errorf("no address is in %q", got)
		}
		if got := countries.Built(); !got.Equal(time.Unix(1700000000, 0)) || countries.Type() != "Test-Country" {
			t.Errorf("built %v, type %q", got, countries.Type())
		}
	}
}

func TestCountriesRefuses(t *testing.T) {
	whole := database(t, 24, map[string]string{"192.0.2.0/24": "DE"})
	for name, data := range map[string][]byte{
		"empty": nil, "text": []byte("192.0.2.0/24 DE\n"), "cut off": whole[:len(whole)-40], "without its tree": whole[len(whole)-200:],
	} {
		if _, err := ParseCountries(data); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The zero values and nil know nothing, and say so.
func TestNothingKnown(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.1")
	for _, c := range []*Countries{nil, {}} {
		if got := c.Country(addr); got != "" || c.Type() != "" || !c.Built().IsZero() {
			t.Errorf("country %q", got)
		}
	}
	for _, n := range []*Netblocks{nil, {}} {
		v4, v6 := n.Len()
		if _, ok := n.ASN(addr); ok || v4+v6+n.Skipped() != 0 {
			t.Error("an autonomous system is known")
		}
	}
	for _, c := range []*Continents{nil, {}} {
		c = c.Redirect(maps.All(map[string]string{"DE": "EU"}))
		if c.Of("DE") != "" || c.Countries("EU") != nil || c.Len() != 0 {
			t.Error("a continent is known")
		}
	}
}

func FuzzCountries(f *testing.F) {
	for _, size := range []int{24, 28, 32} {
		f.Add(database(f, size, map[string]string{"192.0.2.0/24": "DE", "2001:db8::/32": "CH"}), []byte{192, 0, 2, 1})
	}
	f.Fuzz(func(t *testing.T, data, ip []byte) {
		countries, err := ParseCountries(data)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		addr, _ := netip.AddrFromSlice(ip)
		for _, a := range []netip.Addr{addr, netip.IPv4Unspecified(), netip.IPv6Unspecified(), netip.MustParseAddr("2001:db8::1")} {
			if code := countries.Country(a); code != "" && !isCode(code) {
				t.Errorf("%s is in %q", a, code)
			}
		}
		countries.Built()
	})
}

func BenchmarkCountry(b *testing.B) {
	countries, err := ParseCountries(database(b, 28, map[string]string{"192.0.2.0/24": "DE", "2001:db8::/32": "CH"}))
	if err != nil {
		b.Fatal(err)
	}
	addr := netip.MustParseAddr("192.0.2.1")
	b.ReportAllocs()
	for b.Loop() {
		countries.Country(addr)
	}
}
