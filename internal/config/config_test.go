package config_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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
	Limit  config.Size          `toml:"limit"`
	Level  slog.Level           `toml:"level"`
	Ratio  float64              `toml:"ratio"`
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
		ps = append(ps, config.Missing("dir", "the folder"))
	}
	for name, r := range h.Repos {
		if r.Depth > 10 {
			ps = append(ps, config.Problem{Key: "repos." + name + ".depth", Message: "at most 10"})
		}
	}
	return ps
}

func (h hubTable) CheckFiles() []config.Problem {
	var ps []config.Problem
	for i, key := range h.Keys {
		if err := config.CheckReadable(key); err != nil {
			ps = append(ps, config.Problem{Key: fmt.Sprintf("keys[%d]", i), Message: key + ": " + err.Error()})
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
limit = "4GiB"
level = "warn"
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
		Limit: 4 << 30, Level: slog.LevelWarn,
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
limit = "10XB"
level = "loud"
ratio = "half"
[hub.repos.stable]
titel = "Stable"
depth = 11
[hub.repos.beta]
depth = "3"
[[hub.sites]]
origin = "http://a"
[[hub.sites]]
origin = 3
[edge]
`), &got)
	want := `15 problems in f.toml
f.toml:1: admn: unknown key (did you mean admin?)
f.toml:2: hub.dir: is required: the folder
f.toml:3: hub.grace: want a duration like "90s", "15m", "24h" or "30d", got "soon"
f.toml:4: hub.port: 70000 is out of range
f.toml:5: hub.keys: want a list, got a string
f.toml:6: hub.public: want a boolean (true or false), got a string
f.toml:7: hub.size: want a size like "10GB"
f.toml:8: hub.limit: want a size like 4096, "500MB" or "10GiB", got "10XB"
f.toml:9: hub.level: want "debug", "info", "warn" or "error", got "loud"
f.toml:10: hub.ratio: want a number, got a string
f.toml:12: hub.repos.stable.titel: unknown key (did you mean title?)
f.toml:13: hub.repos.stable.depth: at most 10
f.toml:15: hub.repos.beta.depth: want an integer, got a string
f.toml:19: hub.sites[1].origin: want a string, got an integer
f.toml:20: edge: unknown key`
	if _, ok := errors.AsType[config.Problems](err); !ok {
		t.Fatalf("error is %T: %v", err, err)
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error(diff)
	}
}

// What stands in the file with the wrong type is not also reported as missing,
// nor what is inside it.
func TestWrongTypeIsReportedOnce(t *testing.T) {
	for file, want := range map[string]string{
		"[hub]\ndir = 3\n":            "1 problem in f.toml\nf.toml:2: hub.dir: want a string, got an integer",
		"hub = 3\n":                   "1 problem in f.toml\nf.toml:1: hub: want a table, got an integer",
		"[hub]\ndirr = \"x\"\n":       "2 problems in f.toml\nf.toml:1: hub.dir: is required: the folder\nf.toml:2: hub.dirr: unknown key (did you mean dir?)",
		"admin = 1\n[hub]\ndir='x'\n": "1 problem in f.toml\nf.toml:1: admin: want a string, got an integer",
		"[hub]\ndir='x'\nlimit=-1\n":  "1 problem in f.toml\nf.toml:3: hub.limit: want a size like 4096, \"500MB\" or \"10GiB\", got \"-1\"",
		"[hub]\ndir='x'\nlimit=1.5\n": "1 problem in f.toml\nf.toml:3: hub.limit: want a size like 4096, \"500MB\" or \"10GiB\", got a float",
		"[hub]\ndir='x'\nlevel=4\n":   "1 problem in f.toml\nf.toml:3: hub.level: want \"debug\", \"info\", \"warn\" or \"error\", got an integer",
		"[hub]\ndir='x'\ngrace=30\n":  "1 problem in f.toml\nf.toml:3: hub.grace: want a duration like \"90s\", \"15m\", \"24h\" or \"30d\", got an integer",
	} {
		err := config.Decode("f.toml", []byte(file), new(whole))
		if err == nil || err.Error() != want {
			t.Errorf("%q:\n%v, want\n%s", file, err, want)
		}
	}
}

// What flags change after the file was read counts, and problems still know
// their lines; files are looked for.
func TestCheckAfterChange(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f.toml")
	if err := os.WriteFile(path, []byte("[hub]\nport = 'x'\nkeys = ['absent', '.', 'f.toml']\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	var cfg whole
	f, err := config.Read("f.toml", &cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Hub.Dir = "by flag"
	const form = "f.toml:2: hub.port: want an integer, got a string"
	want := "3 problems in f.toml\n" + form + `
f.toml:3: hub.keys[0]: absent: no such file or directory
f.toml:3: hub.keys[1]: .: is a folder, want a file`
	if err := f.Check(cfg); err == nil || err.Error() != want {
		t.Errorf("%v, want\n%s", err, want)
	}
	if err := f.Form(); err == nil || err.Error() != "1 problem in f.toml\n"+form {
		t.Errorf("form: %v", err)
	}

	var none *config.File
	if err := none.Check(whole{}); err != nil {
		t.Errorf("no table: %v", err)
	}
	if err := none.Check(whole{Hub: new(hubTable)}); err == nil || err.Error() != "hub.dir: is required: the folder" {
		t.Errorf("no file: %v", err)
	}
}

func TestSyntaxError(t *testing.T) {
	err := config.Decode("f.toml", []byte("[hub]\ndir = \n"), new(whole))
	if err == nil || !strings.Contains(err.Error(), "\nf.toml:2: ") {
		t.Errorf("got %v", err)
	}
	err = config.Decode("f.toml", []byte("admin = 'a'\nadmin = 'b'\n"), new(whole))
	if err == nil || !strings.Contains(err.Error(), "\nf.toml:2: ") {
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

// inner is a part of several tables.
type inner struct {
	// Port is a part of the table around it.
	Port int `toml:"port"`
}

// outer has a table's own settings beside inner's.
type outer struct {
	Name string `toml:"name"`
	inner
	Last string `toml:"last"`
}

// The settings of an embedded struct are the table's own.
func TestEmbedded(t *testing.T) {
	var got outer
	if err := config.Decode("f.toml", []byte("name = \"n\"\nport = 7\nlast = \"l\"\n"), &got); err != nil {
		t.Fatal(err)
	}
	if want := (outer{Name: "n", inner: inner{Port: 7}, Last: "l"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	err := config.Decode("f.toml", []byte("port = \"x\"\npert = 7\n"), &got)
	if want := "2 problems in f.toml\nf.toml:1: port: want an integer, got a string\nf.toml:2: pert: unknown key (did you mean port?)"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	var keys []string
	for _, s := range config.Settings(outer{inner: inner{Port: 9}}, config.Docs{"freshet/internal/config_test.inner.Port": "documented"}) {
		keys = append(keys, s.Key+"="+s.Default+s.Doc)
	}
	if want := []string{`name=""`, "port=9documented", `last=""`}; !slices.Equal(keys, want) {
		t.Errorf("settings %q, want %q", keys, want)
	}
}
