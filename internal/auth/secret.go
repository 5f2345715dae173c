package auth

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	newSecret = 32 // bytes of a secret made by us
	minSecret = 16 // bytes of the shortest secret accepted
	maxFile   = 16 << 10
)

// Secret is a key for signing tokens. It prints as "[secret]".
type Secret []byte

func (s Secret) String() string { return "[secret]" }

// GoString keeps the secret out of %#v.
func (s Secret) GoString() string { return "auth.Secret([secret])" }

// MarshalText keeps the secret out of JSON and logs.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// ParseSecret decodes a secret written in base64 (RFC 4648 §4), with or
// without white space around it. It must have at least 16 bytes.
func ParseSecret(text []byte) (Secret, error) {
	secret, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil {
		// A CorruptInputError says where, and nothing of the input.
		return nil, fmt.Errorf("decode base64: %w", err)
	}
	if len(secret) < minSecret {
		return nil, fmt.Errorf("%d bytes are too short, %d are needed", len(secret), minSecret)
	}
	return secret, nil
}

// LoadSecret reads a secret from a file that holds it in base64. When there is
// no file, it makes a secret of 32 random bytes and writes it there, mode 0600
// and synced; of several processes that do so at once, all return the same.
func LoadSecret(path string) (Secret, error) {
	secret, err := readSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = createSecret(path); err == nil || errors.Is(err, fs.ErrExist) {
			secret, err = readSecret(path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("load secret %s: %w", path, err)
	}
	return secret, nil
}

// ReadSecret is [LoadSecret] for those who may not make a secret. The error
// wraps [fs.ErrNotExist] when there is no file.
func ReadSecret(path string) (Secret, error) {
	secret, err := readSecret(path)
	if err != nil {
		return nil, fmt.Errorf("read secret %s: %w", path, err)
	}
	return secret, nil
}

func readSecret(path string) (Secret, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, err
	}
	return ParseSecret(text)
}

// createSecret writes a new secret beside path and links it there, so that the
// file is whole from its first moment and an existing one is never replaced.
func createSecret(path string) (err error) {
	random := make([]byte, newSecret)
	rand.Read(random) // never fails, see crypto/rand
	temp, err := os.CreateTemp(filepath.Dir(path), ".secret-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(temp.Name())) }()
	_, err = temp.WriteString(base64.StdEncoding.EncodeToString(random) + "\n")
	if err = errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err := os.Link(temp.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
