package mirror_test

import (
	"strings"
	"testing"

	"freshet/internal/mirror"
)

// What is desired of a mirror names no file and no secret of the box, and what is wrong with
// it is said by line or key.
func TestCheckDesired(t *testing.T) {
	const p = "[mirror.projects.p]\nkind = \"plain\"\nupstreams = [\"https://up.example/p/\"]\n"
	for what, c := range map[string]struct{ settings, want string }{
		"nothing":            {"", ""},
		"a project":          {p, ""},
		"a director":         {p + "directors = [\"main\"]\n", ""},
		"a partial project":  {"[mirror.projects.epel]\npreset = \"epel\"\nreleases = [\"10\"]\n", ""},
		"a token":            {strings.Replace(p, "https", "hub+https", 1) + "token-file = \"/etc/freshet/mirror.token\"\n", "projects.p.token-file"},
		"a file of keys":     {p + "keys = [\"/etc/shadow\"]\n", "projects.p.keys[0]"},
		"a key that is none": {p + "keys = [\"k\"]\n[mirror.keys]\nk = \"none\"\n", "projects.p.keys"},
		"a folder":           {"[mirror]\ndirectory = \"/\"\n", "directory"},
		"a listener":         {"[mirror]\nlisten = \":80\"\n", "listen"},
		"who gives orders":   {"[mirror.control.clients.me]\ntoken = \"sha256:00\"\n", "control"},
		"another key":        {"[mirror.desired]\nkey = \"ed25519:AA\"\n", "desired"},
		"another role":       {"[director]\nlisten = \":80\"\n", "director"},
		"a folder above":     {strings.Replace(p, "projects.p]", "projects.\"../p\"]", 1), "../p"},
		"a local upstream":   {strings.Replace(p, "https://up.example/p/", "file:///etc/", 1), "upstreams[0]"},
		"an option of rsync": {strings.Replace(p, "https://up.example/p/", "-essh", 1), "upstreams[0]"},
		"a preset":           {"[mirror.projects.p]\npreset = \"nonsense\"\n", "nonsense"},
		"no TOML":            {p + "\x00", "settings:4"},
		"twice":              {p + p, "settings:4"},
		"too long":           {"#" + strings.Repeat("x", 256<<10), "bytes"},
	} {
		err := mirror.CheckDesired(c.settings)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", what, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want one that names %q", what, err, c.want)
		}
	}
}

func FuzzCheckDesired(f *testing.F) {
	f.Add("[mirror.projects.p]\nkind = \"plain\"\nupstreams = [\"https://up.example/p/\"]\n")
	f.Add("[mirror.projects.epel]\npreset = \"epel\"\n[mirror.keys]\nk = \"x\"\n[mirror.limits]\nbandwidth = \"1Mbit/s\"\n")
	f.Fuzz(func(_ *testing.T, settings string) {
		_ = mirror.CheckDesired(settings) // it does not panic
	})
}
