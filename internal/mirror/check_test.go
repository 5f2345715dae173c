package mirror_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"freshet/internal/config"
	"freshet/internal/mirror"
	"freshet/internal/mirror/project"
)

// What a mirror would not start with is found by a look at the configuration.
func TestCheckFindsWhatWouldNotStart(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	up := []string{"https://upstream.example/"}
	cfg := mirror.Config{
		Directory: t.TempDir(), Keys: map[string]string{"text.asc": "garbage"},
		Projects: map[string]project.Config{
			"file": {Kind: "rpm", Upstreams: up, Keys: []string{file}},
			"text": {Kind: "deb", Upstreams: up, Keys: []string{"text.asc"}},
			"gone": {Kind: "rpm", Upstreams: up, Keys: []string{file + "2"}},
			"hot":  {Kind: "ostree", Upstreams: up, Repositories: []string{"a", "b"}, HotSet: 1 << 30},
			"epel": {Preset: "epel", Releases: []string{"10"}, Keys: []string{file}},
		},
	}
	problems, _ := errors.AsType[config.Problems]((*config.File)(nil).Check(cfg))
	var keys []string
	for _, p := range problems {
		keys = append(keys, p.Key)
	}
	slices.Sort(keys)
	want := []string{"projects.epel.keys[0]", "projects.file.keys[0]", "projects.gone.keys[0]", "projects.hot.repositories", "projects.text.keys[0]"}
	if !slices.Equal(keys, want) {
		t.Errorf("%q: %v", keys, problems)
	}
}
