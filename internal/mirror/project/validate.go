package project

import (
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"freshet/api/mirrorapi"
	"freshet/internal/config"
	"freshet/internal/mirror/fetch"
	"freshet/internal/mirror/kind"
	"freshet/internal/mirror/schedule"
)

// CheckName reports what is wrong with the name of a project. It is the name of a folder
// on the disk and in URLs.
func CheckName(name string) error {
	if !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`).MatchString(name) {
		return fmt.Errorf(`%q is no name: want up to 64 letters, digits, ".", "_" and "-"`, name)
	}
	return nil
}

// report adds a problem to those of a table.
type report func(key, format string, args ...any)

// Validate returns every problem of the table, which has taken over its preset; see
// [config.Validator].
func (c Config) Validate() []config.Problem {
	var problems []config.Problem
	problem := func(key, format string, args ...any) {
		problems = append(problems, config.Problem{Key: key, Message: fmt.Sprintf(format, args...)})
	}
	switch {
	case c.Kind == "":
		problems = append(problems, config.Missing("kind", "what the project consists of ("+quoted(kinds())+")"))
	case !slices.Contains(kinds(), c.Kind):
		problem("kind", "want %s, got %q", quoted(kinds()), c.Kind)
	default:
		for _, p := range c.Meaning(kind.Keys{}).Problems() {
			problem(p.Setting, "%s", p.Message)
		}
	}
	if len(c.Upstreams) == 0 {
		problems = append(problems, config.Missing("upstreams", "the URLs that the project is synced from"))
	}
	c.checkURLs(problem)
	c.checkLists(problem)
	c.checkTimes(problem)
	c.checkNumbers(problem)
	if c.HotSet > 0 && len(c.Repositories) > 1 {
		problem("repositories", "want one: a hot set is of one repository, got %d", len(c.Repositories))
	}
	c.checkPeers(problem)
	return problems
}

func kinds() []string {
	var names []string
	for _, f := range kind.Formats() {
		names = append(names, string(f))
	}
	return names
}

// quoted lists words: "a", "b" or "c".
func quoted(words []string) string {
	last := len(words) - 1
	return `"` + strings.Join(words[:last], `", "`) + `" or "` + words[last] + `"`
}

func (c Config) checkURLs(problem report) {
	for i, u := range c.Upstreams {
		if err := fetch.Check(u); err != nil {
			problem(fmt.Sprintf("upstreams[%d]", i), "%v", err)
		}
	}
	c.checkToken(problem)
	if c.Through != "" {
		if err := CheckURL(c.Through, "https", "http"); err != nil {
			problem("through", "%v", err)
		}
		if c.Kind != string(kind.OSTree) {
			problem("through", "is for hot sets of OSTree repositories: a project of the kind %q is mirrored whole", c.Kind)
		}
	}
	for i, u := range c.Siblings {
		if err := CheckURL(u, "https", "http"); err != nil {
			problem(fmt.Sprintf("siblings[%d]", i), "%v", err)
		}
	}
	for i, u := range c.Downstream {
		if err := CheckURL(u, "https", "http"); err != nil {
			problem(fmt.Sprintf("downstream[%d]", i), "%v", err)
		}
	}
}

// checkToken looks who gets the token.
func (c Config) checkToken(problem report) {
	if c.TokenFile == "" {
		return
	}
	hubs := 0
	for i, text := range c.Upstreams {
		teller, plain := fetch.Split(text)
		u, err := url.Parse(plain)
		if teller != fetch.Hub || err != nil {
			continue
		}
		hubs++
		if u.Scheme == "http" && !isLoopback(u.Hostname()) {
			problem(fmt.Sprintf("upstreams[%d]", i), "everybody on the way would read the token of token-file: want hub+https://, got %q", text)
		}
	}
	if hubs == 0 {
		problem("token-file", "is for hubs, and none of the upstreams begins with hub+https://")
	}
}

// isLoopback reports whether a host is this machine, whoever asks.
func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// CheckURL reports what is wrong with the URL of a root that has one of these schemes.
func CheckURL(s string, schemes ...string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return fmt.Errorf("want a URL with a host, got %q", s)
	case !slices.Contains(schemes, u.Scheme):
		return fmt.Errorf("want %s before ://, got %q", quoted(schemes), s)
	case u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("want a URL without ? and #, got %q", s)
	}
	return nil
}

func (c Config) checkLists(problem report) {
	for i, word := range c.With {
		if word != WithSource && word != WithDebug && word != WithISO {
			problem(fmt.Sprintf("with[%d]", i), "want %s, got %q", quoted([]string{WithSource, WithDebug, WithISO}), word)
		}
	}
	for _, list := range []struct {
		key    string
		values []string
	}{
		{"repositories", c.Repositories},
		{"releases", c.Releases},
		{"architectures", c.Architectures},
		{"components", c.Components},
		{"refs", c.Refs},
		{"include", c.Include},
		{"exclude", c.Exclude},
		{"probe", c.Probe},
		{"stamps", c.Stamps},
		{"keys", c.Keys},
	} {
		for i, v := range list.values {
			if v == "" || strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				problem(fmt.Sprintf("%s[%d]", list.key, i), "is empty or has control characters: %q", v)
			}
		}
	}
	if c.Kind != string(kind.OSTree) && len(c.Refs) > 0 {
		problem("refs", "only projects of the kind %q have refs", kind.OSTree)
	}
	if !slices.Contains([]kind.Format{kind.Deb, kind.Arch, kind.Alpine}, kind.Format(c.Kind)) && len(c.Components) > 0 {
		problem("components", "only projects of the kinds %q, %q and %q have components", kind.Deb, kind.Arch, kind.Alpine)
	}
}

func (c Config) checkTimes(problem report) {
	if c.Schedule != "" {
		if _, err := schedule.Parse(c.Schedule); err != nil {
			problem("schedule", "%v", err)
		}
	}
	if c.Jitter < 0 {
		problem("jitter", "must not be negative")
	}
	if c.Timeout < 0 {
		problem("timeout", "must not be negative")
	}
	if c.Grace < 0 {
		problem("grace", "must not be negative")
	}
	if c.Spread < 0 {
		problem("spread", "must not be negative")
	}
}

func (c Config) checkNumbers(problem report) {
	if c.Priority < 0 || c.Priority > maxPriority {
		problem("priority", "want 1 to %d, got %d", maxPriority, c.Priority)
	}
	if c.MaxShrink < 0 || c.MaxShrink > 100 {
		problem("max-shrink", "want percent from 1 to 100, got %d", c.MaxShrink)
	}
}

const maxPriority = 9

func (c Config) checkPeers(problem report) {
	names := make(map[string]bool)
	for i, text := range c.Triggers {
		key, err := mirrorapi.ParseTriggerKey(text)
		switch {
		case err != nil:
			problem(fmt.Sprintf("triggers[%d]", i), "%v", err)
		case names[key.Name]:
			problem(fmt.Sprintf("triggers[%d]", i), "there are two keys named %q", key.Name)
		default:
			names[key.Name] = true
		}
	}
}

// CheckFiles returns what is wrong with the files that are named, of a table that has taken
// over its preset; see [config.FileChecker]. Keys that are in texts, by their names, are not
// in files.
func (c Config) CheckFiles(texts map[string]string) []config.Problem {
	var problems []config.Problem
	for i, name := range c.Keys {
		var err error
		_, there := texts[name]
		if !there {
			info, _ := os.Stat(name)
			there = info != nil && info.Mode().IsRegular() // a pipe can be read once
			if err = config.CheckReadable(name); err != nil {
				err = fmt.Errorf("%s: %w", name, err)
			}
		}
		if err == nil && there && c.Kind != "" { // or others desire the project
			_, err = kind.LoadKeys(kind.Format(c.Kind), c.Keys[i:i+1], texts)
		}
		if err != nil {
			problems = append(problems, config.Problem{Key: fmt.Sprintf("keys[%d]", i), Message: err.Error()})
		}
	}
	if c.TokenFile != "" {
		if err := config.CheckReadable(c.TokenFile); err != nil {
			problems = append(problems, config.Problem{Key: "token-file", Message: c.TokenFile + ": " + err.Error()})
		}
	}
	return problems
}
