package agent

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"math/big"
)

// KeygripSize is the length of a keygrip in bytes.
const KeygripSize = sha1.Size

// Keygrip returns the name by which an agent knows a key, whatever protocol
// uses it: libgcrypt's SHA-1 over the key's parameters
// ("gpg --with-keygrip --list-keys" prints it).
func Keygrip(public crypto.PublicKey) (grip [KeygripSize]byte, err error) {
	switch key := public.(type) {
	case *rsa.PublicKey:
		return sha1.Sum(signed(key.N)), nil
	case ed25519.PublicKey:
		return gripOf(append(ed25519Parameters(), key)), nil
	case *ecdsa.PublicKey:
		point, err := key.Bytes()
		if err != nil {
			return grip, fmt.Errorf("keygrip: %w", err)
		}
		return gripOf(append(parametersOf(key.Curve), point)), nil
	}
	return grip, fmt.Errorf("keygrip: no agent has a key of the kind %T", public)
}

// signed is the number as libgcrypt's S-expressions have it: a leading zero
// keeps it positive.
func signed(n *big.Int) []byte {
	b := n.Bytes()
	if len(b) > 0 && b[0] >= 0x80 {
		b = append([]byte{0}, b...)
	}
	return b
}

// gripOf hashes the parameters p, a, b, g, n and q of a key on an elliptic
// curve, each as an S-expression.
func gripOf(parameters [][]byte) (grip [KeygripSize]byte) {
	hash := sha1.New()
	for i, value := range parameters {
		_, _ = fmt.Fprintf(hash, "(1:%c%d:%s)", "pabgnq"[i], len(value), value) // a hash does not fail
	}
	copy(grip[:], hash.Sum(nil))
	return grip
}

// parametersOf returns those of a curve of NIST, with a = -3. The numbers are
// without leading zeros, the point is not.
func parametersOf(curve elliptic.Curve) [][]byte {
	p := curve.Params()
	size := (p.BitSize + 7) / 8
	g := make([]byte, 1+2*size)
	g[0] = 4
	p.Gx.FillBytes(g[1 : 1+size])
	p.Gy.FillBytes(g[1+size:])
	return [][]byte{p.P.Bytes(), new(big.Int).Sub(p.P, big.NewInt(3)).Bytes(), p.B.Bytes(), g, p.N.Bytes()}
}

// ed25519Parameters returns those of the curve of RFC 8032 §5.1, as libgcrypt
// writes them: a without its sign, and d in the place of b.
func ed25519Parameters() [][]byte {
	parameters := make([][]byte, 0, 6)
	for _, text := range [...]string{
		"7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffed",
		"01",
		"2dfc9311d490018c7338bf8688861767ff8ff5b2bebe27548a14b235eca6874a",
		"04216936d3cd6e53fec0a4e231fdd6dc5c692cc7609525a7b2c9562d608f25d51a6666666666666666666666666666666666666666666666666666666666666658",
		"1000000000000000000000000000000014def9dea2f79cd65812631a5cf5d3ed",
	} {
		value, _ := hex.DecodeString(text) // as it is written above
		parameters = append(parameters, value)
	}
	return parameters
}
