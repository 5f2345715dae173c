package presets_test

import (
	"reflect"
	"strings"
	"testing"

	"freshet/internal/config"
	"freshet/internal/mirror/presets"
	"freshet/internal/mirror/project"
)

// Each preset is a project by itself, and its text says the same as its values.
func TestPresets(t *testing.T) {
	all, err := presets.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if problems := p.Config.Validate(); len(problems) > 0 {
			t.Errorf("%s: %v", p.Name, config.Problems(problems))
		}
		if p.Title == "" || !strings.HasPrefix(p.Home, "https://") || p.Config.Schedule == "" {
			t.Errorf("%s: no title, page or schedule: %+v", p.Name, p)
		}
		if p.Keys == "" || (p.Seen != 0) && p.Size == 0 || p.Whole > 0 && p.Size >= p.Whole {
			t.Errorf("%s: keys %q, size %v of %v", p.Name, p.Keys, p.Size, p.Whole)
		}
		if err := project.CheckName(p.Name); err != nil {
			t.Error(err)
		}
		var again struct {
			P project.Config `toml:"p"`
		}
		if err := config.Decode(p.Name, []byte("[p]\n"+p.Text), &again); err != nil || !reflect.DeepEqual(again.P, p.Config) {
			t.Errorf("%s: its text says %+v, %v", p.Name, again.P, err)
		}
		if found, err := presets.Find(p.Name); err != nil || found.Name != p.Name {
			t.Errorf("%s: %v, %v", p.Name, found.Name, err)
		}
	}
	for name, kind := range map[string]string{
		"epel": "rpm", "fedora": "rpm", "almalinux": "rpm", "rocky": "rpm", "archlinux": "arch", "manjaro": "arch", "opensuse-tumbleweed": "rpm", "debian": "deb",
		"ubuntu": "deb", "alpine": "alpine", "kali-images": "images", "gimp": "images", "videolan": "images", "flathub": "ostree",
	} {
		if p, err := presets.Find(name); err != nil || p.Config.Kind != kind || len(p.Config.Upstreams) == 0 {
			t.Errorf("%s: %s from %q, %v, want %s", name, p.Config.Kind, p.Config.Upstreams, err, kind)
		}
	}
	if _, err := presets.Find("epol"); err == nil || !strings.Contains(err.Error(), "epel") {
		t.Errorf("an unknown one: %v", err)
	}
}

// What a project says itself goes before its preset; a list that is empty is said.
func TestOver(t *testing.T) {
	epel, err := presets.Find("epel")
	if err != nil {
		t.Fatal(err)
	}
	own := project.Config{Schedule: "never", With: []string{}, Releases: []string{"10"}}
	got := own.Over(epel.Config)
	if got.Schedule != "never" || len(got.With) != 0 || got.With == nil || got.Releases[0] != "10" || got.Kind != "rpm" || len(got.Upstreams) == 0 {
		t.Errorf("%+v", got)
	}
}
