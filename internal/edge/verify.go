package edge

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"

	"github.com/klauspost/compress/gzip"

	"freshet/internal/edge/diskcache"
	"freshet/internal/layout"
	"freshet/internal/ostree"
)

// maxUnpacked bounds what a gzip body is unpacked to for its digest. Flatpak's
// summaries are a few MB.
const maxUnpacked = 256 << 20

// verifier compares a body with the digest in its name. A nil verifier accepts
// everything.
type verifier struct {
	want layout.Digest
	hash hash.Hash // nil for a file object
}

const (
	// sampledOf is of how many file objects one is unpacked and hashed.
	sampledOf = 16
	// maxSampled is the longest file object that is.
	maxSampled = 16 << 20
)

func newVerifier(p layout.Policy) *verifier {
	switch d := p.Digest; d.Kind {
	case layout.SHA512:
		return &verifier{d, sha512.New()}
	case layout.SHA256, layout.SHA256Gunzip:
		return &verifier{d, sha256.New()}
	case layout.NoDigest:
	}
	if p.Content.Kind == layout.SHA256 {
		return &verifier{want: p.Content}
	}
	return nil
}

func (v *verifier) write(p []byte) {
	if v != nil && v.hash != nil && v.want.Kind != layout.SHA256Gunzip {
		_, _ = v.hash.Write(p) // a hash.Hash never fails
	}
}

// end says whether the whole body, readable through w, is the right one.
func (v *verifier) end(w *diskcache.Writer) error {
	if v == nil {
		return nil
	}
	if v.hash == nil {
		return v.object(io.NewSectionReader(w, 0, w.Len()))
	}
	if v.want.Kind == layout.SHA256Gunzip {
		zr, err := gzip.NewReader(io.NewSectionReader(w, 0, w.Len()))
		if err != nil {
			return fmt.Errorf("unpack: %w", err)
		}
		n, err := io.Copy(v.hash, io.LimitReader(zr, maxUnpacked+1))
		if err != nil {
			return fmt.Errorf("unpack: %w", err)
		}
		if n > maxUnpacked {
			return errors.New("unpack: too long")
		}
	}
	if got, want := hex.EncodeToString(v.hash.Sum(nil)), v.want.Value(); got != want {
		return fmt.Errorf("digest is %s, the name says %s", got, want)
	}
	return nil
}

// object checks a file object of OSTree as far as that is cheap: its compressed
// bytes are bound to nothing. A page of some proxy in its place shows by its
// first byte, and what a disk or a server spoiled, by chance.
func (v *verifier) object(r *io.SectionReader) error {
	var frame [8]byte
	if _, err := r.ReadAt(frame[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if frame[0] == '<' {
		return errors.New("a file object that begins as HTML does")
	}
	if r.Size() > maxSampled || binary.BigEndian.Uint32(frame[:]) >= 1<<16 || binary.BigEndian.Uint32(frame[4:]) != 0 || rand.IntN(sampledOf) > 0 {
		return nil
	}
	sum, err := ostree.ParseChecksum(v.want.Value())
	if err != nil {
		return err
	}
	_, err = ostree.VerifyObject(ostree.ObjectName{Checksum: sum, Type: ostree.TypeFile}, r)
	return err
}
