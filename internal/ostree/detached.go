package ostree

import (
	"fmt"

	"freshet/internal/gvariant"
)

// KeyGPGSignatures is the key of detached metadata that holds OpenPGP
// signatures: aay of binary detached signatures over the signed file.
const KeyGPGSignatures = "ostree.gpgsigs"

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
func GPGSignatures(d gvariant.Dict) [][]byte {
	list, _ := d.Get(KeyGPGSignatures)
	if !list.Is("aay") {
		return nil
	}
	signatures := make([][]byte, 0, list.Len())
	for s := range list.Children() {
		signatures = append(signatures, s.Bytes())
	}
	return signatures
}

// SetGPGSignatures replaces the OpenPGP signatures in detached metadata; with
// none, the key is removed.
func SetGPGSignatures(d *gvariant.Dict, signatures [][]byte) {
	if len(signatures) == 0 {
		d.Delete(KeyGPGSignatures)
		return
	}
	list := gvariant.ArrayBuilder{Elem: "ay"}
	for _, s := range signatures {
		list.AppendRaw(s)
	}
	d.Set(KeyGPGSignatures, list.Value())
}
