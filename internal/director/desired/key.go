package desired

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"freshet/internal/durable"
)

// KeyFile is the name of the signing key in a state folder.
const KeyFile = "desired.key"

// OpenKey reads the signing key, which is made when it is not there: Ed25519, in PEM. One that
// others may read is refused.
func OpenKey(dir durable.Dir) (ed25519.PrivateKey, error) {
	text, err := dir.Root.ReadFile(KeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKey(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("key of desired states: %w", err)
	}
	if info, err := dir.Root.Stat(KeyFile); err != nil || info.Mode().Perm()&0o077 != 0 {
		return nil, errors.Join(fmt.Errorf("key of desired states %s: others may read it: chmod 600, and make another if they have", KeyFile), err)
	}
	return ParseKey(text)
}

// ReadKey reads the signing key from a file of somebody else's.
func ReadKey(file string) (ed25519.PrivateKey, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("key of desired states: %w", err)
	}
	return ParseKey(text)
}

// ParseKey reads a private key of Ed25519 in PEM, as "openssl genpkey -algorithm ed25519"
// writes it.
func ParseKey(text []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("key of desired states: want a private key in PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("key of desired states: %w", err)
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("key of desired states: want one of Ed25519, got %T", key)
	}
	return private, nil
}

func makeKey(dir durable.Dir) (ed25519.PrivateKey, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	if err := dir.WriteFile(KeyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return nil, fmt.Errorf("key of desired states: %w", err)
	}
	return private, nil
}
