package node

import (
	"path/filepath"
	"strings"
	"testing"

	"freshet/internal/config"
	"freshet/internal/edge"
	"freshet/internal/hub"
)

func TestValidate(t *testing.T) {
	const noRole = "f.toml:1: no role: the file needs a table [hub], [edge], [mirror] or [director]"
	dir := t.TempDir()
	t.Chdir(dir)
	for _, c := range []struct{ name, file, want string }{
		{"empty", "", noRole},
		{"no role", "[log]\nlevel = 'warn'\n", noRole},
		{"defaults", "hub.dir = 'h'\n[edge]\nstore = 's'\norigin = 'http://a'\n", ""},
		{"hub.listen", "[hub]\ndir = 'h'\nlisten = '8080'", `f.toml:3: hub.listen: want "host:port" or ":port", got "8080"`},
		{"admin.listen", "hub.dir = 'h'\nadmin.listen = 'x:y:z'", `f.toml:2: admin.listen: want "host:port" or ":port", got "x:y:z"`},
		{
			"the hub's default", "hub.dir = 'h'\n[edge]\nstore = 's'\norigin = 'http://a'\nlisten = '127.0.0.1:8080'\n",
			"f.toml:5: edge.listen: 127.0.0.1:8080 is taken by hub.listen (:8080)",
		},
		{
			"admin on a role's", "hub.dir = 'h'\nhub.listen = 'localhost:1'\nadmin.listen = '127.0.0.1:1'\n",
			"f.toml:3: admin.listen: 127.0.0.1:1 is taken by hub.listen (localhost:1)",
		},
		{"one folder", "hub.dir = 'd'\n[edge]\nstore = './d/'\norigin = 'http://a'\n", "f.toml:3: edge.store: is the folder of the hub (hub.dir), want one of its own"},
		{
			"the store inside", "hub.dir = '" + dir + "'\n[edge]\nstore = 'a/b'\norigin = 'http://a'\n",
			"f.toml:3: edge.store: lies inside hub.dir, want a folder outside of it",
		},
		{
			"the hub inside", "hub.dir = 's/hub'\n[edge]\nstore = 's'\norigin = 'http://a'\n",
			"f.toml:1: hub.dir: lies inside edge.store, want a folder outside of it",
		},
		{"names that begin alike", "hub.dir = 'a/hub'\n[edge]\nstore = 'a/hub-cache'\norigin = 'http://a'\n", ""},
	} {
		err := config.Decode("f.toml", []byte(c.file), new(Config))
		got := ""
		if err != nil {
			_, got, _ = strings.Cut(err.Error(), "\n")
		}
		if got != c.want {
			t.Errorf("%s:\n%q, want\n%q", c.name, got, c.want)
		}
	}
}

func TestSameAddress(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{":1", ":1", true},
		{":1", ":2", false},
		{":0", ":0", false},
		{":1", "127.0.0.1:1", true},
		{"[::]:1", "127.0.0.1:1", true},
		{"0.0.0.0:1", "127.0.0.1:1", true},
		{"0.0.0.0:1", "[::1]:1", false},
		{"0.0.0.0:1", "[::]:1", true},
		{"127.0.0.1:1", "127.0.0.2:1", false},
		{"[::ffff:127.0.0.1]:1", "127.0.0.1:1", true},
		{"[::1]:1", "[0:0::1]:1", true},
		{"localhost:1", "127.0.0.1:1", true},
		{"a.example:1", "A.example:1", true},
		{"a.example:1", "127.0.0.1:1", false},
		{"mem:a", "mem:a", true},
		{"mem:a", "mem:b", false},
		{"mem:1", ":1", false},
		{"8080", "8080", false},
	} {
		if sameAddress(c.a, c.b) != c.want || sameAddress(c.b, c.a) != c.want {
			t.Errorf("%s and %s: want %v", c.a, c.b, c.want)
		}
	}
}

// The keys that a hub's table names must be there; those it makes need not.
func TestNamedFiles(t *testing.T) {
	dir := t.TempDir()
	absent := filepath.Join(dir, "absent")
	var file *config.File
	cfg := Config{Hub: &hub.Config{Dir: dir, SecretFile: filepath.Join(dir, "secret")}, Edge: &edge.Config{Store: t.TempDir(), Origin: "http://a"}}
	if err := file.Check(cfg); err != nil {
		t.Errorf("the hub's own files: %v", err)
	}
	cfg.Hub.SecretFile, cfg.Hub.GPGKeys, cfg.Hub.BuildGPGKeys = absent, []string{dir}, []string{absent}
	cfg.Hub.Repos = map[string]hub.RepoConfig{"stable": {GPGKeys: []string{"/dev/null", absent}}}
	err := file.Check(cfg)
	want := strings.ReplaceAll(`4 problems
hub.secret-file: ABSENT: no such file or directory
hub.gpg-keys[0]: DIR: is a folder, want a file
hub.build-gpg-keys[0]: ABSENT: no such file or directory
hub.repos.stable.gpg-keys[1]: ABSENT: no such file or directory`, "ABSENT", absent)
	if want = strings.ReplaceAll(want, "DIR", dir); err == nil || err.Error() != want {
		t.Errorf("%v\nwant\n%s", err, want)
	}
	if err := config.Check(cfg); err != nil {
		t.Errorf("Validate alone looked for files: %v", err)
	}
}
