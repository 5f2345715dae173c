package mirror

import (
	"fmt"
	"strconv"
	"strings"

	"freshet/internal/config"
)

// DSCP is the mark of packets by which routers tell how important they are (RFC 2474),
// from 0 to 63; 0 is none.
type DSCP uint8

// dscpNames are the names of RFC 2474, 2597, 3246, 5865 and 8622.
func dscpNames() map[string]DSCP {
	names := map[string]DSCP{"LE": 1, "EF": 46, "VA": 44, "DF": 0}
	for class := range DSCP(8) {
		names[fmt.Sprintf("CS%d", class)] = class << 3
		for drop := DSCP(1); 1 <= class && class <= 4 && drop <= 3; drop++ {
			names[fmt.Sprintf("AF%d%d", class, drop)] = class<<3 | drop<<1
		}
	}
	return names
}

// String is the number.
func (d DSCP) String() string { return strconv.Itoa(int(d)) }

// MarshalText is [DSCP.String] for [encoding.TextMarshaler].
func (d DSCP) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a number or a name, for [encoding.TextUnmarshaler].
func (d *DSCP) UnmarshalText(text []byte) error {
	if named, ok := dscpNames()[strings.ToUpper(string(text))]; ok {
		*d = named
		return nil
	}
	n, err := strconv.ParseUint(string(text), 10, 8)
	if err != nil || n > 63 {
		return fmt.Errorf(`want a number from "0" to "63", or a name like "CS1", "AF11" or "LE", got %q`, text)
	}
	*d = DSCP(n)
	return nil
}

// Reserve is a part of a disk: so many percent, or so many bytes. The zero value is none.
type Reserve struct {
	percent int
	bytes   config.Size
}

func defaultReserve() Reserve { return Reserve{percent: 8} }

// Of is how many bytes of a disk of this size it is.
func (r Reserve) Of(disk int64) int64 {
	if r.percent > 0 {
		return disk / 100 * int64(r.percent)
	}
	return min(int64(r.bytes), disk)
}

// String is "8%" or "100GB".
func (r Reserve) String() string {
	if r.percent > 0 {
		return strconv.Itoa(r.percent) + "%"
	}
	return r.bytes.String()
}

// MarshalText is [Reserve.String] for [encoding.TextMarshaler].
func (r Reserve) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what [Reserve.String] returns, for [encoding.TextUnmarshaler].
func (r *Reserve) UnmarshalText(text []byte) error {
	if digits, ok := strings.CutSuffix(string(text), "%"); ok {
		n, err := strconv.Atoi(digits)
		if err != nil || n < 1 || n > 90 {
			return fmt.Errorf(`want "1%%" to "90%%" or a size, got %q`, text)
		}
		*r = Reserve{percent: n}
		return nil
	}
	*r = Reserve{}
	return r.bytes.UnmarshalText(text)
}
