package versions

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/maphash"
	"io"
	"iter"
	"path"

	"freshet/internal/closure"
	"freshet/internal/durable"
	"freshet/internal/inventory"
	"freshet/internal/layout"
	"freshet/internal/source"
)

// The form of a list is that of docs/formats/versions.md.
const (
	listMagic = "freshet list 1\n"
	maxPath   = 4096 // bytes; longer ones are not written

	flagOptional = 1 << 0
	flagSHA256   = 1 << 1
	flagSize     = 1 << 2
	flagNamed    = 1 << 3 // a name whose content changes with the version
	flagEnd      = 1 << 7
)

var errList = errors.New("malformed list of files")

// listed is a file of a version.
type listed struct {
	path     string
	size     int64 // -1: not known
	sha256   [32]byte
	optional bool
	named    bool
}

func (f *listed) entry() inventory.Entry {
	return inventory.Entry{Path: f.path, Size: f.size, SHA256: f.sha256}
}

// listName is the name of a repository's list.
func listName(k key) string {
	name := sha256.Sum256([]byte(k.project + "\x00" + k.pointer))
	return hex.EncodeToString(name[:]) + ".list"
}

// writeList writes the files of a version, each once, in place of the list that is there.
// Their pointer must be the version's.
func writeList(dir durable.Dir, name string, version sum, files iter.Seq2[closure.File, error]) error {
	return dir.Write(name, 0o644, func(to io.Writer) error {
		w := listWriter{hash: sha256.New(), seed: maphash.MakeSeed(), seen: make(map[uint64]struct{})}
		buffered := bufio.NewWriterSize(to, 64<<10)
		w.to = io.MultiWriter(buffered, w.hash)
		if err := w.all(version, files); err != nil {
			return err
		}
		if _, err := buffered.Write(w.hash.Sum(nil)); err != nil {
			return err
		}
		return buffered.Flush()
	})
}

type listWriter struct {
	to   io.Writer
	hash hash.Hash
	line []byte
	// seen has the hashes of what was written. Of a million files two have the same
	// by chance once in tens of millions of lists.
	seed maphash.Seed
	seen map[uint64]struct{}
}

func (w *listWriter) all(version sum, files iter.Seq2[closure.File, error]) error {
	if _, err := w.to.Write(append([]byte(listMagic), version[:]...)); err != nil {
		return err
	}
	var pointer sum
	for f, err := range files {
		if err != nil {
			return err
		}
		if f.Class == layout.Pointer && !f.Optional {
			pointer, _ = f.Sum.SHA256()
		}
		if err := w.file(f); err != nil {
			return err
		}
	}
	if pointer != version {
		return fmt.Errorf("%w: there is another pointer already", closure.ErrInconsistent)
	}
	_, err := w.to.Write([]byte{flagEnd})
	return err
}

func (w *listWriter) file(f closure.File) error {
	if len(f.Path) > maxPath {
		return fmt.Errorf("%.100q… is longer than %d bytes", f.Path, maxPath)
	}
	flags := byte(0)
	if f.Optional {
		flags |= flagOptional
	}
	sum, ok := f.Sum.SHA256()
	if ok {
		flags |= flagSHA256
	}
	if f.Size >= 0 {
		flags |= flagSize
	}
	if f.Class == layout.Pointer || f.Class == layout.Index && layout.Tree(f.Path).Mutable() {
		flags |= flagNamed
	}
	w.line = append(w.line[:0], flags)
	w.line = binary.AppendUvarint(w.line, uint64(len(f.Path)))
	w.line = append(w.line, f.Path...)
	if f.Size >= 0 {
		w.line = binary.AppendUvarint(w.line, uint64(f.Size))
	}
	if ok {
		w.line = append(w.line, sum[:]...)
	}
	h := maphash.Bytes(w.seed, w.line)
	if _, again := w.seen[h]; again {
		return nil
	}
	w.seen[h] = struct{}{}
	_, err := w.to.Write(w.line)
	return err
}

// readList yields the files of a list that is of this version. The error that may end it
// is errList if the list is of another version, or damaged.
func readList(dir durable.Dir, name string, version sum) iter.Seq2[listed, error] {
	return func(yield func(listed, error) bool) {
		f, err := dir.Root.Open(name)
		if err != nil {
			yield(listed{}, err)
			return
		}
		defer func() { _ = f.Close() }()
		src := &source.Reader{R: f}
		r := listReader{r: bufio.NewReaderSize(src, 64<<10), hash: sha256.New()}
		if err := r.all(version, yield); err != nil && !errors.Is(err, errStopped) {
			if err = errList; src.Err != nil {
				err = src.Err
			}
			yield(listed{}, fmt.Errorf("%s: %w", path.Join(dir.Root.Name(), name), err))
		}
	}
}

var errStopped = errors.New("stopped")

type listReader struct {
	r    *bufio.Reader
	hash hash.Hash
	buf  [maxPath]byte
	one  [1]byte
}

func (r *listReader) all(version sum, yield func(listed, error) bool) error {
	head := make([]byte, len(listMagic)+len(version))
	if err := r.read(head); err != nil {
		return err
	}
	if !bytes.Equal(head, append([]byte(listMagic), version[:]...)) {
		return errList
	}
	for {
		flags, err := r.ReadByte()
		if err != nil {
			return err
		}
		if flags == flagEnd {
			break
		}
		f, err := r.file(flags)
		if err != nil {
			return err
		}
		if !yield(f, nil) {
			return errStopped
		}
	}
	want := r.hash.Sum(nil)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r.r, got); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errList
	}
	return nil
}

func (r *listReader) file(flags byte) (f listed, err error) {
	f = listed{size: -1, optional: flags&flagOptional != 0, named: flags&flagNamed != 0}
	length, err := binary.ReadUvarint(r)
	if err != nil {
		return f, err
	}
	if length > maxPath {
		return f, errList
	}
	if err := r.read(r.buf[:length]); err != nil {
		return f, err
	}
	f.path = string(r.buf[:length])
	if flags&flagSize != 0 {
		size, err := binary.ReadUvarint(r)
		if err != nil {
			return f, err
		}
		if f.size = int64(size); f.size < 0 {
			return f, errList
		}
	}
	if flags&flagSHA256 != 0 {
		err = r.read(f.sha256[:])
	}
	return f, err
}

func (r *listReader) read(b []byte) error {
	_, err := io.ReadFull(r.r, b)
	_, _ = r.hash.Write(b)
	return err
}

// ReadByte implements io.ByteReader.
func (r *listReader) ReadByte() (byte, error) {
	b, err := r.r.ReadByte()
	r.one[0] = b
	_, _ = r.hash.Write(r.one[:])
	return b, err
}
