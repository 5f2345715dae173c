package fetch

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"

	"freshet/internal/rsync"
)

// temporary is what rsync calls a file while it comes (get_tmpname in receiver.c).
var temporary = regexp.MustCompile(`^\.(?s:.+)\.[A-Za-z0-9]{6}$`)

// Tidy removes what rsyncs that were killed have left in the folder of a job, and none goes on
// with. A file that is really called so comes again. No job may be under way there.
func Tidy(ctx context.Context, folder string) error {
	return walk(ctx, folder, func(root *os.Root, path string, e fs.DirEntry) error {
		if e.Type().IsRegular() && temporary.MatchString(e.Name()) {
			return root.Remove(path)
		}
		return nil
	})
}

// makeWay removes from the folder of a job what transfers before have left in the way of what is
// wanted: folders where a file is to be, and files where a folder is.
func makeWay(ctx context.Context, folder string, wants []Want) error {
	paths := make([]string, len(wants))
	for i, w := range wants {
		paths[i] = w.Path
	}
	slices.Sort(paths)
	return walk(ctx, folder, func(root *os.Root, path string, e fs.DirEntry) error {
		if !e.IsDir() {
			below := path + "/"
			if i, _ := slices.BinarySearch(paths, below); i < len(paths) && strings.HasPrefix(paths[i], below) {
				return root.Remove(path)
			}
			return nil
		}
		if _, inTheWay := slices.BinarySearch(paths, path); inTheWay {
			if err := root.RemoveAll(path); err != nil {
				return err
			}
			return fs.SkipDir
		}
		return nil
	})
}

// walk visits what is in the folder of a job, but for what partial transfers are kept in. What goes
// meanwhile is passed over.
func walk(ctx context.Context, folder string, visit func(root *os.Root, path string, e fs.DirEntry) error) (err error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	return fs.WalkDir(root.FS(), ".", func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case path == ".":
			return nil
		case e.IsDir() && (e.Name() == PartsFolder || e.Name() == rsync.PartialFolder):
			return fs.SkipDir
		}
		return visit(root, path, e)
	})
}
