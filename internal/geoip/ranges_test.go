package geoip

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"testing"

	"github.com/gaissmai/bart"
)

// Each address belongs to the longest netblock around it, which a tree of netblocks finds
// in another way.
func TestNetblocksLikeTree(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 0))
		var tree bart.Table[uint32]
		var text bytes.Buffer
		for range random.IntN(60) {
			prefix := randomBlock(random)
			number := uint32(random.IntN(4)) // neighbours are often alike
			_, _ = fmt.Fprintln(&text, prefix, number)
			tree.Insert(prefix.Masked(), number)
		}
		n, err := ParseNetblocks(&text)
		if err != nil {
			t.Fatal(err)
		}
		if v4, v6 := n.Len(); v4 != tree.Size4() || v6 != tree.Size6() {
			t.Fatalf("seed %d: %d and %d netblocks, want %d and %d", seed, v4, v6, tree.Size4(), tree.Size6())
		}
		check := func(addr netip.Addr) {
			got, ok := n.ASN(addr)
			if want, known := tree.Lookup(addr); got != want || ok != known {
				t.Fatalf("seed %d: %s belongs to %d (%t), want %d (%t)", seed, addr, got, ok, want, known)
			}
		}
		for prefix := range tree.All() {
			first := prefix.Addr()
			last := lastOf(prefix)
			for _, addr := range []netip.Addr{first, last, first.Prev(), last.Next()} {
				check(addr)
			}
		}
		for range 200 {
			check(randomBlock(random).Addr())
		}
	}
}

// randomBlock is a netblock that is often within, around or beside another one, and
// sometimes at an end of all addresses. Host bits may be set.
func randomBlock(random *rand.Rand) netip.Prefix {
	b := make([]byte, []int{4, 16}[random.IntN(2)])
	for i := range b {
		b[i] = []byte{0, 0xff, 0x80, byte(random.IntN(3))}[random.IntN(4)]
	}
	addr, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(addr, 1+random.IntN(addr.BitLen()))
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	addr, _ := netip.AddrFromSlice(b)
	return addr
}

// BenchmarkNetblocks has a table of the size of the Internet's, the routes of which are
// at random.
func BenchmarkNetblocks(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 2))
	var text []byte
	for n := range 1_200_000 {
		var prefix netip.Prefix
		if n < 1_000_000 {
			var a [4]byte
			for i := range a {
				a[i] = byte(random.IntN(224))
			}
			prefix = netip.PrefixFrom(netip.AddrFrom4(a), 12+random.IntN(13)).Masked()
		} else {
			a := [16]byte{0x20, 0x01}
			for i := 2; i < 6; i++ {
				a[i] = byte(random.IntN(256))
			}
			prefix = netip.PrefixFrom(netip.AddrFrom16(a), 28+random.IntN(21)).Masked()
		}
		text = append(strconv.AppendInt(append(prefix.AppendTo(text), ' '), int64(1000+random.IntN(70_000)), 10), '\n')
	}
	var table *Netblocks
	b.Run("parse", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		b.ReportAllocs()
		for b.Loop() {
			var err error
			if table, err = ParseNetblocks(bytes.NewReader(text)); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(8*len(table.v4.firsts)+20*len(table.v6.firsts))/1e6, "MB")
	})
	b.Run("find", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			v := random.Uint32()
			table.ASN(netip.AddrFrom4([4]byte{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24)}))
		}
	})
}
