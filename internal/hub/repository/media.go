package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"freshet/internal/flatpak"
	"freshet/internal/ostree"
	"freshet/internal/store"
)

// mediaDir holds what builds bring as screenshots/ARCH: files that a catalogue
// points at by URL, and no client pulls.
const mediaDir = "media/"

// medium is a file to be published below mediaDir.
type medium struct {
	path string
	file ostree.Checksum
}

// planMedia lists the files of a screenshots ref. Symlinks are left out, since
// they could lead anywhere.
func (p *publication) planMedia(c *planned, source string) (err error) {
	if c.source, err = ostree.ParseChecksum(source); err != nil {
		return fmt.Errorf("%s: %w", c.ref, err)
	}
	walk := reach{ref: c.ref.String(), in: c.in, look: c.find}
	commit, err := walk.commit(p.ctx, c.source, nil)
	if err != nil {
		return err
	}
	c.made = madeCommit{ref: c.ref.String(), sum: c.source}
	c.media, err = listMedia(p.ctx, c.in, c.ref, commit.Tree)
	return err
}

// find finds an object, published or not.
func (c *planned) find(name ostree.ObjectName) (object, error) {
	if c.build == nil {
		return probe(c.in, name)
	}
	return c.build.find(name)
}

// maxMedia bounds the number of entries in one screenshots ref: files, symlinks
// and folders, each as often as it occurs.
const maxMedia = 1 << 16

// listMedia lists the files of a tree in the order of their folders. The tree
// may name a folder twice, and so describe far more files than it has
// objects; more than maxMedia entries are ostree.ErrTooLarge.
func listMedia(ctx context.Context, in *ostree.Repo, ref flatpak.Ref, tree ostree.Checksum) ([]medium, error) {
	l := mediaList{in: in}
	if err := l.folder(ctx, tree, mediaDir, 0); err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	return l.files, nil
}

type mediaList struct {
	in      *ostree.Repo
	files   []medium
	entries int
}

func (l *mediaList) folder(ctx context.Context, sum ostree.Checksum, below string, depth int) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if depth > maxTreeDepth {
		return fmt.Errorf("%w: folders nest deeper than %d", ostree.ErrTooLarge, maxTreeDepth)
	}
	tree, err := l.in.DirTree(sum)
	if err != nil {
		return err
	}
	if l.entries += len(tree.Files) + len(tree.Dirs); l.entries > maxMedia {
		return fmt.Errorf("%w: more than %d files and folders", ostree.ErrTooLarge, maxMedia)
	}
	for _, file := range tree.Files {
		name := ostree.ObjectName{Checksum: file.File, Type: ostree.TypeFile}
		symlink, err := isSymlink(l.in, name)
		if err != nil {
			return err
		}
		if !symlink {
			l.files = append(l.files, medium{below + file.Name, file.File})
		}
	}
	for _, dir := range tree.Dirs {
		if err := l.folder(ctx, dir.Tree, below+dir.Name+"/", depth+1); err != nil {
			return err
		}
	}
	return nil
}

// maxMediaPath bounds the length of a path, so that it fits into any URL.
const maxMediaPath = 1024

// checkMediaNames tells whether files can have these names.
func checkMediaNames(files []medium) error {
	for _, m := range files {
		if len(m.path) > maxMediaPath {
			return fmt.Errorf("%w: the path %.80q… has more than %d bytes", ostree.ErrTooLarge, m.path, maxMediaPath)
		}
		if err := store.CheckName(m.path); err != nil {
			return err
		}
	}
	return nil
}

// mediaPlan is what all requests together put below mediaDir.
type mediaPlan struct {
	refs    []*planned
	files   map[string]*planned // with the ref that they are of, the last one
	folders map[string]bool
}

func (m *mediaPlan) add(c *planned) {
	m.refs = append(m.refs, c)
	for _, file := range c.media {
		m.files[file.path] = c
		for dir := path.Dir(file.path); !m.folders[dir] && dir != "."; dir = path.Dir(dir) {
			m.folders[dir] = true
		}
	}
}

// errMediaConflict says that a path cannot be a file and a folder.
var errMediaConflict = errors.New("one is a file where the other has a folder")

// checkMedia tells whether the media of a request are its own, and can stand
// beside what is published and what is planned.
func (p *publication) checkMedia(req *PublishRequest, all []*planned) error {
	var others ids
	mine := mediaPlan{files: map[string]*planned{}, folders: map[string]bool{}}
	for _, c := range all {
		if err := checkMediaNames(c.media); err != nil {
			return fmt.Errorf("%s: %w", c.ref, err)
		}
		if len(c.media) > 0 && others == nil {
			others = p.known()
		}
		if err := idsOf(req.AppID, req.Refs).checkOwner(c.media, others); err != nil {
			return fmt.Errorf("%s: %w", c.ref, err)
		}
		mine.add(c)
	}
	for file, c := range mine.files {
		err := p.checkPublished(file, false)
		if p.media.folders[file] || mine.folders[file] {
			err = errMediaConflict
		}
		if err != nil {
			return fmt.Errorf("%s: %s: %w", c.ref, file, err)
		}
	}
	for dir := range mine.folders {
		err := p.checkPublished(dir, true)
		if p.media.files[dir] != nil {
			err = errMediaConflict
		}
		if err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	return nil
}

// checkPublished tells whether what is published at a path, if anything, is a
// folder or a file as wanted.
func (p *publication) checkPublished(name string, folder bool) error {
	info, err := p.r.root.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil && isBadPath(err):
		return errMediaConflict // on the way there is a file
	case err != nil:
		return err
	case info.IsDir() != folder:
		return errMediaConflict
	}
	return nil
}

// stageMedia stages the files that are not there yet as they are.
func (p *publication) stageMedia() error {
	for _, c := range p.media.refs {
		files := 0
		for _, m := range c.media {
			if err := context.Cause(p.ctx); err != nil {
				return err
			}
			if p.media.files[m.path] != c {
				continue // a later ref has it, too
			}
			staged, err := p.stageMedium(c, m)
			if err != nil {
				return fmt.Errorf("%s: %w", m.path, err)
			}
			if staged {
				files++
			}
		}
		if len(c.media) > 0 {
			p.log.printf("  %s: %s, %d of them new", c.ref, count(len(c.media), "file"), files)
		}
	}
	return nil
}

func (p *publication) stageMedium(c *planned, m medium) (staged bool, err error) {
	same, err := p.sameMedium(c, m)
	if err != nil || same {
		return false, err
	}
	content, err := c.in.OpenFile(m.file)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	_, err = p.write(m.path, func(w io.Writer) error {
		_, err := io.Copy(w, content)
		return err
	})
	return err == nil, err
}

// sameMedium compares a file with the one that is published.
func (p *publication) sameMedium(c *planned, m medium) (same bool, err error) {
	before, err := p.r.root.Open(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, before.Close()) }()
	info, err := before.Stat()
	if err != nil {
		return false, err
	}
	content, err := c.in.OpenFile(m.file)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	if !info.Mode().IsRegular() || uint64(info.Size()) != content.Size() {
		return false, nil
	}
	return sameContent(before, content)
}

// sameContent compares two readers of the same length.
func sameContent(a, b io.Reader) (bool, error) {
	var left, right [32 << 10]byte
	for {
		n, err := io.ReadFull(a, left[:])
		end := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !end {
			return false, err
		}
		if _, err := io.ReadFull(b, right[:n]); err != nil {
			return false, err
		}
		if end || !bytes.Equal(left[:n], right[:n]) {
			return bytes.Equal(left[:n], right[:n]), nil
		}
	}
}
