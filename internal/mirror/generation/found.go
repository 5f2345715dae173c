package generation

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"sync"
)

// Manifest is that of a generation of any mirror, unpacked into a file, in which files are
// found by their paths. It may be used by several goroutines at once.
type Manifest struct {
	text  *os.File
	sum   string  // SHA-256 of the text, in hexadecimal
	id    string  // of the generation, as the head says
	index []place // of every so many files, by path
	end   int64   // where the last line begins

	mu    sync.Mutex
	block int    // that was read last
	files []File // in it
}

// place is where the line of a file begins.
type place struct {
	path string
	at   int64
}

const (
	// blockFiles is how many files are read to find one.
	blockFiles = 64
	// maxManifest bounds the text of a manifest of somebody else: some ten million files.
	maxManifest = 2 << 30
)

// ErrOther says that a manifest is not the one that was told of.
var ErrOther = errors.New("another manifest than the one that was told of")

// UnpackManifest reads a manifest as it is on the disk, packed, and writes its text to an
// empty file, which is the manifest's from then on. The error wraps [ErrOther] if the
// SHA-256 of the text is not sum, in hexadecimal, and [ErrManifest] if it is none.
func UnpackManifest(packed io.Reader, to *os.File, sum string) (*Manifest, error) {
	in, err := newManifestDecoder(packed)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(to, h), io.LimitReader(in, maxManifest+1))
	switch got := hex.EncodeToString(h.Sum(nil)); {
	case err != nil && errors.As(err, new(*os.PathError)):
		return nil, err // of the disk
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	case n > maxManifest:
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrManifest, maxManifest)
	case got != sum:
		return nil, fmt.Errorf("%w: its SHA-256 is %s, not %.64q", ErrOther, got, sum)
	}
	return openManifest(to, sum)
}

// ReadManifest reads the text of a manifest, as [UnpackManifest] and [Manifest.ApplyDelta]
// write it. The file is the manifest's, unless there is an error: [ErrManifest], or one of the disk.
func ReadManifest(text *os.File) (*Manifest, error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(text, 0, maxManifest)); err != nil {
		return nil, err
	}
	return openManifest(text, hex.EncodeToString(h.Sum(nil)))
}

// openManifest reads a text of which the SHA-256 is known.
func openManifest(text *os.File, sum string) (*Manifest, error) {
	m := &Manifest{text: text, sum: sum, block: -1}
	if err := m.read(); err != nil {
		return nil, err
	}
	return m, nil
}

// Sum is the SHA-256 of the text, in hexadecimal.
func (m *Manifest) Sum() string { return m.sum }

// Name is that of the generation: [Info.Name].
func (m *Manifest) Name() string { return Info{ID: m.id, Manifest: m.sum}.Name() }

// read reads all of the text, and notes where files are.
func (m *Manifest) read() error {
	counted := &byteCounter{r: io.NewSectionReader(m.text, 0, maxManifest)}
	r := manifestReader{lines: bufio.NewReaderSize(counted, maxManifestLine)}
	if err := r.head(); err != nil {
		return err
	}
	m.id = r.value("generation")
	for {
		at := counted.n - int64(r.lines.Buffered())
		f, err := r.next()
		if errors.Is(err, io.EOF) {
			m.end = at
			return nil
		}
		if err != nil {
			return err
		}
		if (r.n-1)%blockFiles == 0 {
			m.index = append(m.index, place{f.Path, at})
		}
	}
}

// byteCounter counts what was read.
type byteCounter struct {
	r io.Reader
	n int64
}

func (c *byteCounter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// Find returns the file at a path, and whether there is one. The error is of the disk.
func (m *Manifest) Find(path string) (File, bool, error) {
	i, exact := slices.BinarySearchFunc(m.index, path, func(p place, path string) int { return strings.Compare(p.path, path) })
	if !exact {
		i--
	}
	if i < 0 {
		return File{}, false, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.load(i); err != nil {
		return File{}, false, err
	}
	at, found := slices.BinarySearchFunc(m.files, path, func(f File, path string) int { return strings.Compare(f.Path, path) })
	if !found {
		return File{}, false, nil
	}
	return m.files[at], true, nil
}

// load reads a block, unless it is at hand.
func (m *Manifest) load(i int) error {
	if m.block == i {
		return nil
	}
	end := m.end
	if i+1 < len(m.index) {
		end = m.index[i+1].at
	}
	text := make([]byte, end-m.index[i].at)
	if _, err := m.text.ReadAt(text, m.index[i].at); err != nil {
		return err
	}
	m.block, m.files = -1, m.files[:0]
	for line := range bytes.Lines(text) {
		f, err := parseLine(bytes.TrimSuffix(line, []byte("\n")))
		if err != nil {
			return err
		}
		m.files = append(m.files, f)
	}
	m.block = i
	return nil
}

// Files yields all files, sorted by the bytes of their paths.
func (m *Manifest) Files() iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		r := manifestReader{lines: bufio.NewReaderSize(io.NewSectionReader(m.text, 0, maxManifest), maxManifestLine)}
		err := r.head()
		for err == nil {
			var f File
			f, err = r.next()
			if err == nil && !yield(f, nil) {
				return
			}
		}
		if !errors.Is(err, io.EOF) {
			yield(File{}, err)
		}
	}
}

// Close closes the file.
func (m *Manifest) Close() error { return m.text.Close() }
