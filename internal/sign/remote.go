package sign

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"math/big"
	"sync/atomic"
	"time"

	pgpecdsa "github.com/ProtonMail/go-crypto/openpgp/ecdsa"
	"github.com/ProtonMail/go-crypto/openpgp/eddsa"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"freshet/internal/sign/agent"
	"freshet/internal/sign/token"
)

// DefaultTimeout is how long an agent or a token may take for a signature.
const DefaultTimeout = 30 * time.Second

// secret is the secret part of a key that is elsewhere.
type secret interface {
	// SignDigest signs a SHA-512 digest. The form is that of crypto.Signer:
	// PKCS #1 version 1.5, ASN.1 for ECDSA, 64 bytes for Ed25519.
	SignDigest(ctx context.Context, digest []byte) ([]byte, error)
	io.Closer
}

// remote is a key whose secret part is elsewhere.
type remote struct {
	public  *packet.PublicKey
	secret  secret
	timeout time.Duration
	// missed is set while the key is known to be away.
	missed atomic.Bool
}

func newRemote(file *KeyFile, public *packet.PublicKey) (*remote, error) {
	key, err := standardKey(public)
	if err != nil {
		return nil, err
	}
	r := &remote{public: public, timeout: cmp.Or(file.Timeout, DefaultTimeout)}
	if file.Agent != "" {
		r.secret, err = agent.New(file.Agent, key)
	} else {
		r.secret, err = openToken(file, key)
	}
	if err != nil {
		return nil, &KeyError{Key: public.KeyIdString(), Reason: "cannot be used", Err: err}
	}
	return r, nil
}

// openToken names the key in a token; public is nil when it is to be found out.
func openToken(file *KeyFile, public crypto.PublicKey) (*token.Key, error) {
	config := token.Config{Helper: file.Helper, URI: file.PKCS11, Public: public}
	if file.Passphrase != "" {
		config.PIN = func() ([]byte, error) { return readPassphrase(file.Passphrase) }
	}
	return token.Open(config)
}

// sign makes a signature and checks it, so that nothing that clients refuse is
// published, whatever an agent or a token answers.
func (r *remote) sign(ctx context.Context, data []byte, now time.Time) ([]byte, error) {
	id := r.public.KeyIdString()
	limited, cancel := context.WithTimeoutCause(ctx, r.timeout, fmt.Errorf("no signature within %v", r.timeout))
	defer cancel()
	var refused error // the library does not pass on every error of a signer
	private, err := r.private(func(digest []byte) (signature []byte, _ error) {
		signature, refused = r.secret.SignDigest(limited, digest)
		return signature, refused
	})
	if err != nil {
		return nil, err
	}
	signature, err := detach(private, data, now)
	if err = cmp.Or(refused, err); err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("sign: %w", context.Cause(ctx))
		}
		_, wrong := errors.AsType[*token.WrongKeyError](err)
		reason := "is away"
		if wrong {
			reason = "is not the one in the token"
		}
		r.missed.Store(!wrong)
		return nil, &KeyError{Key: id, Reason: reason, Err: err, Away: !wrong}
	}
	r.missed.Store(false)
	if err := r.verify(data, signature); err != nil {
		return nil, &KeyError{Key: id, Reason: "is another one than the one that signed", Err: err}
	}
	return signature, nil
}

func (r *remote) verify(data, signature []byte) error {
	p, err := packet.Read(bytes.NewReader(signature))
	if err != nil {
		return err
	}
	parsed, ok := p.(*packet.Signature)
	if !ok {
		return fmt.Errorf("a %T is no signature", p)
	}
	hash := crypto.SHA512.New()
	hash.Write(data)
	return r.public.VerifySignature(hash, parsed)
}

// private returns a key that signs by asking for the signature of a digest.
func (r *remote) private(ask func(digest []byte) ([]byte, error)) (*packet.PrivateKey, error) {
	private := &packet.PrivateKey{PublicKey: *r.public}
	switch key := r.public.PublicKey.(type) {
	case *rsa.PublicKey:
		private.PrivateKey = asker{key, ask}
	case *pgpecdsa.PublicKey:
		private.PrivateKey = asker{key, ask}
	case *eddsa.PublicKey:
		// The library lets no crypto.Signer take the place of this kind of key,
		// but any curve sign.
		asking := eddsa.NewPublicKey(askingCurve{key.GetCurve(), ask})
		asking.X = key.X
		private.PrivateKey = eddsa.NewPrivateKey(*asking)
	default:
		return nil, unusable(r.public)
	}
	return private, nil
}

// asker is a crypto.Signer that asks.
type asker struct {
	public crypto.PublicKey
	ask    func(digest []byte) ([]byte, error)
}

func (a asker) Public() crypto.PublicKey { return a.public }

func (a asker) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	return a.ask(digest)
}

// edDSACurve is what the library wants of a curve.
type edDSACurve interface {
	GetCurveName() string
	MarshalBytePoint(x []byte) []byte
	UnmarshalBytePoint(encoded []byte) (x []byte)
	MarshalByteSecret(d []byte) []byte
	UnmarshalByteSecret(d []byte) []byte
	MarshalSignature(sig []byte) (r, s []byte)
	UnmarshalSignature(r, s []byte) (sig []byte)
	GenerateEdDSA(rand io.Reader) (pub, priv []byte, err error)
	Sign(publicKey, privateKey, message []byte) (sig []byte, err error)
	Verify(publicKey, message, sig []byte) bool
	ValidateEdDSA(publicKey, privateKey []byte) (err error)
}

// askingCurve signs by asking, and else is the curve.
type askingCurve struct {
	edDSACurve
	ask func(digest []byte) ([]byte, error)
}

func (c askingCurve) Sign(_, _, message []byte) ([]byte, error) { return c.ask(message) }

func unusable(public *packet.PublicKey) error {
	return &KeyError{
		Key: public.KeyIdString(), Reason: fmt.Sprintf("is of algorithm %d, which agents and tokens do not sign with: want RSA, ECDSA over a curve of NIST or Ed25519", public.PubKeyAlgo),
	}
}

// standardKey is the key as the standard library has it.
func standardKey(public *packet.PublicKey) (crypto.PublicKey, error) {
	switch key := public.PublicKey.(type) {
	case *rsa.PublicKey:
		return key, nil
	case *eddsa.PublicKey:
		if key.GetCurve().GetCurveName() == "ed25519" && len(key.X) == ed25519.PublicKeySize {
			return ed25519.PublicKey(key.X), nil
		}
	case *pgpecdsa.PublicKey:
		for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
			if size := (curve.Params().BitSize + 7) / 8; key.X.BitLen() <= 8*size && key.Y.BitLen() <= 8*size {
				if found, err := ecdsa.ParseUncompressedPublicKey(curve, uncompressed(key.X, key.Y, size)); err == nil {
					return found, nil
				}
			}
		}
	}
	return nil, unusable(public)
}

// uncompressed is a point as SEC 1 §2.3.3 writes it.
func uncompressed(x, y *big.Int, size int) []byte {
	point := make([]byte, 1+2*size)
	point[0] = 4
	x.FillBytes(point[1 : 1+size])
	y.FillBytes(point[1+size:])
	return point
}
