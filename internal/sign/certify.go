package sign

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"math/bits"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Certify makes the OpenPGP public key (a certificate) of a key in a PKCS #11
// token: token keys have neither a user id nor a time of creation, which belongs
// to the fingerprint. The token signs the binding of the user id, which is as
// [Generate] takes it. file.Path may be empty. The result is what PublicKeys
// returns.
//
// Certifying a key again, with another time, gives another fingerprint: for
// clients another key.
func Certify(ctx context.Context, file KeyFile, userID string, created time.Time) (Key, []byte, error) {
	key, certificate, err := certify(ctx, &file, userID, created)
	if err != nil {
		return Key{}, nil, fmt.Errorf("certify %s: %w", file.PKCS11, err)
	}
	return key, certificate, nil
}

func certify(ctx context.Context, file *KeyFile, userID string, created time.Time) (_ Key, _ []byte, err error) {
	name, address, err := splitUserID(userID)
	if err != nil {
		return Key{}, nil, err
	}
	secret, err := openToken(file, nil)
	if err != nil {
		return Key{}, nil, err
	}
	defer func() { err = errors.Join(err, secret.Close()) }()
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(file.Timeout, DefaultTimeout))
	defer cancel()
	found, err := secret.Public(ctx)
	if err != nil {
		return Key{}, nil, err
	}
	public, err := publicKey(found, created)
	if err != nil {
		return Key{}, nil, err
	}
	var refused error
	private, err := (&remote{public: public}).private(func(digest []byte) (signature []byte, _ error) {
		signature, refused = secret.SignDigest(ctx, digest)
		return signature, refused
	})
	if err != nil {
		return Key{}, nil, err
	}
	entity := &openpgp.Entity{PrimaryKey: public, PrivateKey: private, Identities: map[string]*openpgp.Identity{}}
	config := &packet.Config{
		DefaultHash:                           crypto.SHA512,
		Time:                                  func() time.Time { return created },
		NonDeterministicSignaturesViaNotation: new(false),
	}
	if err := cmp.Or(entity.AddUserId(name, "", address, config), refused); err != nil {
		return Key{}, nil, err
	}
	var out bytes.Buffer
	if err := entity.Serialize(&out); err != nil {
		return Key{}, nil, cmp.Or(refused, err)
	}
	// Reading it checks the signature that the token has made.
	whole, err := readKeys(out.Bytes())
	if err != nil {
		return Key{}, nil, fmt.Errorf("the token's signature is not good: %w", err)
	}
	return describe(whole[0], public), out.Bytes(), nil
}

// publicKey is a public key packet of version 4 (RFC 4880 §5.5.2).
func publicKey(key crypto.PublicKey, created time.Time) (*packet.PublicKey, error) {
	body := binary.BigEndian.AppendUint32([]byte{4}, uint32(created.Unix()))
	switch key := key.(type) {
	case *rsa.PublicKey:
		body = append(body, byte(packet.PubKeyAlgoRSA))
		body = appendMPI(appendMPI(body, key.N.Bytes()), big.NewInt(int64(key.E)).Bytes())
	case ed25519.PublicKey:
		// Of draft-koch-eddsa-for-openpgp, which is what GnuPG 2.2 knows.
		body = append(body, byte(packet.PubKeyAlgoEdDSA), 9, 0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x0f, 0x01)
		body = appendMPI(body, append([]byte{0x40}, key...))
	case *ecdsa.PublicKey:
		oid, known := map[string]string{
			"P-256": "\x2a\x86\x48\xce\x3d\x03\x01\x07", "P-384": "\x2b\x81\x04\x00\x22", "P-521": "\x2b\x81\x04\x00\x23",
		}[key.Params().Name]
		if !known {
			return nil, fmt.Errorf("no key on the curve %s can be certified", key.Params().Name)
		}
		point, err := key.Bytes()
		if err != nil {
			return nil, err
		}
		body = append(body, byte(packet.PubKeyAlgoECDSA), byte(len(oid)))
		body = appendMPI(append(body, oid...), point)
	default:
		return nil, fmt.Errorf("a %T cannot be certified", key)
	}
	// A new format header (§4.2.2) with a length of five octets.
	whole := binary.BigEndian.AppendUint32([]byte{0xc0 | 6, 0xff}, uint32(len(body)))
	p, err := packet.Read(bytes.NewReader(append(whole, body...)))
	if err != nil {
		return nil, err
	}
	return p.(*packet.PublicKey), nil
}

// appendMPI appends a number (RFC 4880 §3.2).
func appendMPI(b, number []byte) []byte {
	number = bytes.TrimLeft(number, "\x00")
	n := 0
	if len(number) > 0 {
		n = 8*(len(number)-1) + bits.Len8(number[0])
	}
	return append(binary.BigEndian.AppendUint16(b, uint16(n)), number...)
}
