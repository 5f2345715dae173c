package main

import (
	"testing"

	"freshet/e2e/acceptance"
)

func TestTable(t *testing.T) {
	if err := acceptance.Described(checks(""), "../../..", "docs/edge-acceptance.md"); err != nil {
		t.Error(err)
	}
}

func TestReadRates(t *testing.T) {
	t.Parallel()
	rates, ratios := readRates("a:nginx-cache 1.00 2.00 0.50 - -\n# a freshet: 1.50 µs, 60688 requests/s, p99 3.85 ms, 3 samples\n" +
		"# a nginx-cache: 2.50 µs, 0.91 requests/s, p99 1.00 ms, 2 samples\npull-s:direct 1.00 2.00 0.92 1.10 ok\n")
	if rates["a freshet"] != 60688 || rates["a nginx-cache"] != 0.91 || len(rates) != 2 || ratios["pull-s"] != 0.92 || len(ratios) != 1 {
		t.Errorf("rates %v, ratios %v", rates, ratios)
	}
}
