package directorapi

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
)

// Project returns the project of that name, nil if there is none. It must not be changed.
func (c *Catalogue) Project(name string) *Project {
	return find(c.Projects, name, func(p *Project) string { return p.Name })
}

// Site returns the site of that name, nil if there is none. It must not be changed.
func (c *Catalogue) Site(name string) *Site {
	return find(c.Sites, name, func(s *Site) string { return s.Name })
}

// Mirror returns the mirror of that name, nil if there is none. It must not be changed.
func (c *Catalogue) Mirror(name string) *Mirror {
	return find(c.Mirrors, name, func(m *Mirror) string { return m.Name })
}

// find looks a name up in a sorted list.
func find[T any](list []T, name string, of func(*T) string) *T {
	i, ok := slices.BinarySearchFunc(list, name, func(item T, name string) int { return cmp.Compare(of(&item), name) })
	if !ok {
		return nil
	}
	return &list[i]
}

// Slug makes a name of a catalogue of another one: what cannot stand in it becomes "-".
// It is empty if nothing is left.
func Slug(name string) string {
	const limit = 64
	slug := []byte(strings.ToLower(name))
	for i, b := range slug {
		switch {
		case 'a' <= b && b <= 'z', '0' <= b && b <= '9', b == '.', b == '_':
		default:
			slug[i] = '-'
		}
	}
	slug = bytes.Trim(slug, "-._")
	return string(slug[:min(len(slug), limit)])
}
