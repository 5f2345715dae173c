package quarantine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"

	"freshet/internal/durable"
	"freshet/internal/hub/repolock"
)

// repairs is the folder, below a repository, of the repairs that caches have not been
// told of: an empty file for each, with the escaped path as its name.
const repairs = ".upkeep/repaired"

// Repaired notes that a file of which wrong bytes may have been served gets its place
// now. Caches that hold them are to be told, by [Repairs]; it is called before the file
// has its place, so that no crash comes between, by who holds the lock of the
// repository until it has.
func Repaired(dir durable.Dir, path string) error {
	if err := dir.MkdirAll(repairs, 0o750); err != nil {
		return err
	}
	if err := dir.WriteFile(repairs+"/"+url.PathEscape(path), nil, 0o640); err != nil {
		return fmt.Errorf("note the repair: %w", err)
	}
	return nil
}

// Repairs lists the files that were repaired and of which nobody was told, at most limit
// of them. It waits for those that are being repaired. A repair that was cut short is
// among them, too: that a file is asked for again harms nobody.
func Repairs(ctx context.Context, root *os.Root, limit int) (paths []string, err error) {
	if entries, err := fs.ReadDir(root.FS(), repairs); len(entries) == 0 {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil // there never was one
		}
		return nil, err
	}
	lock, err := repolock.Exclusive(ctx, root)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	entries, err := fs.ReadDir(root.FS(), repairs)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		path, err := url.PathUnescape(entry.Name())
		if err != nil || !fs.ValidPath(path) || len(paths) == limit {
			continue
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// Told forgets repairs of which everybody was told.
func Told(dir durable.Dir, paths []string) (err error) {
	for _, path := range paths {
		err = errors.Join(err, dir.Remove(repairs+"/"+url.PathEscape(path)))
	}
	return err
}
