package roots

import (
	"bytes"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"freshet/internal/sign"
)

// maxSignatures bounds the signatures of one file that are looked at.
const maxSignatures = 64

// unarmored returns the binary form of a signature, which may have it already.
func unarmored(text []byte) []byte {
	if block, err := armor.Decode(bytes.NewReader(text)); err == nil && block.Type == openpgp.SignatureType {
		if b, err := io.ReadAll(io.LimitReader(block.Body, 1<<20)); err == nil {
			return b
		}
	}
	return text
}

// checkSignatures compares data with OpenPGP signatures, one after the other.
func checkSignatures(data Content, signatures []byte, keys *sign.Verifier) (Proof, error) {
	if keys != nil {
		if len(signatures) == 0 {
			return Unproven, ErrUnsigned
		}
		if _, err := keys.VerifyReader(io.NewSectionReader(data, 0, data.Size()), signatures); err != nil {
			// Which of the two it is, new files will show.
			return Unproven, fmt.Errorf("%w: %w", ErrMismatch, err)
		}
		return Signed, nil
	}
	return compareTags(data, signatures)
}

// compareTags compares the digest of data with the two bytes of it that each
// signature shows. One that fits is enough: several may be of several keys, and
// one of an algorithm that is not known here.
func compareTags(data Content, signatures []byte) (Proof, error) {
	packets := packet.NewReader(bytes.NewReader(signatures))
	compared := 0
	for range maxSignatures {
		p, err := packets.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			continue // of an unknown kind, or damaged
		}
		sig, ok := p.(*packet.Signature)
		if !ok {
			continue
		}
		h, ok := hashOf(sig)
		if !ok {
			continue
		}
		if _, err := io.Copy(h.text, io.NewSectionReader(data, 0, data.Size())); err != nil {
			return Unproven, err
		}
		compared++
		if packet.VerifyHashTag(h.sum, sig) == nil {
			return Likely, nil
		}
	}
	if compared > 0 {
		return Unproven, fmt.Errorf("%w: the signature is of other bytes", ErrMismatch)
	}
	return Unproven, nil
}

// hasher is the hash a signature is made with. Data goes through text.
type hasher struct{ sum, text hash.Hash }

func hashOf(sig *packet.Signature) (h hasher, ok bool) {
	if sig.SigType != packet.SigTypeBinary && sig.SigType != packet.SigTypeText || !sig.Hash.Available() {
		return h, false
	}
	var err error
	if h.sum, err = sig.PrepareVerify(); err != nil {
		return h, false
	}
	h.text = h.sum
	if sig.SigType == packet.SigTypeText {
		h.text = openpgp.NewCanonicalTextHash(h.sum)
	}
	return h, true
}
