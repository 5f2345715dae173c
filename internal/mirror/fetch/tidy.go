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
func Tidy(ctx context.Context, folder string) (err error) {
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
		case e.IsDir() && (e.Name() == PartsFolder || e.Name() == rsync.PartialFolder):
			return fs.SkipDir
		case e.Type().IsRegular() && temporary.MatchString(e.Name()):
			return errors.Join(ctx.Err(), root.Remove(path))
		}
		return ctx.Err()
	})
}

// makeWay removes from the folder of a job what transfers before have left in the way of what is
// wanted: folders where a file is to be, and files where a folder is.
func makeWay(ctx context.Context, folder string, wants []Want) (err error) {
	paths := make([]string, len(wants))
	for i, w := range wants {
		paths[i] = w.Path
	}
	slices.Sort(paths)
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	return fs.WalkDir(root.FS(), ".", func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist), err == nil && path == ".":
			return nil
		case err != nil:
			return err
		case !e.IsDir():
			below := path + "/"
			if i, _ := slices.BinarySearch(paths, below); i < len(paths) && strings.HasPrefix(paths[i], below) {
				return root.Remove(path)
			}
		case e.Name() == PartsFolder, e.Name() == rsync.PartialFolder:
			return fs.SkipDir
		default:
			if _, inTheWay := slices.BinarySearch(paths, path); inTheWay {
				if err := root.RemoveAll(path); err != nil {
					return err
				}
				return fs.SkipDir
			}
		}
		return ctx.Err()
	})
}
