package tree

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"path"

	"freshet/api/hubapi"
	"freshet/internal/apkindex"
	"freshet/internal/unpack"
)

const apkRemedy = "push the packages with it, or make the index anew with apk index"

// apkIndex checks an apk repository: the packages of an index lie beside it, and
// begin with what the index has a checksum of.
func (c *closure) apkIndex(ctx context.Context, name string) error {
	src := &source{check: ctx.Err}
	odd := 0
	err := c.read(name, func(r io.Reader) error {
		src.r = r
		for p, err := range apkindex.Packages(unpack.Limit(src)) {
			if err != nil {
				return err
			}
			if err := c.apkPackage(name, p, &odd); err != nil {
				src.err = err
				return err
			}
		}
		return nil
	})
	switch {
	case src.err != nil:
		return fmt.Errorf("%s: %w", name, src.err)
	case err != nil:
		c.malformed(name, err, apkRemedy)
		return nil
	case odd > 0:
		c.note("the checksums of %d packages that %s names are not checked, because apk-tools 3 made them", odd, name)
	}
	return c.apkSignature(name)
}

// apkPackage checks a package; one whose checksum is of another kind is odd.
func (c *closure) apkPackage(by string, p apkindex.Package, odd *int) error {
	name := path.Join(path.Dir(by), p.File())
	if c.wants(by, name, p.Size, "", apkRemedy) == nil || p.Hash == 0 {
		return nil
	}
	var old, current []byte
	src := &source{check: func() error { return nil }}
	err := c.read(name, func(r io.Reader) (err error) {
		src.r = r
		old, current, err = apkindex.Control(src)
		return err
	})
	switch {
	case src.err != nil:
		return fmt.Errorf("%s: %w", name, src.err)
	case errors.Is(err, apkindex.ErrUnsupported):
		*odd++
		return nil
	case errors.Is(err, apkindex.ErrMalformed):
		c.malformed(name, err, apkRemedy)
		return nil
	case err != nil:
		return err
	}
	kind, got := "control-sha1", old
	if p.Hash == crypto.SHA256 {
		kind, got = "control-sha256", current
	}
	if !bytes.Equal(got, p.Sum) {
		c.wrong.add(wrongSum(name, by, kind, base64.StdEncoding.EncodeToString(p.Sum), base64.StdEncoding.EncodeToString(got)), apkRemedy)
	}
	return nil
}

// apkSignature checks the signature of an index, if the tree has keys.
func (c *closure) apkSignature(name string) error {
	switch {
	case c.keys == nil:
		return nil
	case c.keys.apk.Len() == 0:
		c.unsigned(name, `and the tree's "keys" have no RSA key that could sign it`, apkSignRemedy)
		return nil
	}
	src := &source{check: func() error { return nil }}
	signed := false
	err := c.read(name, func(r io.Reader) (err error) {
		src.r = r
		_, signed, err = c.keys.apk.Verify(src)
		return err
	})
	switch {
	case src.err != nil:
		return fmt.Errorf("%s: %w", name, src.err)
	case err != nil && !signed:
		c.wrong.add(hubapi.TreeProblem{File: name, Reason: hubapi.TreeUnsigned}, apkSignRemedy)
	case err != nil:
		c.badSignature(name, err, apkSignRemedy)
	}
	return nil
}
