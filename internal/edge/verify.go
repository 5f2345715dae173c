package edge

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/gzip"

	"freshet/internal/edge/diskcache"
	"freshet/internal/layout"
)

// maxUnpacked bounds what a gzip body is unpacked to for its digest. Flatpak's
// summaries are a few MB.
const maxUnpacked = 256 << 20

// verifier compares a body with the digest in its name. A nil verifier accepts
// everything.
type verifier struct {
	want layout.Digest
	hash hash.Hash
}

func newVerifier(d layout.Digest) *verifier {
	switch d.Kind {
	case layout.NoDigest:
		return nil
	case layout.SHA512:
		return &verifier{d, sha512.New()}
	case layout.SHA256, layout.SHA256Gunzip:
	}
	return &verifier{d, sha256.New()}
}

func (v *verifier) write(p []byte) {
	if v != nil && v.want.Kind != layout.SHA256Gunzip {
		_, _ = v.hash.Write(p) // a hash.Hash never fails
	}
}

// end says whether the whole body, readable through w, is the right one.
func (v *verifier) end(w *diskcache.Writer) error {
	if v == nil {
		return nil
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
