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
	"slices"
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

// KeyFile names a file with keys, and where their secret parts are: in the file,
// unless Agent or PKCS11 says otherwise.
type KeyFile struct {
	// Path is the file, armored or binary.
	Path string
	// Passphrase is the file whose first line opens the keys, or is the PIN of the
	// token; empty for keys without a passphrase and tokens without a PIN.
	Passphrase string
	// Fingerprint is that of the one key in the file that is meant, 40
	// hexadecimal digits; empty for all of them.
	Fingerprint string

	// Agent is the socket of the gpg-agent that keeps the secret parts.
	Agent string
	// PKCS11 is the URI of the secret key in a token (RFC 7512); the file then has
	// one key. Helper is the program that speaks with the token.
	PKCS11, Helper string
	// Timeout bounds a signature by an agent or a token; 0 is [DefaultTimeout].
	Timeout time.Duration
}

// Remote tells whether the secret parts are elsewhere than in the file.
func (f *KeyFile) Remote() bool { return f.Agent != "" || f.PKCS11 != "" }

// Keyring is a [Signer] with keys from files, whose secret parts are in memory
// or are reached through an agent or a token. The zero value has no keys and
// makes no signatures.
type Keyring struct {
	members []member
	now     func() time.Time // nil means time.Now
}

// member is one key of a keyring.
type member struct {
	entity *openpgp.Entity
	key    Key
	remote *remote // nil: the secret part is that of the entity
}

var _ Signer = (*Keyring)(nil)

// Open reads the key files and opens every key in them. Each primary key signs
// once, with its newest signing subkey if it has any. A key that can not sign
// now, whatever the reason, is an error; but an agent or a token is asked for
// the first time when it is to sign, and a key that was made later than the
// clock shows is away ([Away]) until the clock is right. Close the keyring after
// use.
func Open(files ...KeyFile) (*Keyring, error) {
	var ring Keyring
	for i := range files {
		if err := ring.add(&files[i]); err != nil {
			return nil, errors.Join(fmt.Errorf("open key file %s: %w", files[i].Path, err), ring.Close())
		}
	}
	return &ring, nil
}

// Join makes one keyring of several, with the keys of all. They remain open.
func Join(rings ...*Keyring) *Keyring {
	var all Keyring
	for _, ring := range rings {
		all.members = append(all.members, ring.members...)
	}
	return &all
}

// Remote tells whether an agent or a token has to be there for a signature.
func (r *Keyring) Remote() bool {
	return slices.ContainsFunc(r.members, func(m member) bool { return m.remote != nil })
}

// Ready tells whether the keys are there, as far as that is known without asking
// somebody for a PIN: of an agent or a token it is nil until a key was found to be
// away, and from then on what comes of another signature. An error is as that of
// Sign.
func (r *Keyring) Ready(ctx context.Context) error {
	for _, m := range r.members {
		if _, err := r.signingKey(m.entity, m.remote != nil); err != nil {
			if _, away := Away(err); away {
				return err
			}
		}
		if m.remote == nil || !m.remote.missed.Load() {
			continue
		}
		if _, err := m.remote.sign(ctx, []byte(probeText), r.time()); err != nil {
			if _, away := Away(err); away {
				return err
			}
			return nil // who signs will be told
		}
	}
	return nil
}

// Close leaves the agents and tokens alone again.
func (r *Keyring) Close() error {
	var errs []error
	for _, m := range r.members {
		if m.remote != nil {
			errs = append(errs, m.remote.secret.Close())
		}
	}
	return errors.Join(errs...)
}

func (r *Keyring) add(file *KeyFile) error {
	entities, err := file.entities()
	if err != nil {
		return err
	}
	var passphrase []byte
	if file.Passphrase != "" && !file.Remote() {
		if passphrase, err = readPassphrase(file.Passphrase); err != nil {
			return err
		}
	}
	for _, entity := range entities {
		m := member{entity: entity}
		if !file.Remote() {
			if err := unlock(entity, passphrase); err != nil {
				return err
			}
		}
		key, err := r.signingKey(entity, file.Remote())
		if _, away := Away(err); err != nil && !away {
			return err
		}
		m.key = describe(entity, key.PublicKey)
		if file.Remote() {
			if m.remote, err = newRemote(file, key.PublicKey); err != nil {
				return err
			}
		}
		r.members = append(r.members, m)
	}
	return nil
}

// entities reads those keys of the file that are meant.
func (f *KeyFile) entities() (openpgp.EntityList, error) {
	data, err := readFile(f.Path, maxKeyFile)
	if err != nil {
		return nil, err
	}
	all, err := readKeys(data)
	if err != nil {
		return nil, err
	}
	meant := all
	if f.Fingerprint != "" {
		var found []string
		meant = nil
		for _, entity := range all {
			fingerprint := fingerprintOf(entity)
			found = append(found, fingerprint)
			if strings.EqualFold(fingerprint, f.Fingerprint) {
				meant = append(meant, entity)
			}
		}
		if len(meant) == 0 {
			return nil, &KeyError{Key: f.Fingerprint, Reason: "is not in the file, which has " + strings.Join(found, ", ")}
		}
	}
	if f.PKCS11 != "" && len(meant) != 1 {
		return nil, fmt.Errorf("it has %d keys, and the token is to have the one: name its fingerprint", len(meant))
	}
	return meant, nil
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

// signingKey returns the key of the entity that signs now; remote says that its
// secret part is not to be in the file. When the clock shows a time before the key
// was made, it returns the key and an error that is [Away].
func (r *Keyring) signingKey(entity *openpgp.Entity, remote bool) (openpgp.Key, error) {
	id := entity.PrimaryKey.KeyIdString()
	now, made := r.time(), lastChange(entity)
	key, ok := entity.SigningKey(now)
	early := !ok && now.Before(made)
	if early {
		key, ok = entity.SigningKey(made)
	}
	switch {
	case entity.PrimaryKey.Version != 4:
		return key, &KeyError{Key: id, Reason: fmt.Sprintf("has version %d, clients know version 4", entity.PrimaryKey.Version)}
	case !ok:
		return key, &KeyError{Key: id, Reason: "can not sign: it has expired, was revoked or is not for signing"}
	case !remote && (key.PrivateKey == nil || key.PrivateKey.Dummy()):
		return key, &KeyError{Key: id, Reason: "has no secret part in the file"}
	case early:
		const utc = "2006-01-02 15:04:05 UTC"
		reason := fmt.Sprintf("is of %s, and the clock of this machine shows %s: set the clock right", made.UTC().Format(utc), now.UTC().Format(utc))
		return key, &KeyError{Key: id, Reason: reason, Away: true}
	}
	return key, nil
}

// lastChange is when the newest part of a key was made, or was revoked.
func lastChange(entity *openpgp.Entity) time.Time {
	last := entity.PrimaryKey.CreationTime
	signed := func(signatures ...*packet.Signature) {
		for _, s := range signatures {
			if s != nil && s.CreationTime.After(last) {
				last = s.CreationTime
			}
		}
	}
	signed(entity.SelfSignature)
	signed(entity.Revocations...)
	for _, identity := range entity.Identities {
		signed(identity.SelfSignature)
		signed(identity.Revocations...)
	}
	for _, subkey := range entity.Subkeys { // a binding is not older than its key
		signed(subkey.Sig)
		signed(subkey.Revocations...)
	}
	return last
}

func (r *Keyring) time() time.Time {
	if r.now != nil {
		return r.now()
	}
	return time.Now()
}

// Sign implements [Signer].
func (r *Keyring) Sign(ctx context.Context, data []byte) ([][]byte, error) {
	signatures := make([][]byte, 0, len(r.members))
	for _, m := range r.members {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("sign: %w", err)
		}
		key, err := r.signingKey(m.entity, m.remote != nil)
		if err != nil {
			return nil, err
		}
		var signature []byte
		if m.remote != nil {
			signature, err = m.remote.sign(ctx, data, r.time())
		} else if signature, err = detach(key.PrivateKey, data, r.time()); err != nil {
			err = &KeyError{Key: m.key.ID, Reason: "did not sign", Err: err}
		}
		if err != nil {
			return nil, err
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
func (r *Keyring) Keys() []Key {
	keys := make([]Key, len(r.members))
	for i, m := range r.members {
		keys[i] = m.key
	}
	return keys
}

// PublicKeys implements [Signer].
func (r *Keyring) PublicKeys() ([]byte, error) {
	var out bytes.Buffer
	for _, m := range r.members {
		if err := m.entity.Serialize(&out); err != nil {
			return nil, fmt.Errorf("export public key %s: %w", m.key.ID, err)
		}
	}
	return out.Bytes(), nil
}

// PublicKeys reads keys, armored or binary, and returns them in binary form, of
// secret keys the public part.
func PublicKeys(data []byte) ([]byte, error) {
	keys, err := readKeys(data)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, key := range keys {
		if err := key.Serialize(&out); err != nil {
			return nil, fmt.Errorf("export public key %X: %w", key.PrimaryKey.Fingerprint, err)
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
		Fingerprint: fingerprintOf(entity),
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

func fingerprintOf(entity *openpgp.Entity) string {
	return strings.ToUpper(fmt.Sprintf("%x", entity.PrimaryKey.Fingerprint))
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
