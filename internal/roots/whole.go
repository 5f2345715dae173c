package roots

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Whole returns nil if a file of OpenPGP keys or signatures, armored or not, or a text with
// a signature around it, is all there; else the error wraps [ErrMismatch]: it is being
// written, or damaged. An empty file is not whole. What is not OpenPGP, such as a signature
// of another kind, is taken for whole.
func Whole(data []byte) error {
	begin := []byte(beginMark)
	text := bytes.TrimSpace(data)
	switch {
	case len(text) == 0:
		return fmt.Errorf("%w: it is empty", ErrMismatch)
	case bytes.Contains(text, begin), bytes.HasPrefix(begin, text):
		return wholeArmor(text)
	case isPacket(data[0]):
		return wholePackets(data)
	}
	return nil
}

const (
	beginMark = "-----BEGIN "
	endMark   = "-----END "
	// signedText is the block of a text, which ends where that of its signature begins.
	signedText = "PGP SIGNED MESSAGE-----"
)

// isPacket reports whether a file of this first byte has a signature or a key in it
// (RFC 9580 §4.2, §5).
func isPacket(first byte) bool {
	switch first &^ 3 {
	case 0x80 | 2<<2, 0x80 | 6<<2:
		return true
	}
	return first == 0xC0|2 || first == 0xC0|6
}

var errCut = fmt.Errorf("%w: it is cut off, or damaged", ErrMismatch)

// wholeArmor looks through all blocks of a file.
func wholeArmor(text []byte) error {
	open, start, at := "", 0, 0
	for line := range bytes.Lines(text) {
		mark := string(bytes.TrimSpace(line))
		at += len(line)
		if kind, ok := strings.CutPrefix(mark, beginMark); ok {
			if open != "" && open != signedText {
				return errCut
			}
			open, start = kind, at-len(line)
			continue
		}
		kind, ok := strings.CutPrefix(mark, endMark)
		if !ok {
			continue
		}
		if kind != open || !strings.HasSuffix(kind, "-----") {
			return errCut
		}
		if strings.HasPrefix(kind, "PGP ") {
			if err := wholeBlock(text[start:at]); err != nil {
				return err
			}
		}
		open = ""
	}
	if open != "" || at > 0 && bytes.HasPrefix([]byte(beginMark), text) {
		return errCut
	}
	return nil
}

func wholeBlock(text []byte) error {
	block, err := armor.Decode(bytes.NewReader(text))
	if err != nil {
		return errCut
	}
	data, err := io.ReadAll(block.Body)
	if err != nil {
		return errCut
	}
	return wholePackets(data)
}

func wholePackets(data []byte) error {
	if len(data) == 0 {
		return errCut
	}
	for packets := packet.NewOpaqueReader(bytes.NewReader(data)); ; {
		switch _, err := packets.Next(); {
		case errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return errCut
		}
	}
}
