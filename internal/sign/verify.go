package sign

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// ErrBadSignature says that none of the keys made the signature over the data.
var ErrBadSignature = errors.New("bad signature")

// Verifier checks signatures against a set of public keys. It may be used
// concurrently.
type Verifier struct {
	keys openpgp.EntityList
	now  func() time.Time // nil means time.Now
}

// NewVerifier reads public keys, armored or binary.
func NewVerifier(publicKeys []byte) (*Verifier, error) {
	keys, err := readKeys(publicKeys)
	if err != nil {
		return nil, err
	}
	return &Verifier{keys: keys}, nil
}

// Add adds the public keys, armored or binary. It must not be called while the
// verifier is used.
func (v *Verifier) Add(publicKeys []byte) error {
	keys, err := readKeys(publicKeys)
	if err == nil {
		v.keys = append(v.keys, keys...)
	}
	return err
}

// Verify checks detached, binary signatures of data, one or several one after
// the other, and returns the key of the first good one. Otherwise the error
// wraps [ErrBadSignature].
func (v *Verifier) Verify(data, signatures []byte) (Key, error) {
	return v.VerifyReader(bytes.NewReader(data), signatures)
}

// VerifyReader is [Verifier.Verify] for data that is read to its end.
func (v *Verifier) VerifyReader(data io.Reader, signatures []byte) (Key, error) {
	config := &packet.Config{Time: v.now}
	_, signer, err := openpgp.VerifyDetachedSignature(v.keys, data, bytes.NewReader(signatures), config)
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrBadSignature, err)
	}
	return describe(signer, signer.PrimaryKey), nil
}
