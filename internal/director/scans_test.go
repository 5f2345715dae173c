package director_test

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"freshet/api/directorapi"
	"freshet/internal/director"
	"freshet/internal/rsync"
)

// Mirrors and origins are listed by the program that the configuration names.
func TestRsyncOfScans(t *testing.T) {
	const program = "/nowhere/rsync"
	w := startFleet(t, false, func(c *director.Config) {
		text, err := os.ReadFile(c.Catalogue)
		if err != nil {
			t.Fatal(err)
		}
		var all directorapi.Catalogue
		if err := json.Unmarshal(text, &all); err != nil {
			t.Fatal(err)
		}
		all.Projects[0].Inventory = directorapi.Source{How: directorapi.HowRsync, URL: "rsync://origin.example/pub/"}
		if text, err = json.Marshal(all); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(c.Catalogue, text, 0o600); err != nil {
			t.Fatal(err)
		}
		c.State = t.TempDir() // where nothing is known
		c.NoScans, c.Rsync = false, rsync.Options{Path: program}
	})
	w.log.await(program)
}

// What is wrong with the settings of scans is told by its key, as is what has no effect.
func TestSettingsOfScansAreChecked(t *testing.T) {
	for _, tt := range []struct {
		cfg  director.Config
		want []string
	}{
		{director.Config{State: "s", ScanRate: 5, ScansAtOnce: 1, Rsync: rsync.Options{AnyVersion: true}}, nil},
		{director.Config{State: "s", ScanRate: -1, ScansAtOnce: -1}, []string{"scans-at-once", "scan-rate"}},
		{
			director.Config{Snapshot: "s", ScanRate: 5, ScansAtOnce: 1, Rsync: rsync.Options{AnyVersion: true}},
			[]string{"scans-at-once", "scan-rate", "rsync"},
		},
	} {
		var got []string
		for _, p := range tt.cfg.Validate() {
			got = append(got, p.Key)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%+v: %q, want %q", tt.cfg, got, tt.want)
		}
	}
}
