package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"time"

	"freshet/internal/mirror/fetch"
	"freshet/internal/mirror/kind"
)

// Upstream is where a project comes from.
type Upstream struct {
	// Sources have the project, the best first. The small files in which everything begins
	// are those of the first one that answers.
	Sources []fetch.Source
	// Unusable says why a source of the project is not among them; nil: all are.
	Unusable error
	// Siblings have files of it under their hashes; nil: there are none.
	Siblings *fetch.Fleet
}

// errNoSource says that there is nowhere to ask.
var errNoSource = fmt.Errorf("no upstream of the project can be used: %w", fetch.ErrUnreachable)

// noSource is the error when there is no source.
func (u *Upstream) noSource() error {
	if u.Unusable == nil {
		return errNoSource
	}
	return fmt.Errorf("%w: %w", errNoSource, u.Unusable)
}

// maxSmall is the longest of the files that are read into memory.
const maxSmall = 64 << 20

// read reads a small file from the first source that answers.
func (u *Upstream) read(ctx context.Context, name string, v fetch.Validator) (f fetch.File, from string, err error) {
	var said fetch.Each
	for _, s := range u.Sources {
		f, err = s.Read(ctx, name, maxSmall, v)
		if err == nil || errors.Is(err, fs.ErrNotExist) || ctx.Err() != nil {
			return f, s.URL(), err
		}
		said = said.Said(s.URL(), err)
	}
	if len(u.Sources) == 0 {
		return f, "", u.noSource()
	}
	return f, "", said.Err()
}

// List lists the tree at the first source that can tell anything. Entries of a source
// that then fails end the listing. The error names each source that could not.
func (u *Upstream) List(ctx context.Context) iter.Seq2[kind.File, error] {
	return func(yield func(kind.File, error) bool) {
		if len(u.Sources) == 0 {
			yield(kind.File{}, u.noSource()) // which is not the same as a tree without files
			return
		}
		var said fetch.Each
		for _, s := range u.Sources {
			begun := false
			var failed error
			for e, err := range s.List(ctx, ".") {
				if err != nil && !begun {
					failed = err
					break
				}
				begun = true
				f, ok := fileOf(e)
				if err == nil && !ok {
					continue
				}
				if !yield(f, err) || err != nil {
					return
				}
			}
			if failed == nil {
				return
			}
			said = said.Said(s.URL(), failed)
		}
		yield(kind.File{}, said.Err())
	}
}

// fileOf is an entry that a mirror has: a file or link that everybody may read.
func fileOf(e fetch.Entry) (kind.File, bool) {
	var f kind.File
	if e.Private || e.Type != 'f' && (e.Type != 'l' || e.Target == "") {
		return f, false
	}
	f.Path, f.Size = e.Path, e.Size
	if e.Type == 'l' {
		f.Size, f.Link = 0, e.Target
		return f, true
	}
	f.ModTime, f.Sum = e.ModTime.Truncate(time.Second), e.Sum
	return f, true
}
