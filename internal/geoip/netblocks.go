package geoip

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"strconv"
)

// maxLine is the limit of a line of a text file, in bytes.
const maxLine = 64 << 10

// Netblocks tells which autonomous system announces an address. The zero value
// knows none.
type Netblocks struct {
	v4      ranges[ipv4]
	v6      ranges[ipv6]
	n4, n6  int // netblocks
	skipped int
}

// system is the number of an autonomous system; unnamed, which is reserved and
// nobody's number (RFC 7300), is for netblocks whose line has no number.
type system uint32

const unnamed system = math.MaxUint32

// ParseNetblocks reads MirrorManager's table of the routes of the Internet
// ("global_netblocks.txt"): a netblock in CIDR notation and the number of the
// autonomous system that announces it on each line, separated by white space,
// IPv4 and IPv6 in any order. What follows on the line is passed over. Of lines
// for the same netblock the last one counts. Lines that do not begin with a
// netblock, have no second column, or are for all addresses (/0) are skipped.
//
// The table of the whole Internet, 1.2 million netblocks, takes 22 MB at most.
//
// A table without netblocks is not an error: [Netblocks.Len] tells.
func ParseNetblocks(r io.Reader) (*Netblocks, error) {
	var t table
	n := new(Netblocks)
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, maxLine), maxLine) // read in large steps
	read := 0
	for ; lines.Scan(); read++ {
		if !t.add(lines.Bytes(), uint32(read)) {
			n.skipped++
		}
	}
	if err := lines.Err(); err != nil {
		return nil, lineError("netblocks", read, err)
	}
	n.v4, n.n4 = newRanges(t.v4.whole())
	n.v6, n.n6 = newRanges(t.v6.whole())
	return n, nil
}

// table is what the lines of a file say.
type table struct {
	v4 pieces[block[ipv4]]
	v6 pieces[block[ipv6]]
}

// add takes a line, and returns false if it has no netblock.
func (t *table) add(line []byte, number uint32) bool {
	field, rest := cutField(line)
	as, _ := cutField(rest)
	if len(as) == 0 {
		return false
	}
	prefix, err := netip.ParsePrefix(string(field))
	if err != nil || prefix.Bits() == 0 {
		return false
	}
	s := unnamed
	if v, err := strconv.ParseUint(string(as), 10, 32); err == nil {
		s = system(v)
	}
	addr, bits := prefix.Masked().Addr(), uint8(prefix.Bits())
	if addr.Is4() {
		t.v4.add(block[ipv4]{first: ipv4Of(addr), system: s, line: number, bits: bits})
	} else {
		t.v6.add(block[ipv6]{first: ipv6Of(addr), system: s, line: number, bits: bits})
	}
	return true
}

// ASN is the number of the autonomous system of the longest netblock that
// contains addr; false if there is none, or if the table has no number for it.
// An IPv6 address that carries an IPv4 address is an IPv6 address here.
func (n *Netblocks) ASN(addr netip.Addr) (uint32, bool) {
	if n == nil || !addr.IsValid() {
		return 0, false
	}
	var s system
	if addr.Is4() {
		s = n.v4.find(ipv4Of(addr))
	} else {
		s = n.v6.find(ipv6Of(addr))
	}
	if s == unnamed {
		return 0, false
	}
	return uint32(s), true
}

// Len is how many netblocks of IPv4 and IPv6 there are.
func (n *Netblocks) Len() (v4, v6 int) {
	if n == nil {
		return 0, 0
	}
	return n.n4, n.n6
}

// Skipped is how many lines of the file had no netblock.
func (n *Netblocks) Skipped() int {
	if n == nil {
		return 0
	}
	return n.skipped
}

// cutField cuts the first column off a line.
func cutField(line []byte) (field, rest []byte) {
	line = bytes.TrimLeft(line, " \t\r")
	if i := bytes.IndexAny(line, " \t\r"); i >= 0 {
		return line[:i], line[i:]
	}
	return line, nil
}

// lineError says of an error of a scanner where it was met, after so many lines.
func lineError(what string, lines int, err error) error {
	if errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("%w: %s: line %d has more than %d bytes", ErrMalformed, what, lines+1, maxLine)
	}
	return fmt.Errorf("%s: after line %d: %w", what, lines, err)
}
