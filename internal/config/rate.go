package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// rateForm is what to write for a rate, as messages say it.
const rateForm = `a rate like "200Mbit/s", "25MB/s" or "20MiB/s"`

// Rate is a number of bytes per second, not negative. It is written in bits
// ("200Mbit/s": kbit, Mbit and Gbit are powers of 1000) or in the bytes of a
// [Size] ("25MB/s"). The unit is never left out, so that nobody has to guess
// whether bits or bytes are meant.
type Rate int64

// bitUnits are the units of rates in bits, largest first.
func bitUnits() []struct {
	name   string
	factor Rate // bits
} {
	return []struct {
		name   string
		factor Rate
	}{
		{"Gbit/s", 1e9},
		{"Mbit/s", 1e6},
		{"kbit/s", 1e3},
		{"bit/s", 1},
	}
}

// ParseRate reads a rate: "200Mbit/s", "1.5 Gbit/s", "25MB/s". The case of the
// unit does not matter.
func ParseRate(s string) (Rate, error) {
	bad := fmt.Errorf("want %s, got %q", rateForm, s)
	for _, u := range bitUnits() {
		digits, ok := cutSuffixFold(s, u.name)
		if !ok {
			continue
		}
		f, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
		if err != nil || !(f >= 0) || f*float64(u.factor)/8 >= math.MaxInt64 {
			return 0, bad
		}
		return Rate(math.Round(f*float64(u.factor)) / 8), nil
	}
	size, ok := cutSuffixFold(s, "B/s")
	if !ok {
		return 0, bad
	}
	n, err := ParseSize(strings.TrimSpace(size) + "B")
	if err != nil {
		return 0, bad
	}
	return Rate(n), nil
}

// cutSuffixFold is [strings.CutSuffix] whatever the case of ASCII letters is.
func cutSuffixFold(s, suffix string) (string, bool) {
	cut := len(s) - len(suffix)
	if cut < 0 || !strings.EqualFold(s[cut:], suffix) {
		return s, false
	}
	return s[:cut], true
}

// String prints r in the largest unit of bits in which it is a whole number.
func (r Rate) String() string {
	bits := 8 * r
	if r > math.MaxInt64/8 {
		return Size(r).String() + "B/s"
	}
	for _, u := range bitUnits() {
		if bits%u.factor == 0 && (bits != 0 || u.factor == 1) {
			return strconv.FormatInt(int64(bits/u.factor), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(bits), 10) + "bit/s"
}

// MarshalText is [Rate.String] for [encoding.TextMarshaler].
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText is [ParseRate] for [encoding.TextUnmarshaler].
func (r *Rate) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRate(string(text))
	return err
}
