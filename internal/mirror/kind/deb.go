package kind

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"

	"freshet/internal/apt"
	"freshet/internal/checksums"
	"freshet/internal/closure"
	"freshet/internal/glob"
	"freshet/internal/layout"
)

// debIndexes are the indexes of a suite that are wanted, by their path in the Release.
type debIndexes struct {
	files  map[string]apt.File
	byHash bool
}

func (d *debIndexes) has(name string) bool {
	_, ok := d.files[name]
	return ok
}

// debIndexes reads the Release of a suite and chooses of its indexes.
func (k *Kind) debIndexes(ctx context.Context, open Open, r Repository) (*debIndexes, error) {
	text, err := readAll(ctx, open, r.Pointer, apt.MaxReleaseSize)
	if err != nil {
		return nil, err
	}
	release, err := apt.ParseRelease(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.Pointer, err)
	}
	dir := path.Dir(r.Pointer)
	d := &debIndexes{files: make(map[string]apt.File, len(release.Files)), byHash: release.ByHash}
	for _, f := range release.Files {
		if k.wantsIndex(f.Path) && !glob.MatchAny(k.config.Exclude, path.Join(dir, f.Path)) {
			d.files[f.Path] = f
		}
	}
	// Of an index that is there compressed, the plain form is only named: no archive of
	// today has it, and no client asks for it. An empty one says that there is nothing.
	for _, f := range release.Files {
		if f.Size > 0 && (d.has(f.Path+".xz") || d.has(f.Path+".gz") || d.has(f.Path+".zst")) {
			delete(d.files, f.Path)
		}
	}
	return d, nil
}

// besidesIndexes yields the differences between versions of indexes, which lists of them name
// ("Packages.diff/Index"), and images of the installer. Clients do without what is not
// there.
func (k *Kind) besidesIndexes(ctx context.Context, open Open, r Repository, d *debIndexes, yield func(File) bool) error {
	dir := path.Dir(r.Pointer)
	for _, name := range slices.Sorted(maps.Keys(d.files)) {
		full := path.Join(dir, name)
		var read func(io.Reader) iter.Seq2[closure.File, error]
		switch {
		case strings.HasSuffix(name, ".diff/Index"):
			read = d.diffs
		case strings.HasSuffix(name, "/images/SHA256SUMS"):
			read = listedImages
		default:
			continue
		}
		if err := k.besides(ctx, open, full, d.files[name], read, yield); err != nil {
			return err
		}
	}
	return nil
}

// besides yields the files that a list in an index's place names.
func (k *Kind) besides(ctx context.Context, open Open, name string, by apt.File, read func(io.Reader) iter.Seq2[closure.File, error], yield func(File) bool) error {
	text, err := readAll(ctx, open, name, maxSumList)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	if by.SHA256 != "" && hex.EncodeToString(sum[:]) != by.SHA256 {
		return closure.Disagree(name, "%s has not the checksum that its Release says", name)
	}
	for f, err := range read(bytes.NewReader(text)) {
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		f.Path, f.Optional = path.Join(path.Dir(name), f.Path), true
		if !glob.MatchAny(k.config.Exclude, f.Path) && !yield(File{File: f}) {
			return errStopped
		}
	}
	return nil
}

// diffs reads a list of differences, under their names and, where clients ask for those,
// their hashes.
func (d *debIndexes) diffs(r io.Reader) iter.Seq2[closure.File, error] {
	return func(yield func(closure.File, error) bool) {
		for e, err := range apt.Diffs(r) {
			if err != nil {
				yield(closure.File{}, err)
				return
			}
			value, _ := hex.DecodeString(e.SHA256)
			f := closure.File{Path: e.Path, Size: e.Size, Sum: closure.Sum{Hash: crypto.SHA256, Value: string(value)}, Class: layout.Index}
			if !yield(f, nil) {
				return
			}
			f.Path = "by-hash/SHA256/" + e.SHA256
			if d.byHash && !yield(f, nil) {
				return
			}
		}
	}
}

// listedImages reads a list of an installer's images.
func listedImages(r io.Reader) iter.Seq2[closure.File, error] {
	return func(yield func(closure.File, error) bool) {
		for e, err := range checksums.Read(r) {
			if err != nil {
				yield(closure.File{}, err)
				return
			}
			f := closure.File{Path: e.Name, Size: e.Size, Sum: closure.Sum{Hash: e.Hash, Value: e.Sum}, Class: layout.Index}
			if e.Name != "" && !yield(f, nil) {
				return
			}
		}
	}
}

// wantsIndex tells whether a file that a Release names is for a component and an
// architecture that are wanted, by its path in the folder of the suite.
func (k *Kind) wantsIndex(name string) bool {
	parts := strings.Split(name, "/")
	if len(k.config.Components) > 0 && len(parts) > 1 && !k.hasComponent(name) {
		return false
	}
	for _, part := range parts {
		if strings.HasPrefix(part, "installer-") && !k.config.ISO {
			return false // the list of the installer's images
		}
		switch about, arch := debPart(part); about {
		case "source":
			if !k.config.Source {
				return false
			}
		case "arch":
			if !k.arches.has(arch) {
				return false
			}
		}
	}
	return true
}

// hasComponent tells whether a path is of a wanted component. Those of "updates/main" lie
// in the folder "main" of suites that are called so for short.
func (k *Kind) hasComponent(name string) bool {
	return slices.ContainsFunc(k.config.Components, func(c string) bool {
		return strings.HasPrefix(name, c+"/") || strings.HasPrefix(name, path.Base(c)+"/")
	})
}

// debPart tells what an element of an index's path is about: "binary-amd64",
// "Contents-udeb-amd64.gz", "Components-amd64.yml.xz", "installer-amd64", "source".
func debPart(part string) (about, arch string) {
	kind, rest, ok := strings.Cut(part, "-")
	rest, _, _ = strings.Cut(rest, ".")
	switch {
	case part == "source" || part == "Sources" || strings.HasPrefix(part, "Sources."):
		return "source", ""
	case !ok:
		return "", ""
	}
	switch kind {
	case "binary", "installer", "Commands", "Components", "Contents":
		if rest = strings.TrimPrefix(rest, "udeb-"); rest == "source" {
			return "source", ""
		}
		if rest == "all" || family(rest) != "" || kind == "binary" || kind == "installer" {
			return "arch", rest
		}
	}
	return "", ""
}
