package scan

import (
	"cmp"
	"time"

	"freshet/api/directorapi"
)

// key names what is scanned. The mirror of an origin is "".
type key struct{ mirror, project string }

// target is what the catalogue says of something that is scanned.
type target struct {
	key
	how directorapi.How
	// base is the URL of the tree on a web server, empty if there is none; source is
	// what is read: a URL, or the path of a folder.
	base, source string
	every        time.Duration
}

const defaultEvery = 30 * time.Minute

// origin reports whether it is an origin, by whose files those of mirrors are known.
func (t target) origin() bool { return t.mirror == "" }

// pushed reports whether it tells by itself what it has.
func (t target) pushed() bool { return t.how == directorapi.HowManifest }

// targets are what a catalogue wants scanned.
func targets(c *directorapi.Catalogue) map[key]target {
	all := make(map[key]target)
	for i := range c.Projects {
		p := &c.Projects[i]
		if p.Disabled || p.Inventory.How == directorapi.HowNone {
			continue
		}
		base := ""
		if len(p.Origins) > 0 {
			base = p.Origins[0]
		}
		t := newTarget(key{project: p.Name}, p.Inventory, base, "")
		all[t.key] = t
	}
	for i := range c.Mirrors {
		m := &c.Mirrors[i]
		if m.Disabled {
			continue
		}
		for _, carried := range m.Carries {
			// Without the origin's files those of mirrors say nothing.
			_, known := all[key{project: carried.Project}]
			if carried.Inventory.How != directorapi.HowNone && known {
				t := newTarget(key{m.Name, carried.Project}, carried.Inventory, cmp.Or(carried.HTTPS, carried.HTTP), carried.RSYNC)
				all[t.key] = t
			}
		}
	}
	return all
}

func newTarget(k key, s directorapi.Source, base, rsync string) target {
	t := target{key: k, how: s.How, base: base, source: s.URL, every: cmp.Or(time.Duration(s.Every), defaultEvery)}
	switch s.How {
	case directorapi.HowRsync:
		t.source = cmp.Or(s.URL, rsync)
	case directorapi.HowHTTP:
		t.source = cmp.Or(s.URL, base)
	case directorapi.HowFileList:
		t.source = cmp.Or(s.URL, base+"fullfiletimelist-"+k.project)
	default:
	}
	return t
}

// same reports whether what is known by one target is known by the other.
func (t target) same(o target) bool { return t.how == o.how && t.source == o.source }
