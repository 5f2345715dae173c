package delta_test

import (
	"bytes"
	"errors"
	"testing"

	"freshet/internal/ostree"
	"freshet/internal/ostree/delta"
	"freshet/internal/ostree/ostreetest"
)

// sourceFile is the file that a client has in the fuzz test.
type sourceFile struct{ *bytes.Reader }

func (sourceFile) Close() error { return nil }

type oneSource []byte

func (s oneSource) OpenContent(ostree.Checksum) (delta.Content, error) {
	return sourceFile{bytes.NewReader(s)}, nil
}

func FuzzApply(f *testing.F) {
	repo := ostreetest.New(f, "")
	v1 := repo.Commit("x", 1, map[string]string{"a": string(bytes.Repeat([]byte("some content "), 40)), "l": "-> a"})
	v2 := repo.Commit("x", 2, map[string]string{"a": string(bytes.Repeat([]byte("some Content "), 40)), "l": "-> b"})
	for _, from := range []ostree.Checksum{{}, v1} {
		parts := memoryParts{}
		block, _, err := delta.Generate(f.Context(), repo.Open(), delta.Request{From: from, To: v2}, parts, delta.Options{})
		if err != nil {
			f.Fatal(err)
		}
		var objects []byte
		for _, o := range block.Parts[0].Objects {
			objects = append(append(objects, byte(o.Type)), o.Checksum[:]...)
		}
		f.Add(parts[0].Bytes(), objects)
		part, err := delta.ReadPart(bytes.NewReader(parts[0].Bytes()), 1<<20)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(append([]byte{0}, part.Payload...), objects)
	}
	f.Fuzz(func(t *testing.T, file, objects []byte) {
		part, err := delta.ReadPart(bytes.NewReader(file), 1<<20)
		if err == nil {
			var names []ostree.ObjectName
			for ; len(objects) >= 33; objects = objects[33:] {
				names = append(names, ostree.ObjectName{Type: ostree.ObjectType(objects[0]), Checksum: ostree.Checksum(objects[1:33])})
			}
			err = delta.Apply(part, names, oneSource("some content of the source"), delta.Discard{})
		}
		if err == nil {
			return
		}
		if _, ok := errors.AsType[*ostree.MismatchError](err); ok {
			return
		}
		if !errors.Is(err, ostree.ErrMalformed) && !errors.Is(err, ostree.ErrTooLarge) && !errors.Is(err, ostree.ErrUnsupported) {
			t.Fatal(err)
		}
	})
}
