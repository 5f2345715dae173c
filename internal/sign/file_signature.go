package sign

import (
	"bytes"
	"fmt"
	"io"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// VerifyFile is [Verifier.VerifyReader] for the content of a file with
// signatures as gpg --detach-sign writes it, binary or armored.
func (v *Verifier) VerifyFile(data io.Reader, signatures []byte) (Key, error) {
	if bytes.HasPrefix(signatures, []byte("-----BEGIN")) {
		block, err := armor.Decode(bytes.NewReader(signatures))
		if err != nil {
			return Key{}, fmt.Errorf("%w: armor: %w", ErrBadSignature, err)
		}
		if block.Type != openpgp.SignatureType {
			return Key{}, fmt.Errorf("%w: found a %.40q", ErrBadSignature, block.Type)
		}
		if signatures, err = io.ReadAll(block.Body); err != nil {
			return Key{}, fmt.Errorf("%w: armor: %w", ErrBadSignature, err)
		}
	}
	return v.VerifyReader(data, signatures)
}

// VerifyClear checks a message with a signature around it, as gpg --clearsign
// writes it (RFC 9580, section 7), and returns the text that is signed. Anything
// before or after it is an error, since nobody signed that.
func (v *Verifier) VerifyClear(message []byte) (text []byte, key Key, err error) {
	block, rest := clearsign.Decode(message)
	if block == nil {
		return nil, Key{}, fmt.Errorf("%w: it is not clear-signed", ErrBadSignature)
	}
	if !bytes.HasPrefix(message, []byte("-----BEGIN PGP SIGNED MESSAGE-----")) || len(bytes.TrimSpace(rest)) > 0 {
		return nil, Key{}, fmt.Errorf("%w: there is text outside of the signed message", ErrBadSignature)
	}
	signer, err := block.VerifySignature(v.keys, &packet.Config{Time: v.now})
	if err != nil {
		return nil, Key{}, fmt.Errorf("%w: %w", ErrBadSignature, err)
	}
	return block.Plaintext, describe(signer, signer.PrimaryKey), nil
}
