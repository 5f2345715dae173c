package packages

import (
	"bytes"
	"crypto"
	"fmt"
	"io"
	"os"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Signer signs metadata in the forms that package managers want.
type Signer struct{ entity *openpgp.Entity }

// OpenSigner reads an armored OpenPGP key without a passphrase.
func OpenSigner(path string) (*Signer, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read signing key: %w", err)
	}
	defer file.Close() //nolint:errcheck // read only
	keys, err := openpgp.ReadArmoredKeyRing(file)
	if err != nil {
		return nil, fmt.Errorf("read signing key %s: %w", path, err)
	}
	if len(keys) == 0 || keys[0].PrivateKey == nil {
		return nil, fmt.Errorf("read signing key %s: it has no secret part", path)
	}
	return &Signer{keys[0]}, nil
}

// Public returns the public key, binary and armored.
func (s *Signer) Public() (key, armored []byte, err error) {
	var b bytes.Buffer
	if err := s.entity.Serialize(&b); err != nil {
		return nil, nil, fmt.Errorf("public key: %w", err)
	}
	armored, err = enarmor(openpgp.PublicKeyType, b.Bytes())
	return b.Bytes(), armored, err
}

// detached is a signature of data.
func (s *Signer) detached(data []byte) ([]byte, error) {
	var b bytes.Buffer
	if err := openpgp.DetachSign(&b, s.entity, bytes.NewReader(data), config()); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return b.Bytes(), nil
}

// armored is a detached signature in ASCII.
func (s *Signer) armored(data []byte) ([]byte, error) {
	signature, err := s.detached(data)
	if err != nil {
		return nil, err
	}
	return enarmor(openpgp.SignatureType, signature)
}

// clear is a text with its signature behind it (RFC 9580 section 7).
func (s *Signer) clear(text []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := clearsign.Encode(&b, s.entity.PrivateKey, config())
	if err == nil {
		_, err = w.Write(text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return append(b.Bytes(), '\n'), nil
}

func config() *packet.Config { return &packet.Config{DefaultHash: crypto.SHA512} }

func enarmor(kind string, data []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := armor.Encode(&b, kind, nil)
	if err == nil {
		_, err = io.Copy(w, bytes.NewReader(data))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("armor: %w", err)
	}
	return append(b.Bytes(), '\n'), nil
}
