package h1

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
)

// A part of a file is read whole, or it is said why not, where the kernel tells what is in
// memory and where it does not.
func TestReadFile(t *testing.T) {
	text := bytes.Repeat([]byte("0123456789"), 2000)
	for name, dir := range map[string]string{"of tests": t.TempDir(), "on a disk": "/var/tmp"} {
		f, err := os.CreateTemp(dir, "freshet-read-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = errors.Join(f.Close(), os.Remove(f.Name())) })
		if _, err := f.Write(text); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			off, length int
			want        error
		}{
			{0, len(text), nil},
			{5, 10_000, nil},
			{len(text) - 1, 1, nil},
			{len(text) - 5, 10, io.EOF},
			{len(text) + 5, 10, io.EOF},
		} {
			p := make([]byte, c.length)
			if err := readFile(f, p, int64(c.off)); !errors.Is(err, c.want) {
				t.Errorf("%s: %d bytes at %d: %v, want %v", name, c.length, c.off, err, c.want)
			} else if err == nil && !bytes.Equal(p, text[c.off:c.off+c.length]) {
				t.Errorf("%s: %d bytes at %d are others", name, c.length, c.off)
			}
		}
	}
}
