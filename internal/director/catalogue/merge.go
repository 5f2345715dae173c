package catalogue

import (
	"slices"

	"freshet/api/directorapi"
)

// Merge puts what was imported from elsewhere into a catalogue. Projects that are there
// stay as they are; sites and mirrors become what the import says, but for the tokens of
// mirrors and for what they carry of other projects.
func Merge(into, from *directorapi.Catalogue) {
	sorted(into)
	for _, p := range from.Projects {
		if into.Project(p.Name) == nil {
			into.Projects = append(into.Projects, p)
		}
	}
	into.Sites = keepOthers(slices.Clone(from.Sites), into.Sites, func(s directorapi.Site) string { return s.Name })
	mirrors := make([]directorapi.Mirror, 0, len(from.Mirrors))
	for _, m := range from.Mirrors {
		if old := into.Mirror(m.Name); old != nil {
			m.Token = old.Token
			m.Carries = slices.Clone(m.Carries)
			for _, c := range old.Carries {
				if !slices.ContainsFunc(m.Carries, func(n directorapi.Carried) bool { return n.Project == c.Project }) {
					m.Carries = append(m.Carries, c)
				}
			}
		}
		mirrors = append(mirrors, m)
	}
	into.Mirrors = keepOthers(mirrors, into.Mirrors, func(m directorapi.Mirror) string { return m.Name })
	sorted(into)
}

// keepOthers adds those of old to list that have other names.
func keepOthers[T any](list, old []T, name func(T) string) []T {
	names := make(map[string]bool, len(list))
	for _, item := range list {
		names[name(item)] = true
	}
	for _, item := range old {
		if !names[name(item)] {
			list = append(list, item)
		}
	}
	return list
}
