//go:build cgo

package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"

	"github.com/miekg/pkcs11"

	"freshet/internal/sign/token"
)

// Of PKCS #11 version 3.0, section 2.3.
const (
	keyEdwards     = 0x40   // CKK_EC_EDWARDS
	mechanismEdDSA = 0x1057 // CKM_EDDSA
)

// sha512Prefix is what stands before a SHA-512 digest in a signature of PKCS #1
// version 1.5 (RFC 8017 §9.2, note 1).
var sha512Prefix = []byte{
	0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40,
}

// tokenKey is a secret key, ready to sign.
type tokenKey struct {
	library library
	session pkcs11.SessionHandle
	object  pkcs11.ObjectHandle
	kind    uint   // CKK_…
	order   int    // bytes of the order of an ECDSA curve
	pin     string // for keys that want it for each signature
	always  bool
	public  []byte // SubjectPublicKeyInfo; nil when the token does not tell
}

// open finds the key of a URI.
func open(request *token.OpenRequest) (_ *tokenKey, err error) {
	if request.Protocol != token.Protocol {
		return nil, fmt.Errorf("the hub speaks protocol %d, this is %d: install both from the same release", request.Protocol, token.Protocol)
	}
	uri, err := token.ParseURI(request.URI)
	if err != nil {
		return nil, err
	}
	lib, err := load(uri.Module)
	if err != nil {
		return nil, err
	}
	k := &tokenKey{library: lib, pin: string(request.PIN)}
	defer func() {
		if err != nil {
			lib.close()
		}
	}()
	slot, info, err := lib.slot(uri)
	if err != nil {
		return nil, err
	}
	if k.session, err = lib.login(slot, info, request.PIN); err != nil {
		return nil, err
	}
	if err := k.find(uri); err != nil {
		return nil, err
	}
	return k, k.describe()
}

func (k *tokenKey) close() {
	_ = k.library.Logout(k.session) // it may have needed no login
	_ = k.library.CloseSession(k.session)
	k.library.close()
}

// find looks for the one secret key.
func (k *tokenKey) find(uri *token.URI) error {
	template := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY)}
	if uri.Object != "" {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_LABEL, uri.Object))
	}
	if len(uri.ID) > 0 {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_ID, uri.ID))
	}
	found, err := k.library.find(k.session, template...)
	if err != nil {
		return err
	}
	switch len(found) {
	case 0:
		return absent("the token has no secret key %s", uri)
	case 1:
		k.object = found[0]
		return nil
	}
	return absent("%d secret keys are %s: name one by its id", len(found), uri)
}

// describe reads what signing needs to know of the key, and its public part.
func (k *tokenKey) describe() error {
	kind := k.library.attribute(k.session, k.object, pkcs11.CKA_KEY_TYPE)
	switch len(kind) { // that of an unsigned long
	case 4:
		k.kind = uint(binary.NativeEndian.Uint32(kind))
	case 8:
		k.kind = uint(binary.NativeEndian.Uint64(kind))
	default:
		return errors.New("the token does not tell the type of the key")
	}
	k.always = bytes.Equal(k.library.attribute(k.session, k.object, pkcs11.CKA_ALWAYS_AUTHENTICATE), []byte{1})
	var public crypto.PublicKey
	switch k.kind {
	case pkcs11.CKK_RSA:
		public = k.rsaKey()
	case pkcs11.CKK_EC, keyEdwards:
		var err error
		if public, err = k.curveKey(); err != nil {
			return err
		}
	default:
		return fmt.Errorf("the key has type %#x: want RSA, ECDSA or Ed25519", k.kind)
	}
	if public == nil {
		return nil
	}
	var err error
	k.public, err = x509.MarshalPKIXPublicKey(public)
	return err
}

// rsaKey returns the public part, nil when the token does not tell it.
func (k *tokenKey) rsaKey() crypto.PublicKey {
	n := k.library.attribute(k.session, k.object, pkcs11.CKA_MODULUS)
	e := new(big.Int).SetBytes(k.library.attribute(k.session, k.object, pkcs11.CKA_PUBLIC_EXPONENT))
	if len(n) == 0 || e.Sign() == 0 || e.BitLen() > 31 {
		return nil
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(e.Int64())}
}

// curveKey returns the public part, nil when the token does not tell it, which
// is an object of its own with the same id.
func (k *tokenKey) curveKey() (crypto.PublicKey, error) {
	params := k.library.attribute(k.session, k.object, pkcs11.CKA_EC_PARAMS)
	curve := curveOf(params)
	if curve != nil {
		k.order = (curve.Params().N.BitLen() + 7) / 8
	} else if k.kind == pkcs11.CKK_EC {
		return nil, fmt.Errorf("the key is on a curve %x: want P-256, P-384 or P-521", params)
	}
	point := k.library.attribute(k.session, k.object, pkcs11.CKA_EC_POINT)
	if id := k.library.attribute(k.session, k.object, pkcs11.CKA_ID); point == nil && len(id) > 0 {
		objects, err := k.library.find(k.session, pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), pkcs11.NewAttribute(pkcs11.CKA_ID, id))
		if err != nil {
			return nil, err
		}
		if len(objects) == 1 {
			point = k.library.attribute(k.session, objects[0], pkcs11.CKA_EC_POINT)
		}
	}
	// It is an OCTET STRING around the point, which some forget.
	var inner []byte
	if rest, err := asn1.Unmarshal(point, &inner); err == nil && len(rest) == 0 {
		point = inner
	}
	switch {
	case k.kind == keyEdwards && len(point) == ed25519.PublicKeySize:
		return ed25519.PublicKey(point), nil
	case curve != nil:
		if public, err := ecdsa.ParseUncompressedPublicKey(curve, point); err == nil {
			return public, nil
		}
	}
	return nil, nil //nolint:nilnil // the signatures will tell
}

// curveOf reads the object identifier of a curve.
func curveOf(params []byte) elliptic.Curve {
	var oid asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(params, &oid); err != nil {
		return nil
	}
	return map[string]elliptic.Curve{
		"1.2.840.10045.3.1.7": elliptic.P256(), "1.3.132.0.34": elliptic.P384(), "1.3.132.0.35": elliptic.P521(),
	}[oid.String()]
}

// sign signs a SHA-512 digest.
func (k *tokenKey) sign(digest []byte) ([]byte, error) {
	if len(digest) != sha512.Size {
		return nil, fmt.Errorf("a digest of %d bytes is not of SHA-512", len(digest))
	}
	mechanism, message := uint(pkcs11.CKM_RSA_PKCS), append(bytes.Clone(sha512Prefix), digest...)
	switch k.kind {
	case keyEdwards:
		mechanism, message = mechanismEdDSA, digest
	case pkcs11.CKK_EC:
		mechanism, message = pkcs11.CKM_ECDSA, digest[:min(len(digest), k.order)]
	}
	if err := k.library.SignInit(k.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, k.object); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	if k.always {
		if err := k.library.Login(k.session, pkcs11.CKU_CONTEXT_SPECIFIC, k.pin); err != nil {
			return nil, fmt.Errorf("log in to sign: %w", err)
		}
	}
	signature, err := k.library.Sign(k.session, message)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	if k.kind == pkcs11.CKK_EC {
		half := len(signature) / 2
		return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:])})
	}
	return signature, nil
}
