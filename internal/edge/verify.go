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

	// of a body that is not stored
	html     bool // it begins as HTML does
	begun    bool
	unpack   *io.PipeWriter
	unpacked chan error
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
		return &verifier{want: d, hash: sha512.New()}
	case layout.SHA256, layout.SHA256Gunzip:
		return &verifier{want: d, hash: sha256.New()}
	case layout.NoDigest:
	}
	if p.Content.Kind == layout.SHA256 {
		return &verifier{want: p.Content}
	}
	return nil
}

func (v *verifier) write(p []byte) {
	switch {
	case v == nil || len(p) == 0:
	case v.unpack != nil:
		_, _ = v.unpack.Write(p) // endStream tells
	case v.hash != nil && v.want.Kind != layout.SHA256Gunzip:
		_, _ = v.hash.Write(p) // a hash.Hash never fails
	case v.hash == nil && !v.begun:
		v.begun, v.html = true, p[0] == '<'
	}
}

// detach prepares for a body, or the rest of one, that cannot be read again:
// endStream is called in the place of end, and close in any case. stored is what
// was written before; it is readable until close.
func (v *verifier) detach(stored io.Reader) {
	switch {
	case v == nil || v.unpack != nil:
	case v.hash != nil && v.want.Kind == layout.SHA256Gunzip:
		r, w := io.Pipe()
		v.unpack, v.unpacked = w, make(chan error, 1)
		go func() {
			err := v.gunzip(io.MultiReader(stored, r))
			if err == nil {
				// Whatever is behind what a reader of gzip takes for the end.
				_, err = io.Copy(io.Discard, r)
			}
			_ = r.CloseWithError(io.ErrClosedPipe) // what comes is of no use
			v.unpacked <- err
		}()
	}
}

// close ends what detach began.
func (v *verifier) close() {
	if v != nil && v.unpack != nil {
		_ = v.unpack.CloseWithError(io.ErrUnexpectedEOF)
		if v.unpacked != nil {
			//nolint:errcheck // nobody asks any more what it was
			<-v.unpacked
			v.unpacked = nil
		}
	}
}

// endStream is end for a body that was only written.
func (v *verifier) endStream() error {
	switch {
	case v == nil:
		return nil
	case v.hash == nil && v.html:
		return errHTML
	case v.hash == nil:
		return nil
	case v.unpack != nil:
		_ = v.unpack.Close()
		err := <-v.unpacked
		v.unpacked = nil
		if err != nil {
			return err
		}
	}
	return v.compare()
}

// end says whether the whole body, readable through w, is the right one.
func (v *verifier) end(w *diskcache.Writer) error {
	if v == nil {
		return nil
	}
	if v.hash == nil {
		return v.sample(w)
	}
	if v.want.Kind == layout.SHA256Gunzip {
		if err := v.gunzip(io.NewSectionReader(w, 0, w.Len())); err != nil {
			return err
		}
	}
	return v.compare()
}

// gunzip hashes what is packed.
func (v *verifier) gunzip(r io.Reader) error {
	zr, err := gzip.NewReader(r)
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
	return nil
}

// compare compares what was hashed with the name.
func (v *verifier) compare() error {
	if got, want := hex.EncodeToString(v.hash.Sum(nil)), v.want.Value(); got != want {
		return fmt.Errorf("digest is %s, the name says %s", got, want)
	}
	return nil
}

var errHTML = errors.New("a file object that begins as HTML does")

// sample does what end does for a file object, and nothing for others.
func (v *verifier) sample(w *diskcache.Writer) error {
	if v == nil || v.hash != nil {
		return nil
	}
	return v.object(io.NewSectionReader(w, 0, w.Len()))
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
		return errHTML
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
