package closure

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"freshet/internal/layout"
	"freshet/internal/rpmmd"
)

func (w *walker) rpm(root, name string) error {
	text, pointer, err := w.readPointer(name, rpmmd.MaxRepomdSize)
	if err != nil {
		return err
	}
	repomd, err := rpmmd.ParseRepomd(bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	primary := make(map[string][]File) // by type
	for _, d := range repomd.Data {
		if d.Base != "" {
			continue // somewhere else
		}
		target, err := below(root, d.Href)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		sum, err := sumOf(d.Checksum.Type, d.Checksum.Value)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", name, target, err)
		}
		f := File{Path: target, Size: d.Size, Sum: sum, Class: layout.Index}
		primary[d.Type] = append(primary[d.Type], f)
		if err := w.emit(f); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	// The second has the same content as the first, for clients that know it.
	for _, kind := range []string{"primary", "primary_zck"} {
		if len(primary[kind]) == 0 {
			continue
		}
		for _, f := range primary[kind] {
			if err := w.primary(root, name, f); err != nil {
				return err
			}
		}
		break
	}
	for _, beside := range []string{".asc", ".key"} {
		if err := w.companion(name + beside); err != nil {
			return err
		}
	}
	return w.emit(pointer)
}

// primary yields the packages that an index names, relative to root.
func (w *walker) primary(root, by string, index File) error {
	err := w.walkIndex(by, index.Path, index.Size, index.Sum, func(r io.Reader) error {
		for p, err := range rpmmd.Packages(r) {
			if err != nil {
				return err
			}
			if p.Base != "" || strings.Contains(p.Href, "://") {
				continue // somewhere else
			}
			if err := w.rpmPackage(root, p); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return Disagree(index.Path, "%s names %s, which is not there", by, index.Path)
	}
	return err
}

func (w *walker) rpmPackage(root string, p rpmmd.Package) error {
	full, err := below(root, p.Href)
	if err != nil {
		return err
	}
	sum, err := sumOf(p.Checksum.Type, p.Checksum.Value)
	if err != nil {
		return fmt.Errorf("%.300q: %w", p.Href, err)
	}
	return w.emit(File{Path: full, Size: p.Size, Sum: sum})
}
