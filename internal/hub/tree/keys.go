package tree

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"freshet/api/hubapi"
	"freshet/internal/apkindex"
	"freshet/internal/sign"
)

// maxSignature bounds a file of detached signatures.
const maxSignature = 1 << 20

// Remedies for metadata without a good signature.
const (
	rpmSignRemedy    = `sign it (gpg --detach-sign --armor repomd.xml), or name the signer's public key in the tree's "keys"`
	aptSignRemedy    = `sign it (gpg --clearsign --output InRelease Release), or name the signer's public key in the tree's "keys"`
	pacmanSignRemedy = `sign it (repo-add --sign, makepkg --sign), or name the signer's public key in the tree's "keys"`
	apkSignRemedy    = `sign it (abuild-sign), or put the public key, under the file name that the signature has, into the tree's "keys"`
)

// Keys are the public keys of those who may sign the metadata of a tree. They
// may be used concurrently.
type Keys struct {
	pgp *sign.Verifier // nil: there is none
	apk apkindex.Keys
	id  string // SHA-256 over the files
}

// ReadKeys reads files with public keys: OpenPGP, armored or binary, for rpm, apt
// and pacman; RSA in PEM for apk, of which the file name is that which signatures
// name.
func ReadKeys(files []string) (*Keys, error) {
	k := new(Keys)
	id := sha256.New()
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		name := filepath.Base(file)
		if err := k.add(name, data); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		_, _ = fmt.Fprintf(id, "%q %d\n", name, len(data))
		id.Write(data)
	}
	k.id = hex.EncodeToString(id.Sum(nil))
	return k, nil
}

func (k *Keys) add(name string, data []byte) (err error) {
	switch {
	case bytes.Contains(data, []byte("-----BEGIN PUBLIC KEY-----")):
		return k.apk.Add(name, data)
	case k.pgp == nil:
		k.pgp, err = sign.NewVerifier(data)
	default:
		err = k.pgp.Add(data)
	}
	return err
}

// ID names the set of keys; empty for nil.
func (k *Keys) ID() string {
	if k == nil {
		return ""
	}
	return k.id
}

// pgpKeys returns the OpenPGP keys by which a file of a tree with keys is
// checked. When there is none, nothing could be good: that is a finding.
func (c *closure) pgpKeys(name, remedy string) (*sign.Verifier, bool) {
	if c.keys.pgp == nil {
		c.unsigned(name, `and the tree's "keys" have no OpenPGP key that could sign it`, remedy)
	}
	return c.keys.pgp, c.keys.pgp != nil
}

func (c *closure) unsigned(name, detail, remedy string) {
	c.wrong.add(hubapi.TreeProblem{File: name, Reason: hubapi.TreeUnsigned, Detail: detail}, remedy)
}

func (c *closure) badSignature(name string, err error, remedy string) {
	c.wrong.add(hubapi.TreeProblem{File: name, Reason: hubapi.TreeSignature, Detail: cut(err.Error(), maxProblemPath)}, remedy)
}

// detached checks that a file has a good signature in another, if the tree has
// keys.
func (c *closure) detached(name, signature, remedy string) error {
	if c.keys == nil {
		return nil
	}
	if _, ok := c.file(signature); !ok {
		c.unsigned(name, "there is no "+cut(signature, maxShown), remedy)
		return nil
	}
	return c.verify(name, signature, remedy)
}

// verify checks a signature that is there.
func (c *closure) verify(name, signature, remedy string) error {
	keys, ok := c.pgpKeys(name, remedy)
	if !ok {
		return nil
	}
	data, err := c.readAll(signature, maxSignature)
	if err != nil {
		if errors.Is(err, errTooLong) {
			c.malformed(signature, err, remedy)
			return nil
		}
		return err
	}
	return c.verifyBytes(name, data, keys, remedy)
}

// verifyBytes checks a signature of a file.
func (c *closure) verifyBytes(name string, signature []byte, keys *sign.Verifier, remedy string) error {
	src := &source{check: func() error { return nil }}
	err := c.read(name, func(r io.Reader) error {
		src.r = r
		_, err := keys.VerifyFile(src, signature)
		return err
	})
	switch {
	case src.err != nil:
		return fmt.Errorf("%s: %w", name, src.err)
	case errors.Is(err, sign.ErrBadSignature):
		c.badSignature(name, err, remedy)
		return nil
	}
	return err
}

var errTooLong = errors.New("too long")

// readAll reads a file of at most so many bytes.
func (c *closure) readAll(name string, most int64) (data []byte, err error) {
	err = c.read(name, func(r io.Reader) (err error) {
		data, err = io.ReadAll(io.LimitReader(r, most+1))
		return err
	})
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("%w: more than %d bytes", errTooLong, most)
	}
	return data, err
}

// same says whether an older generation, checked with the same keys, has the
// same content at all of the paths.
func (c *closure) same(names ...string) bool {
	for _, name := range names {
		now, ok := find(c.files, name)
		before, had := find(c.known, name)
		if !ok || !had || now.Link != "" || !sameFile(*now, *before) {
			return false
		}
	}
	return true
}
