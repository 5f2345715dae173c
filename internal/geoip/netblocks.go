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

	"github.com/gaissmai/bart"
)

// maxLine is the limit of a line of a text file, in bytes.
const maxLine = 64 << 10

// Netblocks tells which autonomous system announces an address. The zero value
// knows none.
type Netblocks struct {
	table   bart.Table[system]
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
// The table of the whole Internet, 1.2 million netblocks, takes 40 MB.
//
// A table without netblocks is not an error: [Netblocks.Len] tells.
func ParseNetblocks(r io.Reader) (*Netblocks, error) {
	n := new(Netblocks)
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, maxLine), maxLine) // read in large steps
	read := 0
	for ; lines.Scan(); read++ {
		if !n.add(lines.Bytes()) {
			n.skipped++
		}
	}
	if err := lines.Err(); err != nil {
		return nil, lineError("netblocks", read, err)
	}
	return n, nil
}

// add takes a line, and returns false if it has no netblock.
func (n *Netblocks) add(line []byte) bool {
	block, rest := cutField(line)
	number, _ := cutField(rest)
	if len(number) == 0 {
		return false
	}
	prefix, err := netip.ParsePrefix(string(block))
	if err != nil || prefix.Bits() == 0 {
		return false
	}
	as := unnamed
	if v, err := strconv.ParseUint(string(number), 10, 32); err == nil {
		as = system(v)
	}
	n.table.Insert(prefix.Masked(), as)
	return true
}

// ASN is the number of the autonomous system of the longest netblock that
// contains addr; false if there is none, or if the table has no number for it.
// An IPv6 address that carries an IPv4 address is an IPv6 address here.
func (n *Netblocks) ASN(addr netip.Addr) (uint32, bool) {
	if n == nil {
		return 0, false
	}
	as, ok := n.table.Lookup(addr)
	if !ok || as == unnamed {
		return 0, false
	}
	return uint32(as), true
}

// Len is how many netblocks of IPv4 and IPv6 there are.
func (n *Netblocks) Len() (v4, v6 int) {
	if n == nil {
		return 0, 0
	}
	return n.table.Size4(), n.table.Size6()
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
