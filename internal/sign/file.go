package sign

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

const (
	maxKeyFile    = 4 << 20
	maxPassphrase = 4 << 10
)

// KeyFile names a file with secret keys.
type KeyFile struct {
	// Path is the file, armored or binary.
	Path string
	// Passphrase is the file whose first line opens the keys; empty for keys
	// without a passphrase.
	Passphrase string
}

// Keyring is a [Signer] whose secret keys are in memory. The zero value has no
// keys and makes no signatures.
type Keyring struct {
	entities openpgp.EntityList
	keys     []Key
	now      func() time.Time // nil means time.Now
}

var _ Signer = (*Keyring)(nil)

// Open reads the key files and opens every key in them. Each primary key signs
// once, with its newest signing subkey if it has any. A key that can not sign
// now, whatever the reason, is an error.
func Open(files ...KeyFile) (*Keyring, error) {
	var ring Keyring
	for _, file := range files {
		if err := ring.add(file); err != nil {
			return nil, fmt.Errorf("open key file %s: %w", file.Path, err)
		}
	}
	return &ring, nil
}

func (r *Keyring) add(file KeyFile) error {
	data, err := readFile(file.Path, maxKeyFile)
	if err != nil {
		return err
	}
	entities, err := readKeys(data)
	if err != nil {
		return err
	}
	var passphrase []byte
	if file.Passphrase != "" {
		if passphrase, err = readPassphrase(file.Passphrase); err != nil {
			return err
		}
	}
	for _, entity := range entities {
		if err := unlock(entity, passphrase); err != nil {
			return err
		}
		key, err := r.signingKey(entity)
		if err != nil {
			return err
		}
		r.entities = append(r.entities, entity)
		r.keys = append(r.keys, describe(entity, key.PublicKey))
	}
	return nil
}

func unlock(entity *openpgp.Entity, passphrase []byte) error {
	locked := func(key *packet.PrivateKey) bool {
		return key != nil && !key.Dummy() && key.Encrypted
	}
	any := locked(entity.PrivateKey)
	for _, subkey := range entity.Subkeys {
		any = any || locked(subkey.PrivateKey)
	}
	if !any {
		return nil
	}
	id := entity.PrimaryKey.KeyIdString()
	if passphrase == nil {
		return &KeyError{Key: id, Reason: "needs a passphrase"}
	}
	if err := entity.DecryptPrivateKeys(passphrase); err != nil {
		return &KeyError{Key: id, Reason: "does not open with the passphrase", Err: err}
	}
	return nil
}

// signingKey returns the key of the entity that signs now.
func (r *Keyring) signingKey(entity *openpgp.Entity) (openpgp.Key, error) {
	id := entity.PrimaryKey.KeyIdString()
	key, ok := entity.SigningKey(r.time())
	switch {
	case entity.PrimaryKey.Version != 4:
		return key, &KeyError{Key: id, Reason: fmt.Sprintf("has version %d, clients know version 4", entity.PrimaryKey.Version)}
	case !ok:
		return key, &KeyError{Key: id, Reason: "can not sign: it has expired, was revoked or is not for signing"}
	case key.PrivateKey == nil || key.PrivateKey.Dummy():
		return key, &KeyError{Key: id, Reason: "has no secret part in the file"}
	}
	return key, nil
}

func (r *Keyring) time() time.Time {
	if r.now != nil {
		return r.now()
	}
	return time.Now()
}

// Sign implements [Signer].
func (r *Keyring) Sign(ctx context.Context, data []byte) ([][]byte, error) {
	signatures := make([][]byte, 0, len(r.entities))
	for _, entity := range r.entities {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("sign: %w", err)
		}
		key, err := r.signingKey(entity)
		if err != nil {
			return nil, err
		}
		signature, err := detach(key.PrivateKey, data, r.time())
		if err != nil {
			return nil, &KeyError{Key: key.PublicKey.KeyIdString(), Reason: "did not sign", Err: err}
		}
		signatures = append(signatures, signature)
	}
	return signatures, nil
}

// detach makes a signature packet (RFC 4880 §5.2.3) of type binary with the
// hashed subpackets creation time, issuer and issuer fingerprint.
func detach(key *packet.PrivateKey, data []byte, now time.Time) ([]byte, error) {
	config := &packet.Config{
		// A salt notation would make each signature of the same bytes
		// different and 80 bytes longer.
		NonDeterministicSignaturesViaNotation: new(false),
	}
	signature := &packet.Signature{
		Version:           key.Version,
		SigType:           packet.SigTypeBinary,
		PubKeyAlgo:        key.PubKeyAlgo,
		Hash:              crypto.SHA512,
		CreationTime:      now,
		IssuerKeyId:       &key.KeyId,
		IssuerFingerprint: key.Fingerprint,
	}
	hash, err := signature.PrepareSign(config)
	if err != nil {
		return nil, err
	}
	hash.Write(data)
	if err := signature.Sign(hash, key, config); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := signature.Serialize(&out); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Keys implements [Signer].
func (r *Keyring) Keys() []Key { return append([]Key(nil), r.keys...) }

// PublicKeys implements [Signer].
func (r *Keyring) PublicKeys() ([]byte, error) {
	var out bytes.Buffer
	for _, entity := range r.entities {
		if err := entity.Serialize(&out); err != nil {
			return nil, fmt.Errorf("export public key %s: %w", entity.PrimaryKey.KeyIdString(), err)
		}
	}
	return out.Bytes(), nil
}

// Armor writes public keys as text (RFC 4880 §6.2), as in a .asc file.
func Armor(publicKeys []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := armor.Encode(&out, openpgp.PublicKeyType, nil)
	if err != nil {
		return nil, fmt.Errorf("armor: %w", err)
	}
	_, err = w.Write(publicKeys)
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("armor: %w", err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// readKeys parses armored or binary keys, public or secret; of armored blocks
// there may be several, one after the other.
func readKeys(data []byte) (openpgp.EntityList, error) {
	if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("-----BEGIN")) {
		return readBinaryKeys(bytes.NewReader(data))
	}
	var all openpgp.EntityList
	text := bufio.NewReader(bytes.NewReader(data)) // shared by the blocks
	for {
		block, err := armor.Decode(text)
		if errors.Is(err, io.EOF) && len(all) > 0 {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read armored key: %w", err)
		}
		if block.Type != openpgp.PublicKeyType && block.Type != openpgp.PrivateKeyType {
			return nil, fmt.Errorf("read armored key: found a %s", block.Type)
		}
		entities, err := readBinaryKeys(block.Body)
		if err != nil {
			return nil, err
		}
		all = append(all, entities...)
	}
}

func readBinaryKeys(r io.Reader) (openpgp.EntityList, error) {
	entities, err := openpgp.ReadKeyRing(r)
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	if len(entities) == 0 {
		return nil, errors.New("read keys: there are none")
	}
	return entities, nil
}

func describe(entity *openpgp.Entity, key *packet.PublicKey) Key {
	described := Key{
		ID:          key.KeyIdString(),
		Fingerprint: strings.ToUpper(fmt.Sprintf("%x", entity.PrimaryKey.Fingerprint)),
	}
	if identity := entity.PrimaryIdentity(); identity != nil {
		described.UserID = identity.Name
	}
	switch key.PubKeyAlgo {
	case packet.PubKeyAlgoEdDSA, packet.PubKeyAlgoEd25519:
		described.Algorithm = "ed25519"
	case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSASignOnly:
		described.Algorithm = "rsa"
		if bits, err := key.BitLength(); err == nil {
			described.Algorithm = fmt.Sprintf("rsa%d", bits)
		}
	default:
		described.Algorithm = fmt.Sprintf("algorithm %d", key.PubKeyAlgo)
	}
	return described
}

func readPassphrase(path string) ([]byte, error) {
	text, err := readFile(path, maxPassphrase)
	if err != nil {
		return nil, fmt.Errorf("read passphrase: %w", err)
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), nil
}

func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return data, nil
}
