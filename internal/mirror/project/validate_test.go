package project_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freshet/internal/mirror/project"
)

// Each problem is told by the key that it is at.
func TestProblemsNameTheirKey(t *testing.T) {
	for _, c := range []struct {
		want string
		set  func(c *project.Config)
	}{
		{"", func(*project.Config) {}},
		{"kind", func(c *project.Config) { c.Kind = "rpms" }},
		{"repositories[1]", func(c *project.Config) { c.Repositories = []string{"ok", "/etc"} }},
		{"repositories[0]", func(c *project.Config) { c.Repositories = []string{"{relase}"} }},
		{"repositories", func(c *project.Config) { c.Kind, c.Repositories = "plain", []string{"a"} }},
		{"probe[0]", func(c *project.Config) { c.Probe = []string{"../x"} }},
		{"stamps[1]", func(c *project.Config) { c.Stamps = []string{"x", "y/"} }},
		{"hot-set", func(c *project.Config) { c.HotSet = 1 }},
	} {
		config := project.Config{Kind: "rpm", Upstreams: []string{"https://a.example/"}, Priority: 5, MaxShrink: 40, Grace: 1, Timeout: 1, Schedule: "never"}
		c.set(&config)
		problems := config.Validate()
		if c.want == "" && len(problems) == 0 {
			continue
		}
		if len(problems) != 1 || problems[0].Key != c.want {
			t.Errorf("%v, want one at %q", problems, c.want)
		}
	}
}

// A file that has no keys in it is told what it should have.
func TestKeyFiles(t *testing.T) {
	page := filepath.Join(t.TempDir(), "key.asc")
	if err := os.WriteFile(page, []byte("<html>"), 0o600); err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[string]string{"rpm": "OpenPGP", "alpine": "PEM", "plain": "is not signed"} {
		problems := project.Config{Kind: kind, Keys: []string{page}}.CheckFiles(nil)
		if len(problems) != 1 || problems[0].Key != "keys[0]" || !strings.Contains(problems[0].Message, want) {
			t.Errorf("%s: %v, want %q", kind, problems, want)
		}
	}
}
