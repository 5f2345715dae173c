package apkindex

import (
	"archive/tar"
	"crypto"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrBadSignature says that none of the keys made a signature of the index.
var ErrBadSignature = errors.New("bad signature")

// minBits is the length of the shortest key that is taken.
const minBits = 2048

// Keys are public RSA keys by the file name that signatures name. The zero value
// has none.
type Keys struct{ byName map[string]*rsa.PublicKey }

// Len is the number of keys.
func (k Keys) Len() int { return len(k.byName) }

// Add adds the key of a file as it lies in /etc/apk/keys: RSA, PEM, of at least
// 2048 bits.
func (k *Keys) Add(name string, data []byte) error {
	block, rest := pem.Decode(data)
	if block == nil || strings.TrimSpace(string(rest)) != "" {
		return errors.New("want one public key in PEM")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return err
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok || key.N.BitLen() < minBits {
		return fmt.Errorf("want an RSA key of at least %d bits", minBits)
	}
	if k.byName == nil {
		k.byName = make(map[string]*rsa.PublicKey)
	}
	k.byName[name] = key
	return nil
}

// signature is a file of a signature stream.
type signature struct {
	key   string
	hash  crypto.Hash
	value []byte
}

// algorithms are the names that a signature begins with.
var algorithms = []struct {
	prefix string
	hash   crypto.Hash
}{
	{".SIGN.RSA.", crypto.SHA1},
	{".SIGN.RSA256.", crypto.SHA256},
	{".SIGN.RSA512.", crypto.SHA512},
}

// Verify reads an index to its end and returns the name of the key that signed
// it. The signature is that of everything behind the stream that holds it. When
// no key made it, the error wraps [ErrBadSignature]; signed is false when the
// index has no signature at all.
func (k Keys) Verify(r io.Reader) (key string, signed bool, err error) {
	src := newSource(r)
	stream, err := src.stream()
	if err != nil {
		return "", false, src.explain(err)
	}
	signatures, err := readSignatures(stream)
	if err != nil {
		return "", false, src.explain(err)
	}
	if len(signatures) == 0 {
		return "", false, fmt.Errorf("%w: it has none", ErrBadSignature)
	}
	old, current, long := sha1.New(), sha256.New(), sha512.New()
	if _, err := io.Copy(io.MultiWriter(old, current, long), src); err != nil {
		return "", true, err
	}
	sums := map[crypto.Hash][]byte{crypto.SHA1: old.Sum(nil), crypto.SHA256: current.Sum(nil), crypto.SHA512: long.Sum(nil)}
	var names []string
	for _, s := range signatures {
		names = append(names, fmt.Sprintf("%.100q", s.key))
		public, ok := k.byName[s.key]
		if !ok {
			continue
		}
		if err := rsa.VerifyPKCS1v15(public, s.hash, sums[s.hash], s.value); err != nil {
			return "", true, fmt.Errorf("%w by %s: %w", ErrBadSignature, s.key, err)
		}
		return s.key, true, nil
	}
	return "", true, fmt.Errorf("%w: it is signed by %s, which is none of the keys", ErrBadSignature, strings.Join(names, ", "))
}

// maxSignatures bounds the signatures of an index.
const maxSignatures = 16

// readSignatures reads the first stream to its end. It returns nothing when that
// is not one of signatures.
func readSignatures(stream io.Reader) (all []signature, err error) {
	archive := tar.NewReader(stream)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(h.Name, ".SIGN.") {
			return nil, nil
		}
		if h.Size > maxSignature || len(all) == maxSignatures {
			return nil, errors.New("too many signatures, or one that is too long")
		}
		for _, a := range algorithms {
			if key, ok := strings.CutPrefix(h.Name, a.prefix); ok {
				value, err := io.ReadAll(archive)
				if err != nil {
					return nil, err
				}
				all = append(all, signature{key, a.hash, value})
			}
		}
	}
	_, err = io.Copy(io.Discard, stream)
	return all, err
}
