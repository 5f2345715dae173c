package manifest

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"freshet/internal/inventory"
)

// ContentType is the media type of a manifest.
const ContentType = "text/x-freshet-manifest"

const (
	magic       = "freshet-manifest 1"
	maxLine     = 4096 + 256 // the longest path of Linux, and room for the rest
	maxWord     = 128
	maxHeadLine = 16
)

// ErrFormat is wrapped by errors of what is not a manifest, or not a whole one.
var ErrFormat = errors.New("not a sound manifest")

// Head is what a manifest begins with.
type Head struct {
	// Project is the name of the project whose files these are.
	Project string
	// Generation is the mirror's name for the state that is told: up to 128 printable
	// ASCII characters without spaces, different for each state.
	Generation string
	// Base is the generation from which a delta starts. Empty: all files are told.
	Base string
	// At is when the state was looked at, in whole seconds. Zero: now.
	At time.Time
}

// check returns an error if the head cannot be written.
func (h Head) check() error {
	switch {
	case !isWord(h.Project):
		return fmt.Errorf("project %q: %w", h.Project, errWord)
	case !isWord(h.Generation):
		return fmt.Errorf("generation %q: %w", h.Generation, errWord)
	case h.Base != "" && !isWord(h.Base):
		return fmt.Errorf("base %q: %w", h.Base, errWord)
	}
	return nil
}

var errWord = fmt.Errorf("1 to %d printable characters without spaces belong here: %w", maxWord, ErrFormat)

func isWord(s string) bool {
	return s != "" && len(s) <= maxWord && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}

// Into says to a tree what the manifest tells of a holder. The errors are those of
// Replace and Apply, and of reading.
func (r *Reader) Into(t *inventory.Tree, h inventory.Holder) (inventory.Change, error) {
	if r.Head.Base == "" {
		return t.Replace(h, inventory.Listing{At: r.Head.At, Generation: r.Head.Generation, Entries: r.Entries()})
	}
	return t.Apply(h, inventory.Delta{At: r.Head.At, Base: r.Head.Base, Generation: r.Head.Generation, Entries: r.Entries()})
}
