package tell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"freshet/api/directorapi"
	"freshet/internal/inventory"
	"freshet/internal/inventory/manifest"
	"freshet/internal/mirror/generation"
)

// Generation is what a mirror serves of a project.
type Generation interface {
	// Name is the generation's own, also among those of other mirrors and of this one
	// before it lost its disk: 1 to 128 printable ASCII characters without spaces.
	Name() string
	// Entries yields its files in the order of their paths, as bytes.
	Entries() iter.Seq2[inventory.Entry, error]
}

// Director is a director, and what it calls this mirror.
type Director struct {
	// Name is that of the configuration, by which it is told apart from others.
	Name string
	API  *directorapi.Client
	// Mirror is the name of this mirror in the director's catalogue.
	Mirror string
	// Projects are the names that the director's catalogue has for the projects that it
	// is told of, by the mirror's own. One with an empty name has the same there.
	Projects map[string]string
}

// reasons of a director that has not taken a manifest.
const (
	reasonGap    = "gap"
	reasonShrunk = "shrunk"
)

// tell brings the director to the generation now. If it seems to know another one, base,
// that may be what differs from it; otherwise base is nil.
func (d *Director) tell(ctx context.Context, project string, now, base Generation) error {
	if other := d.Projects[project]; other != "" {
		project = other
	}
	if base != nil {
		err := d.push(ctx, project, func(w io.Writer) error { return writeDelta(w, project, base, now) })
		if reasonOf(err) != reasonGap {
			return err
		}
	}
	all := func(w io.Writer) error { return writeAll(w, project, now) }
	err := d.push(ctx, project, all)
	if reasonOf(err) == reasonShrunk {
		// The mirror has made sure of that before it switched.
		err = d.push(ctx, project, all)
	}
	return err
}

func (d *Director) push(ctx context.Context, project string, write func(io.Writer) error) error {
	return d.API.PushManifest(ctx, d.Mirror, project, write)
}

func reasonOf(err error) string {
	if answer, ok := errors.AsType[*directorapi.Error](err); ok {
		return answer.Reason
	}
	return ""
}

func writeAll(to io.Writer, project string, now Generation) error {
	w, err := manifest.NewWriter(to, manifest.Head{Project: project, Generation: now.Name()})
	if err != nil {
		return err
	}
	for e, err := range now.Entries() {
		if err != nil {
			return fmt.Errorf("manifest of generation %s: %w", now.Name(), err)
		}
		if err := add(w, e); err != nil {
			return err
		}
	}
	return w.Close()
}

// writeDelta writes what is different in now. Both are read once, beside one another.
func writeDelta(to io.Writer, project string, base, now Generation) error {
	w, err := manifest.NewWriter(to, manifest.Head{Project: project, Generation: now.Name(), Base: base.Name()})
	if err != nil {
		return err
	}
	if base.Name() == now.Name() {
		return w.Close()
	}
	for e, err := range changes(base.Entries(), now.Entries()) {
		if err != nil {
			return fmt.Errorf("manifests of generations %s and %s: %w", base.Name(), now.Name(), err)
		}
		if err := add(w, e); err != nil {
			return err
		}
	}
	return w.Close()
}

// add writes an entry, unless directors know no files with such paths.
func add(w *manifest.Writer, e inventory.Entry) error {
	if err := inventory.CheckPath(e.Path); err == nil {
		return w.Add(e)
	}
	return nil
}

// changes yields what leads from one list to another, both in the order of paths.
func changes(before, after iter.Seq2[inventory.Entry, error]) iter.Seq2[inventory.Entry, error] {
	path := func(e *inventory.Entry) string { return e.Path }
	return func(yield func(inventory.Entry, error) bool) {
		for pair, err := range generation.Join(before, after, path, path) {
			var e inventory.Entry
			switch {
			case err != nil:
			case pair.Right == nil:
				e = inventory.Entry{Path: pair.Path, Gone: true}
			case pair.Left != nil && isSame(pair.Left, pair.Right):
				continue
			default:
				e = *pair.Right
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

func isSame(a, b *inventory.Entry) bool {
	return a.Size == b.Size && a.SHA256 == b.SHA256 && a.ModTime.Unix() == b.ModTime.Unix()
}
