// Package presets has what is known of projects that many mirrors carry: where they come
// from, what they consist of, how large they are. It is data, in presets.toml; a new
// project is a table there.
package presets

import (
	_ "embed" // presets.toml travels with the binary
	"fmt"
	"maps"
	"slices"
	"strings"

	"freshet/internal/config"
	"freshet/internal/mirror/project"
)

//go:embed presets.toml
var data []byte

// Preset is what is known of a project.
type Preset struct {
	// Name is that by which a configuration tells it.
	Name string

	// Title says in a few words what it is.
	Title string `toml:"title"`
	// Home is the page of the project about mirroring it.
	Home string `toml:"home"`
	// Size is about how large it is as it is preset, in the year Seen; 0 of each: not
	// known.
	Size config.Size `toml:"size"`
	Seen int         `toml:"seen"`
	// Whole is about how large all of the project is, of which this is a part, in the year
	// WholeSeen; 0 of each: not known.
	Whole     config.Size `toml:"whole"`
	WholeSeen int         `toml:"whole-seen"`
	// Keys says where the keys are had that sign what mirrors serve of it, or that nothing is signed.
	Keys string `toml:"keys"`
	// Notes are what an operator should know before.
	Notes string `toml:"notes"`
	// Text is what it says of the project, in TOML.
	Text string
	// Config is the same.
	Config project.Config `toml:"config"`
}

// All returns the presets by their names' order.
func All() ([]Preset, error) {
	var file struct {
		Presets map[string]Preset `toml:"presets"`
	}
	if err := config.Decode("presets.toml", data, &file); err != nil {
		return nil, err
	}
	list := make([]Preset, 0, len(file.Presets))
	for _, name := range slices.Sorted(maps.Keys(file.Presets)) {
		p := file.Presets[name]
		p.Name, p.Text = name, textOf(name)
		list = append(list, p)
	}
	return list, nil
}

// textOf is the text of a preset's config.
func textOf(name string) string {
	_, text, _ := strings.Cut(string(data), "[presets."+name+".config]\n")
	text, _, _ = strings.Cut(text, "\n\n")
	return strings.TrimSuffix(text, "\n") + "\n"
}

// Find returns the preset of that name; none for no name.
func Find(name string) (Preset, error) {
	if name == "" {
		return Preset{}, nil
	}
	all, err := All()
	if err != nil {
		return Preset{}, err
	}
	var names []string
	for _, p := range all {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return Preset{}, fmt.Errorf("there is no preset %q, but %s", name, strings.Join(names, ", "))
}
