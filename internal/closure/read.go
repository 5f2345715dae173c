package closure

import (
	"bytes"
	"context"
	"crypto"
	_ "crypto/md5"  //nolint:gosec // not for security: old metadata name it
	_ "crypto/sha1" //nolint:gosec // the same
	"crypto/sha256"
	_ "crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"

	"freshet/internal/layout"
	"freshet/internal/roots"
	"freshet/internal/source"
	"freshet/internal/unpack"
)

// file is one that is being read, with what has gone by.
type file struct {
	source.Reader
	name string
	sum  hash.Hash
	from io.Closer
}

// begin opens a file, of which at most limit bytes are read, and one more that shows
// that it is longer. What kind of checksum is made of it, sum says; zero is SHA-256.
func (w *walker) begin(name string, limit int64, sum crypto.Hash) (*file, error) {
	from, err := w.open(w.ctx, name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	f := &file{name: name, sum: sha256.New(), from: from}
	if sum != 0 {
		f.sum = sum.New()
	}
	f.R = io.TeeReader(io.LimitReader(patient{w.ctx, from}, limit+1), f.sum)
	return f, nil
}

// patient ends with its context, which readers of folders do not know.
type patient struct {
	ctx context.Context //nolint:containedctx // it lives as long as one call
	r   io.Reader
}

func (p patient) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	return p.r.Read(b)
}

// end reads the rest of the file, so that size and checksum are those of all.
func (f *file) end() error {
	if f.Err == nil {
		_, _ = io.Copy(io.Discard, f) // the error stays in f.Err
	}
	_ = f.from.Close()
	if f.Err != nil {
		return fmt.Errorf("%s: %w", f.name, f.Err)
	}
	return nil
}

// walkIndex reads an index of packages, which by names with its size (-1: not told) and
// checksum, and checks it against that.
func (w *walker) walkIndex(by, name string, size int64, sum Sum, walk func(io.Reader) error) error {
	limit := int64(unpack.MaxSize)
	if size >= 0 {
		limit = size
	}
	f, err := w.begin(name, limit, sum.Hash)
	if err != nil {
		return err
	}
	walked := unpacked(f, walk)
	if w.stopped {
		_ = f.from.Close()
		return walked
	}
	if err := f.end(); err != nil {
		return err
	}
	switch {
	case size >= 0 && f.N != size:
		return Disagree(name, "%s has not the %d bytes that %s says", name, size, by)
	case sum.Value != "" && string(f.sum.Sum(nil)) != sum.Value:
		return Disagree(name, "%s has not the checksum that %s says", name, by)
	case walked != nil:
		return fmt.Errorf("%s: %w", name, walked)
	}
	return nil
}

func unpacked(r io.Reader, walk func(io.Reader) error) error {
	plain, done, err := unpack.NewReader(r)
	if err != nil {
		return err
	}
	defer done()
	return walk(plain)
}

// walkPointer reads a pointer that is an index itself, and returns it as a file.
func (w *walker) walkPointer(name string, walk func(io.Reader) error) (File, error) {
	f, err := w.begin(name, unpack.MaxSize, 0)
	if err != nil {
		return File{}, err
	}
	walked := walk(f)
	if w.stopped {
		_ = f.from.Close()
		return File{}, walked
	}
	if err := f.end(); err != nil {
		return File{}, err
	}
	if walked != nil {
		return File{}, fmt.Errorf("%s: %w", name, walked)
	}
	return f.pointer(), nil
}

// readPointer reads a pointer whole.
func (w *walker) readPointer(name string, limit int64) ([]byte, File, error) {
	f, err := w.begin(name, limit, 0)
	if err != nil {
		return nil, File{}, err
	}
	var text bytes.Buffer
	_, _ = text.ReadFrom(f)
	if err := f.end(); err != nil {
		return nil, File{}, err
	}
	if f.N > limit {
		return nil, File{}, fmt.Errorf("%s: longer than %d bytes", name, limit)
	}
	return text.Bytes(), f.pointer(), nil
}

const (
	// maxCompanion is the longest file beside a pointer that is read.
	maxCompanion = 16 << 20
	// maxSignature is the longest one that is looked into.
	maxSignature = 1 << 20
)

// companion yields a file beside the pointer that changes with it, such as its
// signature, if there is one. One that is not whole is being written.
func (w *walker) companion(name string) error {
	f, err := w.begin(name, maxCompanion, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var text bytes.Buffer
	_, _ = text.ReadFrom(io.LimitReader(f, maxSignature+1)) // the error stays in f.Err
	if err := f.end(); err != nil {
		return err
	}
	if text.Len() <= maxSignature {
		if err := roots.Whole(text.Bytes()); err != nil {
			return Disagree(name, "%s: %w", name, err)
		}
	}
	file := f.pointer()
	file.Optional = true
	if f.N > maxCompanion {
		file.Size, file.Sum = -1, Sum{}
	}
	return w.emit(file)
}

// pointer is the file that was read.
func (f *file) pointer() File {
	return File{Path: f.name, Size: f.N, Sum: Sum{Hash: crypto.SHA256, Value: string(f.sum.Sum(nil))}, Class: layout.Pointer}
}

// sumOf reads a checksum in hex by the name that createrepo_c gives to its kind; one of
// a kind that is not known is none.
func sumOf(kind, text string) (Sum, error) {
	algorithm := algorithmOf(kind)
	if algorithm == 0 || text == "" {
		return Sum{}, nil
	}
	value, err := hex.DecodeString(text)
	if err != nil || len(value) != algorithm.Size() {
		return Sum{}, fmt.Errorf("%.140q is no checksum of kind %s", text, kind)
	}
	return Sum{Hash: algorithm, Value: string(value)}, nil
}

func algorithmOf(kind string) crypto.Hash {
	switch kind {
	case "sha256":
		return crypto.SHA256
	case "sha512":
		return crypto.SHA512
	case "sha384":
		return crypto.SHA384
	case "sha224":
		return crypto.SHA224
	case "sha", "sha1":
		return crypto.SHA1
	case "md5":
		return crypto.MD5
	}
	return 0
}
