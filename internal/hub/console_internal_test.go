package hub

import (
	"encoding/json"
	"slices"
	"testing"

	"freshet/internal/auth"
	"freshet/internal/oidc"
)

// The first rule that fits decides, an e-mail address counts when it is verified,
// and who fits none gets nothing.
func TestConsoleRules(t *testing.T) {
	p := ConsoleProvider{Allow: []ConsoleRule{
		{Claims: map[string][]string{"groups": {"release"}}, Manage: true, Rights: []string{"jobs", "publish"}},
		{Claims: map[string][]string{"groups": {"dev", "ci"}, "email": {"a@example.org"}}, Prefixes: []string{"org.a"}, Repos: []string{"beta"}},
	}}
	for name, test := range map[string]struct {
		claims map[string]any
		want   []auth.Claims
	}{
		"nothing":    {map[string]any{}, nil},
		"release":    {map[string]any{"groups": []any{"dev", "release"}}, []auth.Claims{{Sub: "build", Scope: []auth.Scope{"jobs", "publish"}, Repos: []string{""}}, {Scope: []auth.Scope{"tokenmanagement"}}}},
		"developer":  {map[string]any{"groups": "dev", "email": "a@example.org", "email_verified": true}, []auth.Claims{{Sub: "build", Scope: []auth.Scope{"jobs", "build", "download"}, Prefixes: []string{"org.a"}, Repos: []string{"beta"}}}},
		"unverified": {map[string]any{"groups": "dev", "email": "a@example.org"}, nil},
		"other":      {map[string]any{"groups": json.Number("1"), "email": "b@example.org", "email_verified": true}, nil},
	} {
		got := p.claims(&oidc.Token{Claims: test.claims})
		if !slices.EqualFunc(got, test.want, func(a, b auth.Claims) bool {
			return a.Sub == b.Sub && slices.Equal(a.Scope, b.Scope) && slices.Equal(a.Prefixes, b.Prefixes) && slices.Equal(a.Repos, b.Repos)
		}) {
			t.Errorf("%s: %+v, want %+v", name, got, test.want)
		}
	}
}

func TestConsoleConfigProblems(t *testing.T) {
	good := ConsoleConfig{URL: "https://console.example", OIDC: map[string]ConsoleProvider{
		"x": {Issuer: "https://id.example", ClientID: "c", Allow: []ConsoleRule{{Claims: map[string][]string{"sub": {"1"}}}}},
	}}
	if problems := good.Validate(); len(problems) > 0 {
		t.Errorf("%v", problems)
	}
	bad := ConsoleConfig{Listen: "nowhere", OIDC: map[string]ConsoleProvider{
		"X": {Issuer: "http://id.example", Allow: []ConsoleRule{{Rights: []string{"everything"}}}}, "y": {Issuer: "https://id.example", ClientID: "c"},
	}}
	var keys []string
	for _, p := range bad.Validate() {
		keys = append(keys, p.Key)
	}
	want := []string{"listen", "url", "oidc.X", "oidc.X.issuer", "oidc.X.client-id", "oidc.X.allow[0].claims", "oidc.X.allow[0].rights", "oidc.y.allow"}
	if !slices.Equal(keys, want) {
		t.Errorf("problems of %q, want %q", keys, want)
	}
}
