package upkeep

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"freshet/internal/flatpak"
	"freshet/internal/ostree"
	"freshet/internal/sign"
)

// loadKeys finds the keys by which the repository is to be signed.
func (c *checker) loadKeys() (err error) {
	if len(c.opt.Keys) > 0 {
		if c.keys, err = sign.NewVerifier(c.opt.Keys); err != nil {
			return fmt.Errorf("keys: %w", err)
		}
		return nil
	}
	entries, err := fs.ReadDir(c.dir.Root.FS(), ".")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".flatpakrepo") {
			continue
		}
		data, err := readFile(c.dir.Root, entry.Name())
		if err != nil {
			return err
		}
		file, err := flatpak.ParseRepoFile(data)
		if err != nil || len(file.GPGKey) == 0 {
			continue // what users are told is no matter of integrity
		}
		if c.keys == nil {
			c.keys, err = sign.NewVerifier(file.GPGKey)
		} else {
			err = c.keys.Add(file.GPGKey)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", entry.Name(), err)
		}
	}
	return nil
}

// errUnsigned says that no key of the repository has signed a file.
var errUnsigned = errors.New("it has no signature of a key of the repository")

// signed tells whether detached metadata has a good signature of data.
func (c *checker) signed(data, detached []byte) error {
	dict, err := ostree.ParseDetached(detached)
	if err != nil {
		return err
	}
	cause := errUnsigned
	for _, signature := range ostree.GPGSignatures(dict) {
		_, err := c.keys.Verify(data, signature)
		if err == nil {
			return nil
		}
		cause = fmt.Errorf("%w: %w", errUnsigned, err)
	}
	return cause
}

// verifyDetached accepts the detached metadata of a commit if it has a good
// signature; without keys nothing tells.
func (c *checker) verifyDetached(commit ostree.Checksum, detached []byte) error {
	if c.keys == nil {
		return errUnnamed
	}
	_, data, err := c.repo.CommitData(commit)
	if err != nil {
		return err
	}
	return c.signed(data, detached)
}

// checkCommitSignature checks that a head is signed, if the keys are known.
func (c *checker) checkCommitSignature(ref string, sum ostree.Checksum) {
	if c.keys == nil {
		return
	}
	name := ostree.ObjectName{Checksum: sum, Type: ostree.TypeCommitMeta}
	data, err := readFile(c.dir.Root, name.Path())
	if err == nil {
		err = c.verifyDetached(sum, data)
	}
	if err == nil || c.moved(ref, sum) {
		return
	}
	p := Problem{Kind: KindSignature, Path: name.Path(), Ref: ref, Error: err.Error()}
	if errors.Is(err, fs.ErrNotExist) {
		p.Error = errUnsigned.Error()
	}
	c.found(p)
}
