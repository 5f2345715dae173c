package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every test that the table names exists, and every check is described.
func TestTable(t *testing.T) {
	docs, err := os.ReadFile("../../docs/edge-acceptance.md")
	if err != nil {
		t.Fatal(err)
	}
	code := make(map[string]string)
	for i, c := range checks() {
		if c.number != i+1 || !strings.Contains(string(docs), fmt.Sprintf("\n| %d | %s |", c.number, c.name)) {
			t.Errorf("check %d, %q, is not described", c.number, c.name)
		}
		for _, p := range c.proofs {
			if p.kind != test {
				continue
			}
			if code[p.where] == "" {
				files, err := filepath.Glob(filepath.Join("../..", p.where, "*_test.go"))
				if err != nil {
					t.Fatal(err)
				}
				for _, name := range files {
					text, err := os.ReadFile(name)
					if err != nil {
						t.Fatal(err)
					}
					code[p.where] += string(text)
				}
			}
			name, inside, _ := strings.Cut(p.name, "/")
			if !strings.Contains(code[p.where], "func "+name+"(t *testing.T)") || inside != "" && !strings.Contains(code[p.where], fmt.Sprintf("t.Run(%q", inside)) {
				t.Errorf("check %d: %s has no test %s", c.number, p.where, p.name)
			}
		}
	}
}

// What did not run has not passed.
func TestOutcomes(t *testing.T) {
	good, bad, skipped, none := proof{name: "good"}, proof{name: "bad"}, proof{name: "skipped"}, proof{name: "none"}
	p := &printer{list: []check{
		{1, "all good", []proof{good}},
		{2, "one bad", []proof{good, bad, skipped}},
		{3, "one skipped", []proof{good, skipped}},
		{4, "nothing", nil},
		{5, "not there", []proof{none}},
	}}
	var out bytes.Buffer
	p.out = &out
	s := &seen{}
	s.see(event{Action: "output", Output: "    x_test.go:5: needs curl\n"}, "sub")
	s.see(event{Action: "skip"}, "sub")
	s.see(event{Action: "pass", Elapsed: 2}, "")
	var never *seen
	p.known = map[proof]outcome{good: {}, bad: {failed: true, said: "why"}, skipped: s.outcome("T", ""), none: never.outcome("T", "no such package")}
	p.print(false)
	for _, want := range []string{"all good ok 0.0", "one bad FAIL 2.0", "why", "one skipped skipped(T: sub: needs curl) 2.0", "nothing FAIL 0.0", "not there FAIL 0.0", "no such package"} {
		if got := strings.Join(strings.Fields(out.String()), " "); !strings.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
	if p.failed != 3 {
		t.Errorf("%d failed, want 3", p.failed)
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

func TestChoose(t *testing.T) {
	t.Parallel()
	list, err := choose(checks(), []string{"15", "8", "8"})
	if err != nil || len(list) != 2 || list[0].number != 8 {
		t.Errorf("%v, %v", list, err)
	}
	if err := run(context.Background(), config{}, []string{"99"}, nil); err == nil {
		t.Error("check 99 ran")
	}
}
