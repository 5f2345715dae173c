package sign

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
)

// Ed25519 are keys for ostree's own signatures of the type "ed25519"
// (ostree-sign(1)), which know neither user ids nor times. They add to those of
// OpenPGP, which are the only ones that flatpak looks at. Its methods may be
// called concurrently; nil has no keys.
type Ed25519 struct{ keys []ed25519.PrivateKey }

// OpenEd25519 reads files of keys as "ostree sign --keys-file" takes them: on each
// line the base64 of a secret key, 32 bytes of seed and 32 of the public key. No
// files give nil.
func OpenEd25519(files ...string) (*Ed25519, error) {
	if len(files) == 0 {
		return nil, nil //nolint:nilnil // no keys
	}
	var all Ed25519
	for _, path := range files {
		text, err := readFile(path, maxKeyFile)
		if err != nil {
			return nil, fmt.Errorf("open ed25519 key: %w", err)
		}
		before := len(all.keys)
		for line := range bytes.Lines(text) {
			if line = bytes.TrimSpace(line); len(line) == 0 {
				continue
			}
			key, err := parseEd25519(string(line))
			if err != nil {
				return nil, fmt.Errorf("open ed25519 key %s: %w", path, err)
			}
			all.keys = append(all.keys, key)
		}
		if len(all.keys) == before {
			return nil, fmt.Errorf("open ed25519 key %s: there is none", path)
		}
	}
	return &all, nil
}

func parseEd25519(line string) (ed25519.PrivateKey, error) {
	raw, err := base64.StdEncoding.DecodeString(line)
	if err != nil || len(raw) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("want lines with %d bytes in base64, seed and public key", ed25519.PrivateKeySize)
	}
	key := ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize])
	if !bytes.Equal(key, raw) {
		return nil, errors.New("the public part is not that of the secret part")
	}
	return key, nil
}

// GenerateEd25519 makes a key and writes it to a new file of mode 0600, as
// [OpenEd25519] reads it. It returns the public key in base64, as a remote's
// verification-ed25519-key has it.
func GenerateEd25519(path string) (string, error) {
	public, secret, err := ed25519.GenerateKey(rand.Reader)
	if err == nil {
		err = writeNew(path, []byte(base64.StdEncoding.EncodeToString(secret)+"\n"))
	}
	if err != nil {
		return "", fmt.Errorf("generate ed25519 key %s: %w", path, err)
	}
	return base64.StdEncoding.EncodeToString(public), nil
}

// PublicKeys returns the public keys in base64.
func (e *Ed25519) PublicKeys() []string {
	if e == nil {
		return nil
	}
	keys := make([]string, len(e.keys))
	for i, key := range e.keys {
		keys[i] = base64.StdEncoding.EncodeToString(key[ed25519.SeedSize:])
	}
	return keys
}

// Sign returns the signature of data by each key, 64 bytes. Equal data has equal
// signatures.
func (e *Ed25519) Sign(data []byte) [][]byte {
	if e == nil {
		return nil
	}
	signatures := make([][]byte, len(e.keys))
	for i, key := range e.keys {
		signatures[i] = ed25519.Sign(key, data)
	}
	return signatures
}

// Merge returns the signatures of data by the keys and, after them, those of
// others among the given ones; complete tells whether the keys had signed already.
func (e *Ed25519) Merge(data []byte, given [][]byte) (all [][]byte, complete bool) {
	all, complete = e.Sign(data), true
	own := len(all)
	for _, signature := range all {
		complete = complete && contains(given, signature)
	}
	for _, signature := range given {
		if !contains(all[:own], signature) {
			all = append(all, signature)
		}
	}
	return all, complete
}

func contains(list [][]byte, one []byte) bool {
	return slices.ContainsFunc(list, func(b []byte) bool { return bytes.Equal(b, one) })
}
