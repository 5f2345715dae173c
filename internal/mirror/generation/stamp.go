package generation

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"freshet/internal/durable"
)

// Stamp writes a small file into the tree of the current generation, such as the
// trace that a mirror leaves after a switch. It is in no manifest, and the next
// generation does not have it until it is written there. A path at which the project
// has a file of its own is refused.
func (p *Project) Stamp(path string, data []byte) error {
	if err := CheckPath(path); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	err := fmt.Errorf("no generation yet: %w", ErrUnknown)
	if g := p.Current(); g != nil {
		err = p.stamp(g, path, data)
	}
	if err != nil {
		return fmt.Errorf("stamp %s in %s: %w", path, p.name, err)
	}
	return nil
}

func (p *Project) stamp(g *Generation, path string, data []byte) (err error) {
	t, err := openTree(p.dir, generationsName+"/"+g.info.ID+"/"+treeName)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	to, name, err := t.at(path, true)
	if err != nil {
		return err
	}
	if !slices.Contains(g.info.Stamps, path) {
		if _, err := to.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(err, errors.New("the project has a file there: leave it out of what is mirrored"))
		}
		if err := p.noteStamp(g, path); err != nil {
			return err
		}
	}
	return p.replace(to, name, data)
}

// noteStamp writes first where there are going to be stamps.
func (p *Project) noteStamp(g *Generation, path string) error {
	info := g.info
	info.Stamps = append(slices.Clone(info.Stamps), path)
	if err := p.writeInfo(info); err != nil {
		return err
	}
	kept := p.Generations()
	kept[0] = g.with(info)
	p.kept.Store(&kept)
	return nil
}

// replace writes a file under a name that no reader reaches, and renames it.
func (p *Project) replace(to *durable.Folder, name string, data []byte) error {
	temp := durable.TempName()
	if err := p.dir.WriteFile(temp, data, 0o644); err != nil {
		return err
	}
	from, err := p.dir.Folder(".")
	if err != nil {
		return err
	}
	defer from.Close() //nolint:errcheck // opened for reading
	if err := to.Move(name, from, temp); err != nil {
		return errors.Join(err, from.Remove(temp))
	}
	return nil
}
