package geoip

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
)

func TestNetblocks(t *testing.T) {
	n, err := ParseNetblocks(strings.NewReader(`192.0.2.0/24 64500
192.0.2.0/25	64501 and what follows
  192.0.2.77/32 64502
2001:db8::/32 4294967294

192.0.2.0
0.0.0.0/0 64510
::/0 64510
hello 5
198.51.100.0/24 1
198.51.100.7/24 2
198.51.100.128/25 none
` + "203.0.113.0/24 64503\r\n203.0.113.128/25 4294967295"))
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]uint32{
		"192.0.2.200": 64500, "192.0.2.1": 64501, "192.0.2.77": 64502, "2001:db8::1": 4294967294,
		"198.51.100.1":   2, // the later line, whose host bits say nothing
		"198.51.100.200": 0, // the longest netblock has no number
		"203.0.113.1":    64503, "203.0.113.200": 0,
		"10.0.0.1": 0, "::ffff:192.0.2.1": 0, "2001:db9::1": 0,
	} {
		got, ok := n.ASN(netip.MustParseAddr(addr))
		if got != want || ok != (want != 0) {
			t.Errorf("%s belongs to %d (%t), want %d", addr, got, ok, want)
		}
	}
	if v4, v6 := n.Len(); v4 != 7 || v6 != 1 || n.Skipped() != 5 {
		t.Errorf("%d netblocks of IPv4, %d of IPv6, %d lines skipped", v4, v6, n.Skipped())
	}
	if _, ok := n.ASN(netip.Addr{}); ok {
		t.Error("no address belongs to a system")
	}
}

func TestContinents(t *testing.T) {
	c, err := ParseContinents(strings.NewReader("iso 3166 country,continent code\nDE,EU\nde,EU\nAT, EU\r\nCH,EU,more\nIL,AS\nA1,--\nFR\n\nUS,\nAUT,EU\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Countries("EU"); strings.Join(got, " ") != "AT CH DE" || c.Len() != 5 {
		t.Errorf("Europe has %q, of %d countries", got, c.Len())
	}
	moved := c.Redirect(func(yield func(string, string) bool) { _ = yield("IL", "EU") && yield("XX", "EU") })
	if got := moved.Countries("EU"); strings.Join(got, " ") != "AT CH DE IL" || moved.Of("IL") != "EU" || moved.Of("XX") != "" || moved.Len() != 5 {
		t.Errorf("with moves Europe has %q", got)
	}
	if c.Of("IL") != "AS" || c.Of("A1") != "--" || c.Of("US") != "" {
		t.Error("the first table has changed, or its continents are wrong")
	}
}

// A file that cannot be read to its end is no table.
func TestTablesRefuse(t *testing.T) {
	long := "DE,EU\n10.0.0.0/8 1\n" + strings.Repeat("x", maxLine+1)
	broken := errors.New("disk on fire")
	for name, parse := range map[string]func(io.Reader) error{
		"netblocks":  func(r io.Reader) error { _, err := ParseNetblocks(r); return err },
		"continents": func(r io.Reader) error { _, err := ParseContinents(r); return err },
	} {
		if err := parse(strings.NewReader(long)); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "line 3") {
			t.Errorf("%s with a long line: %v", name, err)
		}
		if err := parse(io.MultiReader(strings.NewReader("DE,EU\n"), iotest.ErrReader(broken))); !errors.Is(err, broken) || errors.Is(err, ErrMalformed) {
			t.Errorf("%s whose reader fails: %v", name, err)
		}
	}
	if _, err := ParseContinents(strings.NewReader("country,continent\n")); !errors.Is(err, ErrMalformed) {
		t.Errorf("continents without countries: %v", err)
	}
}

func FuzzTables(f *testing.F) {
	f.Add([]byte("10.0.0.0/8 1\n2001:db8::/32 2\n::ffff:10.0.0.0/104 3\n"), []byte{10, 0, 0, 1})
	f.Add([]byte("DE,EU\nAT,EU\n"), []byte{})
	f.Fuzz(func(t *testing.T, data, ip []byte) {
		if n, err := ParseNetblocks(bytes.NewReader(data)); err == nil {
			addr, _ := netip.AddrFromSlice(ip)
			n.ASN(addr)
			if v4, v6 := n.Len(); v4+v6+n.Skipped() > bytes.Count(data, []byte("\n"))+1 {
				t.Errorf("%d+%d netblocks and %d skipped of fewer lines", v4, v6, n.Skipped())
			}
		}
		if c, err := ParseContinents(bytes.NewReader(data)); err == nil {
			total := 0
			for _, continent := range c.of {
				if len(c.Countries(continent)) == 0 {
					t.Errorf("continent %q has no country", continent)
				}
			}
			for _, members := range c.members {
				total += len(members)
			}
			if total != c.Len() || total == 0 {
				t.Errorf("%d countries on continents, %d in the table", total, c.Len())
			}
		}
	})
}
