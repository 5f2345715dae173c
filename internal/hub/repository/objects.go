package repository

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"freshet/internal/ostree"
)

// overlay is the file system in which a file is that of the first folder that
// has it.
type overlay []fs.FS

// Open implements fs.FS.
func (o overlay) Open(name string) (file fs.File, err error) {
	for _, fsys := range o {
		if file, err = fsys.Open(name); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return file, err
}

// Stat implements fs.StatFS.
func (o overlay) Stat(name string) (info fs.FileInfo, err error) {
	for _, fsys := range o {
		if info, err = fs.Stat(fsys, name); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return info, err
}

// openArchive opens archive repositories as one; the first one's objects count.
// The paths of objects are made of checked names and need no os.Root, which
// would cost a system call for every folder on the way.
func openArchive(dirs ...string) (*ostree.Repo, error) {
	layers := make(overlay, len(dirs))
	for i, dir := range dirs {
		layers[i] = os.DirFS(dir)
	}
	var fsys fs.FS = layers
	if len(layers) == 1 {
		fsys = layers[0]
	}
	repo, err := ostree.OpenRepo(fsys)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dirs[0], err)
	}
	return repo, nil
}

func commitName(sum ostree.Checksum) ostree.ObjectName {
	return ostree.ObjectName{Checksum: sum, Type: ostree.TypeCommit}
}

func commitMetaName(sum ostree.Checksum) ostree.ObjectName {
	return ostree.ObjectName{Checksum: sum, Type: ostree.TypeCommitMeta}
}
