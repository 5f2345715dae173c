package networks

import (
	"net/netip"
	"testing"
)

func TestSet(t *testing.T) {
	set, err := ParseAll([]string{"10.1.2.3/16", "192.0.2.7", "2001:db8::/32", "fe80::1", "::ffff:198.51.100.1"})
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]bool{
		"10.1.255.255": true, "10.2.0.0": false, "::ffff:10.1.0.1": true,
		"192.0.2.7": true, "192.0.2.8": false,
		"2001:db8:1::1": true, "2001:db9::1": false,
		"fe80::1%eth0": true, "198.51.100.1": true,
	} {
		if set.Has(netip.MustParseAddr(addr)) != want {
			t.Errorf("%s: want %v", addr, want)
		}
	}
	if set.Has(netip.Addr{}) || Set(nil).Has(netip.MustParseAddr("10.1.0.1")) {
		t.Error("no address, or no network, was found in the other")
	}
}

func TestParseAllRefuses(t *testing.T) {
	for _, s := range []string{"", "10.1.0.0/33", "10.1", "example.org", "10.0.0.1-10.0.0.9"} {
		if set, err := ParseAll([]string{"192.0.2.0/24", s}); err == nil || set != nil {
			t.Errorf("%q: %v, %v", s, set, err)
		}
	}
}
