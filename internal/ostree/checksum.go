package ostree

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Checksum is the SHA-256 that names an object. The zero Checksum stands for
// "none", such as the parent of a first commit.
type Checksum [sha256.Size]byte

// ChecksumOf returns the checksum of bytes; it names metadata objects.
func ChecksumOf(data []byte) Checksum { return sha256.Sum256(data) }

// ParseChecksum reads 64 lower-case hexadecimal digits.
func ParseChecksum(s string) (Checksum, error) {
	var c Checksum
	if len(s) != hex.EncodedLen(len(c)) {
		return Checksum{}, fmt.Errorf("%w: checksum of %d characters instead of 64", ErrName, len(s))
	}
	for i := range len(s) {
		if d := s[i]; (d < '0' || d > '9') && (d < 'a' || d > 'f') {
			return Checksum{}, fmt.Errorf("%w: checksum %q is not lower-case hexadecimal", ErrName, s)
		}
	}
	if _, err := hex.Decode(c[:], []byte(s)); err != nil {
		return Checksum{}, fmt.Errorf("%w: checksum %q: %w", ErrName, s, err)
	}
	return c, nil
}

// ChecksumFromBytes takes the 32 bytes of a checksum, as variants hold them.
func ChecksumFromBytes(b []byte) (Checksum, error) {
	var c Checksum
	if len(b) != len(c) {
		return Checksum{}, fmt.Errorf("%w: checksum of %d bytes instead of 32", ErrMalformed, len(b))
	}
	copy(c[:], b)
	return c, nil
}

// String returns 64 lower-case hexadecimal digits.
func (c Checksum) String() string { return hex.EncodeToString(c[:]) }

// IsZero tells whether c stands for "none".
func (c Checksum) IsZero() bool { return c == Checksum{} }

// Compare orders checksums byte by byte.
func (c Checksum) Compare(d Checksum) int { return bytes.Compare(c[:], d[:]) }

// MarshalText is [Checksum.String]; "none" becomes the empty text.
func (c Checksum) MarshalText() ([]byte, error) {
	if c.IsZero() {
		return nil, nil
	}
	return hex.AppendEncode(nil, c[:]), nil
}

// UnmarshalText is [ParseChecksum]; the empty text becomes "none".
func (c *Checksum) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*c = Checksum{}
		return nil
	}
	parsed, err := ParseChecksum(string(text))
	if err != nil {
		return err
	}
	*c = parsed
	return nil
}
