package agent

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"strconv"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// sigVal is a signature as libgcrypt writes it, an S-expression such as
// (sig-val (eddsa (r …) (s …))).
type sigVal struct {
	algorithm string
	values    map[string][]byte // by their letter
}

var errSigVal = errors.New("gpg-agent's signature cannot be read")

// parseSigVal reads the canonical form: lengths before strings, nothing
// between.
func parseSigVal(data []byte) (*sigVal, error) {
	p := sexp{data}
	v := &sigVal{values: map[string][]byte{}}
	if !p.open() || p.string() != "sig-val" || !p.open() {
		return nil, errSigVal
	}
	v.algorithm = p.string()
	for p.open() {
		name := p.string()
		v.values[name] = []byte(p.string())
		if !p.close() {
			return nil, errSigVal
		}
	}
	for range 2 {
		if !p.close() {
			return nil, errSigVal
		}
	}
	return v, nil
}

// sexp is what is left to read.
type sexp struct{ rest []byte }

func (p *sexp) skip(b byte) bool {
	if len(p.rest) == 0 || p.rest[0] != b {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *sexp) open() bool  { return p.skip('(') }
func (p *sexp) close() bool { return p.skip(')') }

// string reads LENGTH:BYTES; "" when there is none.
func (p *sexp) string() string {
	length, rest, found := bytes.Cut(p.rest, []byte(":"))
	n, err := strconv.ParseUint(string(length), 10, 16)
	if !found || err != nil || uint64(len(rest)) < n {
		return ""
	}
	p.rest = rest[n:]
	return string(rest[:n])
}

// signature returns the values in the form of crypto.Signer.
func (v *sigVal) signature(public crypto.PublicKey) ([]byte, error) {
	r, s := v.values["r"], v.values["s"]
	switch key := public.(type) {
	case *rsa.PublicKey:
		if s = bytes.TrimLeft(s, "\x00"); v.algorithm == "rsa" && len(s) > 0 && len(s) <= key.Size() {
			return append(make([]byte, key.Size()-len(s)), s...), nil
		}
	case ed25519.PublicKey:
		const half = ed25519.SignatureSize / 2
		if v.algorithm == "eddsa" && len(r) <= half && len(s) <= half {
			signature := make([]byte, 2*half)
			copy(signature[half-len(r):], r)
			copy(signature[2*half-len(s):], s)
			return signature, nil
		}
	case *ecdsa.PublicKey:
		if v.algorithm == "ecdsa" && len(r) > 0 && len(s) > 0 {
			var b cryptobyte.Builder
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1BigInt(new(big.Int).SetBytes(r))
				b.AddASN1BigInt(new(big.Int).SetBytes(s))
			})
			return b.Bytes()
		}
	}
	return nil, fmt.Errorf("%w: %.40q with %d values for a %T", errSigVal, v.algorithm, len(v.values), public)
}
