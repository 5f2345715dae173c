package config_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"freshet/internal/config"
)

func TestParseDuration(t *testing.T) {
	const day = 24 * time.Hour
	for s, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "1h30m": 90 * time.Minute, "0": 0, "30d": 30 * day, "1d12h": 36 * time.Hour, "0d": 0,
		"2d1.5s": 2*day + 1500*time.Millisecond, "-1s": -time.Second, "106751d": 106751 * day,
	} {
		if got, err := config.ParseDuration(s); err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{
		"", "d", "soon", "30", "-1d", "+1d", "1.5d", "1d-1h", "1d+1h", "1d1", "1h1d", "1d1d", "1 d", "106752d", "106751d24h",
		"99999999999999999999d",
	} {
		if got, err := config.ParseDuration(s); err == nil || !strings.Contains(err.Error(), `or "30d", got "`) {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
}

func TestFormatDuration(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0s": 0, "15m": 15 * time.Minute, "24h": 24 * time.Hour, "2d": 48 * time.Hour, "30d": 720 * time.Hour, "49h": 49 * time.Hour,
		"1h0m1s": time.Hour + time.Second, "20s": 20 * time.Second, "10m": 10 * time.Minute, "-48h": -48 * time.Hour,
	} {
		got := config.FormatDuration(d)
		if got != want {
			t.Errorf("%d: %q, want %q", d, got, want)
		}
		if back, err := config.ParseDuration(got); err != nil || back != d {
			t.Errorf("%q is read as %v, %v", got, back, err)
		}
	}
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]config.Size{
		"0": 0, "1": 1, "4294967296": 4 << 30, "10GB": 1e10, "10 GB": 1e10, "1.5MiB": 3 << 19, "2TiB": 2 << 40, "7kb": 7000, "512K": 512000,
		"5B": 5, "9223372036854775807": math.MaxInt64, "8388607TiB": 8388607 << 40, "9007199254740993B": 9007199254740993,
		"": -1, "GB": -1, "1XB": -1, "1Ki": -1, "-1GB": -1, "-1": -1, "1e99GB": -1, "9999999TB": -1, "9999999TiB": -1, "9999999.5TiB": -1,
		"NaN": -1, "Inf": -1, "0x10": -1, "1 0": -1, "1BB": -1,
	} {
		got, err := config.ParseSize(s)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %d, want %d (%v)", s, got, want, err)
		}
	}
}

func FuzzSize(f *testing.F) {
	for _, n := range []int64{0, 1, 999, 1000, 1024, 1024000, 10e9, 4 << 30, 1 << 40, math.MaxInt64} {
		f.Add(n, "10GB")
	}
	f.Fuzz(func(t *testing.T, n int64, s string) {
		if n >= 0 {
			if back, err := config.ParseSize(config.Size(n).String()); err != nil || back != config.Size(n) {
				t.Errorf("%d prints as %q, which is read as %d, %v", n, config.Size(n), back, err)
			}
		}
		if size, err := config.ParseSize(s); err == nil && size < 0 {
			t.Errorf("%q is %d", s, size)
		}
	})
}

func TestSizeString(t *testing.T) {
	for want, size := range map[string]config.Size{"0": 0, "1": 1, "10GB": 1e10, "4GiB": 4 << 30, "10MiB": 10 << 20, "1500MB": 1.5e9, "1025": 1025} {
		if got := size.String(); got != want {
			t.Errorf("%d: %q, want %q", size, got, want)
		}
	}
}

func TestCheckAddress(t *testing.T) {
	for addr, good := range map[string]bool{
		":8080": true, "127.0.0.1:0": true, "[::1]:443": true, "localhost:http": true, "mem:hub": true,
		"": false, "8080": false, ":": false, "localhost": false, ":70000": false, ":-1": false, "::1:80": false, "http://x:80": false, ":80/": false,
		"mem:": false, "mem:a b": false, "mem:a:80": false,
	} {
		if err := config.CheckAddress(addr); (err == nil) != good {
			t.Errorf("%q: %v", addr, err)
		}
	}
}
