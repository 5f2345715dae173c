package sign

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Generate makes an ed25519 key (version 4, no expiry, no passphrase, for
// signing only) with the user id, which is "Name", "Name <address>" or
// "<address>", and writes it to a new armored file of mode 0600. The file is
// whole and synced once it exists; one that exists is never replaced.
func Generate(path, userID string) (Key, error) {
	key, data, err := generate(userID)
	if err == nil {
		err = writeNew(path, data)
	}
	if err != nil {
		return Key{}, fmt.Errorf("generate signing key %s: %w", path, err)
	}
	return key, nil
}

// splitUserID splits "Name <address>"; either may be empty.
func splitUserID(userID string) (name, address string, err error) {
	name = userID
	if before, after, found := strings.Cut(userID, "<"); found {
		rest, closed := strings.CutSuffix(after, ">")
		if !closed {
			return "", "", fmt.Errorf("user id %q: the address has no end", userID)
		}
		name, address = before, rest
	}
	name = strings.TrimSpace(name)
	if name == "" && address == "" {
		return "", "", errors.New("user id is empty")
	}
	return name, address, nil
}

func generate(userID string) (Key, []byte, error) {
	name, address, err := splitUserID(userID)
	if err != nil {
		return Key{}, nil, err
	}
	config := &packet.Config{
		// The algorithm of version 4 that GnuPG since 2.1 knows, number 22.
		Algorithm:   packet.PubKeyAlgoEdDSA,
		Curve:       packet.Curve25519,
		DefaultHash: crypto.SHA512,
		// A second in the past, for clients whose clock is slightly behind.
		Time:                                  func() time.Time { return time.Now().Add(-time.Second) },
		NonDeterministicSignaturesViaNotation: new(false),
	}
	entity, err := openpgp.NewEntity(name, "", address, config)
	if err != nil {
		return Key{}, nil, err
	}
	entity.Subkeys = nil // it comes with a subkey for encryption

	var out bytes.Buffer
	w, err := armor.Encode(&out, openpgp.PrivateKeyType, nil)
	if err != nil {
		return Key{}, nil, err
	}
	err = entity.SerializePrivate(w, config)
	if err = errors.Join(err, w.Close()); err != nil {
		return Key{}, nil, err
	}
	out.WriteByte('\n')
	return describe(entity, entity.PrimaryKey), out.Bytes(), nil
}

// writeNew writes the file beside path and links it there.
func writeNew(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	temp, err := os.CreateTemp(dir, ".key-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(temp.Name())) }()
	_, err = temp.Write(data)
	if err = errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err := os.Link(temp.Name(), path); err != nil {
		return err
	}
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
