package glob_test

import (
	"regexp"
	"strings"
	"testing"

	"freshet/internal/glob"
)

func TestMatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"", "", true},
		{"", "a", false},
		{"a", "a", true},
		{"a", "ab", false},
		{"a", "", false},
		{"*", "", true},
		{"*", "app/org.example.App/x86_64/stable", true},
		{"app/*", "app/org.example.App/x86_64/stable", true},
		{"app/*/beta", "app/org.example.App/x86_64/beta", true},
		{"app/*/beta", "app/org.example.App/x86_64/beta2", false},
		{"app/*/x86_64/*", "app/org.example.App/aarch64/stable", false},
		{"*.Locale", "org.x.Locale", true},
		{"*.Locale", "org.x.Locale.y", false},
		{"org.x.App*", "org.x.App", true},
		{"org.*.y", "org.y", false},
		{"a*b*c", "abbbc", true},
		{"a*b*c", "acb", false},
		{"a**c", "ac", true},
		{"*ab", "abab", true},
		{"ab*ba", "aba", false}, // the ends do not overlap
		{"[a-z]?", "b1", false}, // nothing else is special
		{"[a-z]?", "[a-z]?", true},
	} {
		if got := glob.Match(c.pattern, c.name); got != c.want {
			t.Errorf("%q matches %q: %v", c.pattern, c.name, got)
		}
	}
	if glob.MatchAny(nil, "a") || !glob.MatchAny([]string{"b", "a*"}, "a") {
		t.Error("of several patterns one is enough, and one is needed")
	}
}

// A pattern matches what the regular expression does that says the same.
func FuzzMatch(f *testing.F) {
	f.Add("app/*/beta", "app/org.example.App/x86_64/beta")
	f.Add("a*b*c", "aXbYbZc")
	f.Add("*ab*ba*", "aba")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if len(pattern) > 100 || len(name) > 100 {
			t.Skip("long ones are the same")
		}
		parts := strings.Split(pattern, "*")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		same, err := regexp.Compile(`(?s)\A` + strings.Join(parts, ".*") + `\z`)
		if err != nil {
			t.Skip("a regular expression wants UTF-8")
		}
		if got, want := glob.Match(pattern, name), same.MatchString(name); got != want {
			t.Errorf("%q matches %q: %v, want %v", pattern, name, got, want)
		}
	})
}
