package config

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"freshet/internal/memnet"
	"freshet/internal/networks"
)

// What to write, as messages say it.
const (
	durationForm = `a duration like "90s", "15m", "24h" or "30d"`
	levelForm    = `"debug", "info", "warn" or "error"`
	sizeForm     = `a size like 4096, "500MB" or "10GiB"`
	addressForm  = `"host:port" or ":port"`
)

const day = 24 * time.Hour

// ParseDuration is [time.ParseDuration] that also takes whole days of 24 hours
// before the rest: "30d", "1d12h".
func ParseDuration(s string) (time.Duration, error) {
	bad := fmt.Errorf("want %s, got %q", durationForm, s)
	digits, rest, hasDays := strings.Cut(s, "d")
	if !hasDays {
		d, err := time.ParseDuration(s)
		if err != nil {
			return 0, bad
		}
		return d, nil
	}
	days, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || days > uint64(math.MaxInt64/day) {
		return 0, bad
	}
	d := time.Duration(days) * day
	if rest == "" {
		return d, nil
	}
	part, err := time.ParseDuration(rest)
	if err != nil || strings.ContainsAny(rest[:1], "+-") || part > math.MaxInt64-d {
		return 0, bad
	}
	return d + part, nil
}

// FormatDuration prints d as [ParseDuration] reads it, as short as it can:
// "15m", "24h", "30d".
func FormatDuration(d time.Duration) string {
	if d >= 2*day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Size is a number of bytes, not negative. It is written as a number, or as
// one with a unit: KB, MB, GB and TB are powers of 1000, KiB, MiB, GiB and TiB
// powers of 1024.
type Size int64

// sizeUnits are the units of sizes, largest first.
func sizeUnits() []struct {
	name   string
	factor Size
} {
	return []struct {
		name   string
		factor Size
	}{
		{"TiB", 1 << 40},
		{"TB", 1e12},
		{"GiB", 1 << 30},
		{"GB", 1e9},
		{"MiB", 1 << 20},
		{"MB", 1e6},
		{"KiB", 1 << 10},
		{"KB", 1e3},
		{"B", 1},
	}
}

// ParseSize reads a size: "4096", "500MB", "1.5 GiB". The case of the unit does
// not matter, and the B of decimal ones may be left out. A fraction of a byte
// is dropped.
func ParseSize(s string) (Size, error) {
	digits := strings.TrimRight(s, "BKMGTibkmgt ")
	factor, known := sizeFactor(strings.TrimSpace(s[len(digits):]))
	if !known {
		return 0, fmt.Errorf("unknown unit in %q: want B, KB, MB, GB, TB, KiB, MiB, GiB or TiB", s)
	}
	if n, err := strconv.ParseUint(digits, 10, 63); err == nil && n <= math.MaxInt64/uint64(factor) {
		return Size(n) * factor, nil
	}
	f, err := strconv.ParseFloat(digits, 64)
	if err != nil || !strings.Contains(digits, ".") || f < 0 || f*float64(factor) >= math.MaxInt64 {
		return 0, fmt.Errorf("want %s, got %q", sizeForm, s)
	}
	return Size(f * float64(factor)), nil
}

func sizeFactor(unit string) (Size, bool) {
	if unit == "" {
		return 1, true
	}
	for _, u := range sizeUnits() {
		if strings.EqualFold(unit, u.name) || len(u.name) == 2 && strings.EqualFold(unit, u.name[:1]) {
			return u.factor, true
		}
	}
	return 0, false
}

// String prints s in the largest unit in which it is a whole number ("10GB",
// "4GiB"), so that [ParseSize] returns the same.
func (s Size) String() string {
	for _, u := range sizeUnits() {
		if s != 0 && s%u.factor == 0 && u.factor > 1 {
			return strconv.FormatInt(int64(s/u.factor), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// MarshalText is [Size.String] for [encoding.TextMarshaler].
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is [ParseSize] for [encoding.TextUnmarshaler].
func (s *Size) UnmarshalText(text []byte) (err error) {
	*s, err = ParseSize(string(text))
	return err
}

// ParseLevel reads the name of a level of the log.
func ParseLevel(s string) (slog.Level, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s)); err != nil {
		return 0, fmt.Errorf("want %s, got %q", levelForm, s)
	}
	return level, nil
}

var (
	// servicePattern is the form of a port given by name (RFC 6335 §5.1).
	servicePattern = regexp.MustCompile(`^[A-Za-z0-9-]*[A-Za-z][A-Za-z0-9-]*$`)
	memoryPattern  = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]*$`)
)

// CheckAddress reports what is wrong with an address to listen on, which is
// "host:port", ":port", or "mem:NAME" for one inside the process.
func CheckAddress(addr string) error {
	if name, ok := strings.CutPrefix(addr, memnet.Scheme); ok {
		if !memoryPattern.MatchString(name) {
			return fmt.Errorf("want a name of lower-case letters and digits behind %q, got %q", memnet.Scheme, addr)
		}
		return nil
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("want %s, got %q", addressForm, addr)
	}
	if servicePattern.MatchString(port) {
		return nil
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("want %s with a port from 0 to 65535, got %q", addressForm, addr)
	}
	return nil
}

// Number is the value of a setting that is a number of something.
type Number struct {
	Key   string
	Value int64
}

// CheckNotNegative reports those of the numbers that are less than 0.
func CheckNotNegative(numbers ...Number) []Problem {
	var problems []Problem
	for _, n := range numbers {
		if n.Value < 0 {
			problems = append(problems, Problem{Key: n.Key, Message: "must not be negative"})
		}
	}
	return problems
}

// CheckNetworks reports the entries of the list at key that are no networks or
// addresses.
func CheckNetworks(key string, list []string) []Problem {
	var problems []Problem
	for i, s := range list {
		if _, err := networks.Parse(s); err != nil {
			problems = append(problems, Problem{
				Key: fmt.Sprintf("%s[%d]", key, i), Message: fmt.Sprintf(`%q is no network: want "10.1.0.0/16" or "192.0.2.7"`, s),
			})
		}
	}
	return problems
}

// CheckReadable reports why the file at path cannot be read, without the path.
// Nothing is read of it.
func CheckReadable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return reason(err)
	case info.IsDir():
		return errors.New("is a folder, want a file")
	case !info.Mode().IsRegular():
		return nil // opening a pipe would wait for its other end
	}
	f, err := os.Open(path)
	if err != nil {
		return reason(err)
	}
	return f.Close()
}

// reason is what the system says, without the operation and the path.
func reason(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	return err
}
