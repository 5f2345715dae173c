package config_test

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"freshet/internal/config"

	"github.com/google/go-cmp/cmp"
)

type whole struct {
	Admin string    `toml:"admin"`
	Hub   *hubTable `toml:"hub"`
}

type hubTable struct {
	Dir    string               `toml:"dir"`
	Grace  time.Duration        `toml:"grace"`
	Port   uint16               `toml:"port"`
	Keys   []string             `toml:"keys"`
	Public bool                 `toml:"public"`
	Size   size                 `toml:"size"`
	Repos  map[string]repoTable `toml:"repos"`
	Sites  []siteTable          `toml:"sites"`
}

func (h hubTable) WithDefaults() hubTable {
	if h.Grace == 0 {
		h.Grace = 24 * time.Hour
	}
	return h
}

func (h hubTable) Validate() []config.Problem {
	var ps []config.Problem
	if h.Dir == "" {
		ps = append(ps, config.Problem{Key: "dir", Message: "must be set"})
	}
	for name, r := range h.Repos {
		if r.Depth > 10 {
			ps = append(ps, config.Problem{Key: "repos." + name + ".depth", Message: "at most 10"})
		}
	}
	return ps
}

type repoTable struct {
	Title string `toml:"title"`
	Depth int    `toml:"depth"`
}

type siteTable struct {
	Origin string `toml:"origin"`
}

type size int64

func (s *size) UnmarshalText(b []byte) error {
	if !bytes.HasSuffix(b, []byte("GB")) {
		return errors.New(`want a size like "10GB"`)
	}
	*s = size(len(b))
	return nil
}

func (s size) MarshalText() ([]byte, error) { return []byte("1GB"), nil }

func TestDecode(t *testing.T) {
	var got whole
	err := config.Decode("f.toml", []byte(`
admin = "127.0.0.1:1"
[hub]
dir = "/srv"
grace = "36h"
port = 8080
keys = ["a", "b"]
public = true
size = "10GB"
[hub.repos.stable]
title = "Stable"
[hub.repos."beta.2"]
depth = 3
[[hub.sites]]
origin = "http://a"
[[hub.sites]]
origin = "http://b"
`), &got)
	if err != nil {
		t.Fatal(err)
	}
	want := whole{Admin: "127.0.0.1:1", Hub: &hubTable{
		Dir: "/srv", Grace: 36 * time.Hour, Port: 8080, Keys: []string{"a", "b"}, Public: true, Size: 4,
		Repos: map[string]repoTable{"stable": {Title: "Stable"}, "beta.2": {Depth: 3}},
		Sites: []siteTable{{"http://a"}, {"http://b"}},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEveryProblemAtOnce(t *testing.T) {
	var got whole
	err := config.Decode("f.toml", []byte(`admn = "x"
[hub]
grace = "soon"
port = 70000
keys = "a"
public = "yes"
size = "10"
[hub.repos.stable]
titel = "Stable"
depth = 11
[[hub.sites]]
origin = "http://a"
[[hub.sites]]
origin = 3
[edge]
`), &got)
	want := `f.toml:1: admn: unknown key (did you mean admin?)
f.toml:2: hub.dir: must be set
f.toml:3: hub.grace: want a duration like "90s", "15m" or "24h", got "soon"
f.toml:4: hub.port: 70000 is out of range
f.toml:5: hub.keys: want a list, got a string
f.toml:6: hub.public: want bool, got a string
f.toml:7: hub.size: want a size like "10GB"
f.toml:9: hub.repos.stable.titel: unknown key (did you mean title?)
f.toml:10: hub.repos.stable.depth: at most 10
f.toml:14: hub.sites[1].origin: want string, got an integer
f.toml:15: edge: unknown key`
	if _, ok := errors.AsType[config.Problems](err); !ok {
		t.Fatalf("error is %T: %v", err, err)
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error(diff)
	}
}

func TestSyntaxError(t *testing.T) {
	err := config.Decode("f.toml", []byte("[hub]\ndir = \n"), new(whole))
	if err == nil || !strings.HasPrefix(err.Error(), "f.toml:2: ") {
		t.Errorf("got %v", err)
	}
	err = config.Decode("f.toml", []byte("admin = 'a'\nadmin = 'b'\n"), new(whole))
	if err == nil || !strings.HasPrefix(err.Error(), "f.toml:2: ") {
		t.Errorf("duplicate key: got %v", err)
	}
}

// The default file, uncommented, is a file that Decode accepts, and it holds
// every key.
func TestDefaultFile(t *testing.T) {
	docs := config.Docs{"freshet/internal/config_test.hubTable.Grace": "Grace is how long\nold files stay."}
	list := config.Settings(whole{}, docs)
	var out bytes.Buffer
	if err := config.WriteDefault(&out, list); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "# Grace is how long\n# old files stay.\n#grace = \"24h\"\n") {
		t.Errorf("default file:\n%s", out.String())
	}
	active := regexp.MustCompile(`(?m)^#([a-z\[])`).ReplaceAllString(out.String(), "$1")
	active = strings.Replace(active, `dir = ""`, `dir = "x"`, 1)
	var got whole
	if err := config.Decode("default.toml", []byte(active), &got); err != nil {
		t.Errorf("%v\n%s", err, active)
	}
	if got.Hub == nil || got.Hub.Grace != 24*time.Hour || len(got.Hub.Sites) != 1 {
		t.Errorf("decoded %+v", got.Hub)
	}
	out.Reset()
	if err := config.WriteReference(&out, list); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "## `[hub.repos.NAME]`") || !strings.Contains(out.String(), "**`grace`** (duration, default `\"24h\"`)") {
		t.Errorf("reference:\n%s", out.String())
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("[hub]\ndir = 'x'\n[[hub.sites]]\norigin='a'\n[hub.repos.a]\ntitle='b'"))
	f.Add([]byte("hub.repos.a.b.c = 1\n[hub.sites.x]"))
	f.Add([]byte("hub = {sites=[{origin=1},{}], repos=3}"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		var w whole
		_ = config.Decode("fuzz", data, &w)
	})
}
