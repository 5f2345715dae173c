package ostree

import (
	"fmt"

	"freshet/internal/gvariant"
)

// Keys of detached metadata that hold signatures: aay of binary signatures over
// the signed file. Those of OpenPGP are detached ones, those of ed25519 have 64
// bytes.
const (
	KeyGPGSignatures     = "ostree.gpgsigs"
	KeyEd25519Signatures = "ostree.sign.ed25519"
)

// ParseDetached reads detached metadata: a commitmeta object, a summary.sig or
// a summaries/<digest>.idx.sig. Unknown keys are kept. It is encoded by
// [EncodeDetached].
func ParseDetached(data []byte) (gvariant.Dict, error) {
	v, err := parseVariant("a{sv}", data)
	if err != nil {
		return gvariant.Dict{}, fmt.Errorf("parse detached metadata: %w", err)
	}
	return gvariant.DictOf(v)
}

// EncodeDetached returns the bytes of detached metadata.
func EncodeDetached(d gvariant.Dict) []byte { return d.Value().Data() }

// GPGSignatures returns the OpenPGP signatures in detached metadata.
func GPGSignatures(d gvariant.Dict) [][]byte { return signatures(d, KeyGPGSignatures) }

// SetGPGSignatures replaces the OpenPGP signatures in detached metadata; with
// none, the key is removed.
func SetGPGSignatures(d *gvariant.Dict, list [][]byte) { setSignatures(d, KeyGPGSignatures, list) }

// Ed25519Signatures returns the ed25519 signatures in detached metadata.
func Ed25519Signatures(d gvariant.Dict) [][]byte { return signatures(d, KeyEd25519Signatures) }

// SetEd25519Signatures replaces the ed25519 signatures in detached metadata; with
// none, the key is removed.
func SetEd25519Signatures(d *gvariant.Dict, list [][]byte) {
	setSignatures(d, KeyEd25519Signatures, list)
}

func signatures(d gvariant.Dict, key string) [][]byte {
	list, _ := d.Get(key)
	if !list.Is("aay") {
		return nil
	}
	signatures := make([][]byte, 0, list.Len())
	for s := range list.Children() {
		signatures = append(signatures, s.Bytes())
	}
	return signatures
}

func setSignatures(d *gvariant.Dict, key string, signatures [][]byte) {
	if len(signatures) == 0 {
		d.Delete(key)
		return
	}
	list := gvariant.ArrayBuilder{Elem: "ay"}
	for _, s := range signatures {
		list.AppendRaw(s)
	}
	d.Set(key, list.Value())
}
