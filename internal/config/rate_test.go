package config_test

import (
	"strings"
	"testing"

	"freshet/internal/config"
)

func TestParseRate(t *testing.T) {
	for s, want := range map[string]config.Rate{
		"200Mbit/s": 25e6, "1.5 Gbit/s": 187_500_000, "8bit/s": 1, "0bit/s": 0, "64KBIT/S": 8000,
		"25MB/s": 25e6, "20MiB/s": 20 << 20, "4096B/s": 4096, "1.5 MB/s": 15e5,
	} {
		got, err := config.ParseRate(s)
		if err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", s, got, err, want)
			continue
		}
		if again, err := config.ParseRate(got.String()); err != nil || again != got {
			t.Errorf("%q: %q is %d, %v", s, got, again, err)
		}
	}
	for _, s := range []string{"", "25M", "25", "200Mbit", "200 Mbps", "-1Mbit/s", "NaNbit/s", "InfGbit/s", "1e300Gbit/s", "xMB/s", "MB/s", "-1MB/s"} {
		if got, err := config.ParseRate(s); err == nil || !strings.Contains(err.Error(), `got "`) {
			t.Errorf("%q: %d, %v", s, got, err)
		}
	}
	if got := config.Rate(25e6).String(); got != "200Mbit/s" {
		t.Error(got)
	}
}
