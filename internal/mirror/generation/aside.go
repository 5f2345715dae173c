package generation

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// asideName is the folder in that of a staging for what is kept when it is committed:
// a tree and a journal like those of a session, which it is for the next staging.
const (
	asideName    = "aside"
	asideSession = 1 // the number of that session
)

// aside is what a staging has fetched and its generation is not to have.
type aside struct {
	tree   *tree
	placed *os.File // the journal
}

// SetAside takes a file that Files yields out of the tree again. If it was fetched by
// this staging, it is kept, and used by the next one: a repository that cannot be
// published yet is not fetched a second time. It may be a file that is not there.
func (st *Staging) SetAside(f File) error {
	return st.do(f, func() error {
		in, name, err := st.next.at(f.Path, false)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		have, s, ok, err := st.journal.byContent(f.SHA256)
		if err != nil {
			return err
		}
		if f.IsLink() || !ok || s.number != st.journal.last().number || have.Path != f.Path {
			if err := st.take(in, name, f.Path); err != nil {
				return err
			}
			return st.records.Add(f.Path, nil)
		}
		if err := errors.Join(st.openAside(), st.journal.cancel(f.Path)); err != nil {
			return err
		}
		to, base, err := st.aside.tree.at(f.Path, true)
		if err != nil {
			return err
		}
		var line []byte
		err = to.MoveNew(base, in, name)
		if errors.Is(err, fs.ErrExist) { // what was set aside for this path before
			line = append(appendGone(line, f.Path), '\n')
			err = errors.Join(to.Remove(base), to.MoveNew(base, in, name))
		}
		if err != nil {
			return err
		}
		if _, err := st.aside.placed.Write(append(appendLine(line, have), '\n')); err != nil {
			return err
		}
		return st.records.Add(f.Path, nil)
	})
}

func (st *Staging) openAside() error {
	if st.aside.placed != nil {
		return nil
	}
	d := st.p.dir
	if err := d.Mkdirs(staged(asideName)+"/"+treeName, 0o755, func(string) {}); err != nil {
		return err
	}
	t, err := openTree(d, staged(asideName)+"/"+treeName)
	if err != nil {
		return err
	}
	placed, err := d.Create(staged(asideName)+"/"+placedName, 0o644)
	if err != nil {
		return errors.Join(err, t.close())
	}
	st.aside = aside{t, placed}
	_, err = placed.WriteString(session{number: asideSession, boot: st.p.store.boot}.line())
	return err
}

func (a aside) close() error {
	if a.placed == nil {
		return nil
	}
	return errors.Join(a.tree.close(), a.placed.Close())
}

// leave removes what belongs to stagings but for what was set aside: that is the first
// session of the next one. If it is interrupted, what was set aside is lost at most: a
// tree that no journal knows is removed by the next staging.
func (st *Staging) leave() error {
	if st.aside.placed == nil {
		return st.discard()
	}
	d := st.p.dir
	if err := d.Remove(staged(placedName)); err != nil {
		return err
	}
	names, err := list(d, stagingName)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name != asideName {
			err = errors.Join(err, d.RemoveAll(staged(name)))
		}
	}
	first := staged(strconv.Itoa(asideSession))
	if err == nil {
		err = d.Rename(staged(asideName), first)
	}
	if err == nil {
		err = d.Rename(filepath.Join(first, placedName), staged(placedName))
	}
	return err
}
