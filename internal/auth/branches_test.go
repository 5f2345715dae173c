package auth

import (
	"encoding/json"
	"strings"
	"testing"

	"freshet/api/hubapi"
)

func TestAllowBranch(t *testing.T) {
	for _, test := range []struct {
		patterns []string
		branch   string
		want     bool
	}{
		{nil, "stable", true},
		{[]string{}, "stable", false},
		{[]string{"stable"}, "stable", true},
		{[]string{"stable"}, "stable2", false},
		{[]string{"beta", "test-*"}, "test-1", true},
		{[]string{"test-*"}, "beta", false},
		{[]string{"*"}, "beta", true},
		{[]string{"[", "beta"}, "beta", true}, // a token of somebody else's making
		{[]string{"[a-z]*"}, "beta", false},
	} {
		c := Claims{PushBranches: test.patterns}
		if err := c.AllowBranch(test.branch); (err == nil) != test.want {
			t.Errorf("%q, %s: %v", test.patterns, test.branch, err)
		}
		if err := c.AllowEveryBranch(); (err == nil) != (test.patterns == nil) {
			t.Errorf("%q, every branch: %v", test.patterns, err)
		}
	}
}

// No way through a token widens the limit: not its text, nor a subset.
func TestPushBranchesStay(t *testing.T) {
	a := &Authority{Secret: Secret(strings.Repeat("s", 32))}
	for _, patterns := range [][]string{nil, {}, {"stable"}} {
		text, err := a.Issue(Claims{Sub: "build", Expires: 1 << 40, Repos: []string{""}, PushBranches: patterns})
		if err != nil {
			t.Fatal(err)
		}
		claims, err := a.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		empty := []string{}
		subset, err := a.Subset(claims, hubapi.TokenSubsetRequest{Name: "x", Sub: "build", Duration: 1, Prefixes: &empty})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []*Claims{claims, &subset} {
			if (c.PushBranches == nil) != (patterns == nil) || len(c.PushBranches) != len(patterns) {
				t.Errorf("%q became %q", patterns, c.PushBranches)
			}
		}
		if b, err := json.Marshal(claims); err != nil || strings.Contains(string(b), "push_branches") != (patterns != nil) {
			t.Errorf("%s, %v", b, err)
		}
	}
}
