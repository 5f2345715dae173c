package flatpak

import (
	"errors"
	"fmt"

	"freshet/internal/keyfile"
)

// ErrMetadata is wrapped by every error about the metadata of an application or
// runtime.
var ErrMetadata = errors.New("invalid flatpak metadata")

// Metadata is what a hub needs to know of the key file that every application
// and runtime carries as /metadata and as xa.metadata of its commit.
type Metadata struct {
	Kind    Kind   // App or Runtime, by the group that is there
	Name    string // the id
	Runtime string // ID/ARCH/BRANCH; empty for runtimes that stand by themselves
	SDK     string // ID/ARCH/BRANCH
	Command string // what runs when nothing else is said; applications only
	Tags    []string

	// ExtensionOf is the ref this runtime extends (group ExtensionOf); empty for others.
	ExtensionOf string
}

const (
	groupApplication = "Application"
	groupRuntime     = "Runtime"
	groupExtensionOf = "ExtensionOf"
)

// ParseMetadata reads a metadata file. Keys and groups it does not know are no
// error; a file that has neither an Application nor a Runtime group is one.
func ParseMetadata(text string) (Metadata, error) {
	file, err := keyfile.Parse([]byte(text))
	if err != nil {
		return Metadata{}, fmt.Errorf("%w: %w", ErrMetadata, err)
	}
	m := Metadata{}
	var group string
	switch {
	case file.HasGroup(groupApplication):
		m.Kind, group = App, groupApplication
	case file.HasGroup(groupRuntime):
		m.Kind, group = Runtime, groupRuntime
	default:
		return Metadata{}, fmt.Errorf("%w: there is neither a group Application nor a group Runtime", ErrMetadata)
	}
	m.Name, _ = file.Get(group, "name")
	m.Runtime, _ = file.Get(group, "runtime")
	m.SDK, _ = file.Get(group, "sdk")
	m.Command, _ = file.Get(group, "command")
	m.Tags = file.List(group, "tags")
	m.ExtensionOf, _ = file.Get(groupExtensionOf, "ref")
	return m, nil
}

// Bytes returns the metadata as a file, in the form flatpak itself writes. It
// needs a name.
func (m Metadata) Bytes() ([]byte, error) {
	if m.Name == "" {
		return nil, fmt.Errorf("%w: there is no name", ErrMetadata)
	}
	group := groupRuntime
	if m.Kind == App {
		group = groupApplication
	}
	file := &keyfile.File{}
	for _, kv := range [][2]string{{"name", m.Name}, {"runtime", m.Runtime}, {"sdk", m.SDK}, {"command", m.Command}} {
		if kv[1] == "" {
			continue
		}
		if err := file.Set(group, kv[0], kv[1]); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMetadata, err)
		}
	}
	if len(m.Tags) > 0 {
		if err := file.SetList(group, "tags", m.Tags); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMetadata, err)
		}
	}
	if m.ExtensionOf != "" {
		if err := file.Set(groupExtensionOf, "ref", m.ExtensionOf); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMetadata, err)
		}
	}
	return file.Bytes(), nil
}
