package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"freshet/internal/flatpak"
	"freshet/internal/ostree"
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
	walk := reach{ref: c.ref.String(), in: c.in}
	commit, err := walk.commit(p.ctx, c.source, nil)
	if err != nil {
		return err
	}
	c.made = madeCommit{ref: c.ref.String(), sum: c.source}
	c.media, err = listMedia(p.ctx, c.in, c.ref, commit.Tree)
	return err
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

// stageMedia stages the files that are not there yet as they are.
func (p *publication) stageMedia() error {
	for _, ref := range sortedKeys(p.refs) {
		c := p.refs[ref]
		files := 0
		for _, m := range c.media {
			if err := context.Cause(p.ctx); err != nil {
				return err
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
			p.log.printf("  %s: %s, %d of them new", ref, count(len(c.media), "file"), files)
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
