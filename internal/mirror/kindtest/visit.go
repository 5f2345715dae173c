package kindtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"strings"

	"freshet/internal/layout"
	"freshet/internal/mirror/kind"
)

// FolderTree is the tree in a folder.
func FolderTree(dir string) kind.Tree {
	fsys := os.DirFS(dir)
	return kind.Tree{
		Open: func(_ context.Context, name string) (fs.File, error) { return fsys.Open(name) },
		List: func(context.Context) iter.Seq2[kind.File, error] {
			return func(yield func(kind.File, error) bool) {
				_ = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
					var f kind.File
					if f.Path = name; err == nil && d.IsDir() {
						return nil
					}
					if !yield(f, err) {
						return fs.SkipAll
					}
					return nil
				})
			}
		},
	}
}

// Visit does what a client does with a tree: from the pointers through the indexes to
// every package, each once. Packages are had from payload; everything else from the tree. It
// returns how many files there are; of a plain tree the error may be [ErrMixed].
func Visit(ctx context.Context, c kind.Config, tree kind.Tree, payload kind.Open) (files int, err error) {
	if c.Format == kind.Plain {
		return visitPlain(ctx, tree, payload)
	}
	k, err := kind.New(c)
	if err != nil {
		return 0, err
	}
	read := make(map[string]bool)
	open := tree.Open
	tree.Open = func(ctx context.Context, name string) (fs.File, error) {
		read[name] = true
		return open(ctx, name)
	}
	list, err := k.Repositories(ctx, tree)
	if err != nil {
		return 0, err
	}
	for _, r := range list {
		if _, err := k.Version(ctx, tree.Open, r); err != nil {
			return files, err
		}
		var rest, packages []kind.File
		for f, err := range k.Files(ctx, tree, r, nil) {
			switch {
			case err != nil:
				return files, err
			case f.Class == layout.Payload:
				packages = append(packages, f)
			case !read[f.Path]:
				rest = append(rest, f)
			}
		}
		for _, f := range rest {
			if err := fetch(ctx, open, f); err != nil {
				return files, fmt.Errorf("%s names %w", r.Pointer, err)
			}
		}
		for _, f := range packages {
			if err := fetch(ctx, payload, f); err != nil {
				return files, fmt.Errorf("%s names %w", r.Pointer, err)
			}
		}
		files += len(read) + len(rest) + len(packages)
	}
	return files, nil
}

// fetch reads a file and compares it with what is known of it.
func fetch(ctx context.Context, open kind.Open, f kind.File) error {
	in, err := open(ctx, f.Path)
	if errors.Is(err, fs.ErrNotExist) && f.Optional {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // opened for reading
	return kind.Verify(f, in)
}

// ErrMixed says that files of a plain tree are of several versions.
var ErrMixed = errors.New("files of several versions")

// visitPlain looks whether all files are of one version.
func visitPlain(ctx context.Context, tree kind.Tree, payload kind.Open) (files int, err error) {
	version := ""
	for f, err := range tree.List(ctx) {
		if err != nil {
			return files, err
		}
		in, err := payload(ctx, f.Path)
		if err != nil {
			return files, err
		}
		text, err := io.ReadAll(in)
		_ = in.Close()
		if err != nil {
			return files, err
		}
		files++
		if !strings.HasPrefix(string(text), "version ") {
			continue
		}
		if version == "" {
			version = string(text)
		}
		if version != string(text) {
			return files, fmt.Errorf("%w: %q is of %s, another of %s", ErrMixed, f.Path, text, version)
		}
	}
	return files, nil
}
