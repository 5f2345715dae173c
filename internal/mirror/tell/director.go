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
)

// Generation is what a mirror serves of a project.
type Generation interface {
	// Name is the generation's own, also among those of other mirrors and of this one
	// before it lost its disk: 1 to 128 printable ASCII characters without spaces.
	Name() string
	// Entries yields its files in the order of their paths, as bytes.
	Entries() iter.Seq2[inventory.Entry, error]
	// Since yields what leads here from the generation that has this Name, in the order
	// of paths: files that are new or are not the same, and what is Gone. It is false if
	// that is not here any more.
	Since(name string) (iter.Seq2[inventory.Entry, error], bool)
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

// tell brings the director to the generation now. If it is known to have another one,
// that may be by what differs from it.
func (d *Director) tell(ctx context.Context, project string, now Generation, known string) error {
	if other := d.Projects[project]; other != "" {
		project = other
	}
	if changes, ok := since(now, known); ok {
		err := d.push(ctx, project, func(w io.Writer) error {
			return write(w, manifest.Head{Project: project, Generation: now.Name(), Base: known}, changes)
		})
		if reasonOf(err) != reasonGap {
			return err
		}
	}
	all := func(w io.Writer) error {
		return write(w, manifest.Head{Project: project, Generation: now.Name()}, now.Entries())
	}
	err := d.push(ctx, project, all)
	if reasonOf(err) == reasonShrunk {
		// The mirror has made sure of that before it switched.
		err = d.push(ctx, project, all)
	}
	return err
}

// since is what leads to the generation now; false: it is not known from where.
func since(now Generation, known string) (iter.Seq2[inventory.Entry, error], bool) {
	switch known {
	case "":
		return nil, false
	case now.Name():
		return func(func(inventory.Entry, error) bool) {}, true
	}
	return now.Since(known)
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

// write writes a manifest.
func write(to io.Writer, head manifest.Head, entries iter.Seq2[inventory.Entry, error]) error {
	w, err := manifest.NewWriter(to, head)
	if err != nil {
		return err
	}
	for e, err := range entries {
		if err != nil {
			return fmt.Errorf("manifest of generation %s: %w", head.Generation, err)
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
