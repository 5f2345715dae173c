package repository

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"freshet/internal/flatpak"
	"freshet/internal/layout"
	"freshet/internal/ostree"
)

const (
	// checkoutDir has a folder for each architecture with the files of its
	// catalogue, where web sites look for appstream.xml.gz and icons.
	checkoutDir = "appstream/"

	// checkoutFile has a line for each of these folders: the commit of which the
	// files are, and the architecture.
	checkoutFile = ".appstream"
)

// stageCheckout brings the files of the catalogues up to date with their branches,
// those that changed. Symlinks are left out.
func (p *publication) stageCheckout() error {
	if !p.r.opt.AppstreamCheckout {
		return nil
	}
	done, err := p.readCheckouts()
	if err != nil {
		return err
	}
	changed := false
	for ref, head := range p.r.index.Refs() {
		arch, ok := strings.CutPrefix(ref, flatpak.AppstreamRef(""))
		if !ok || done[arch] == head {
			continue
		}
		in := p.withStaged()
		c := checkout{p: p, in: in, trees: folderReader{in: in}, root: checkoutDir + arch}
		if err := c.change(done[arch], head); err != nil {
			return fmt.Errorf("check %s out: %w", ref, err)
		}
		done[arch], changed = head, true
		p.log.printf("  %s: %s written, %d removed", c.root, count(c.written, "file"), c.removed)
	}
	if !changed {
		return nil
	}
	var lines []byte
	for _, arch := range sortedKeys(done) {
		lines = fmt.Appendf(lines, "%s %s\n", done[arch], arch)
	}
	return p.tx.PutBytes(layout.Index, checkoutFile, lines)
}

// readCheckouts reads which commit each folder has. What cannot be read is
// checked out anew.
func (p *publication) readCheckouts() (map[string]ostree.Checksum, error) {
	done := map[string]ostree.Checksum{}
	data, err := p.r.root.ReadFile(checkoutFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		commit, arch, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if sum, err := ostree.ParseChecksum(commit); err == nil {
			done[arch] = sum
		}
	}
	return done, nil
}

// withStaged is the repository with what this publish adds to it.
func (p *publication) withStaged() *ostree.Repo {
	layers := overlay{p.made}
	for _, ref := range sortedKeys(p.refs) {
		if c := p.refs[ref]; c.build != nil {
			layers = append(layers, c.in.FS())
		}
	}
	in, err := ostree.OpenRepo(append(layers, p.r.objects.FS()))
	if err != nil {
		return p.r.objects // its config could be read when it was opened
	}
	return in
}

// checkout brings the files of one catalogue up to date.
type checkout struct {
	p     *publication
	in    *ostree.Repo
	trees folderReader
	root  string

	written, removed int
}

// change brings the folder from one commit, zero for none, to another.
func (c *checkout) change(before, after ostree.Checksum) error {
	commit, err := c.in.Commit(after)
	if err != nil {
		return err
	}
	var base ostree.Checksum
	if !before.IsZero() {
		old, err := c.in.Commit(before)
		switch {
		case err == nil:
			base = old.Tree
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	return c.folder(base, commit.Tree, c.root)
}

// folder brings one folder from one tree to another; zero is none.
func (c *checkout) folder(before, after ostree.Checksum, at string) error {
	if before == after {
		return nil
	}
	old, err := c.tree(before)
	if err != nil {
		return err
	}
	now, err := c.tree(after)
	if err != nil {
		return err
	}
	for _, file := range now.Files {
		if there, ok := old.File(file.Name); ok && there == file {
			continue
		}
		if err := c.write(at+"/"+file.Name, file.File); err != nil {
			return err
		}
	}
	for _, file := range old.Files {
		if _, ok := now.File(file.Name); !ok {
			c.removed++
			if err := c.p.remove(at + "/" + file.Name); err != nil {
				return err
			}
		}
	}
	for _, dir := range now.Dirs {
		there, _ := old.Dir(dir.Name)
		if err := c.folder(there.Tree, dir.Tree, at+"/"+dir.Name); err != nil {
			return err
		}
	}
	for _, dir := range old.Dirs {
		if _, ok := now.Dir(dir.Name); !ok {
			if err := c.folder(dir.Tree, ostree.Checksum{}, at+"/"+dir.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// tree reads a folder. An old one that was pruned is as good as none: what it had
// is overwritten, or stays.
func (c *checkout) tree(sum ostree.Checksum) (*ostree.DirTree, error) {
	return c.trees.published(sum)
}

// write stages a file unless it is there as it is.
func (c *checkout) write(file string, sum ostree.Checksum) (err error) {
	symlink, err := isSymlink(c.in, ostree.ObjectName{Checksum: sum, Type: ostree.TypeFile})
	if err != nil || symlink {
		return err
	}
	content, err := c.in.OpenFile(sum)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	c.written++
	_, err = c.p.write(file, func(w io.Writer) error {
		_, err := io.Copy(w, content)
		return err
	})
	return err
}

// keep remembers an object that is staged, for who has to read it before it is in
// its place.
func (p *publication) keep(name ostree.ObjectName, write func(io.Writer) error) func(io.Writer) error {
	if !p.r.opt.AppstreamCheckout {
		return write
	}
	return func(w io.Writer) error {
		var data bytes.Buffer
		err := write(io.MultiWriter(w, &data))
		p.made[name.Path()] = data.Bytes()
		return err
	}
}
