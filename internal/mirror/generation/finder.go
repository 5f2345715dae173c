package generation

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sort"

	"github.com/klauspost/compress/zstd"
)

// Finder finds files of a generation in its manifest by their paths. It reads a few frames
// of the manifest for each, in memory that does not depend on how long that is, but for
// eight bytes for each 32 KiB of it; paths that are asked for in their order cost less. It
// is not safe for concurrent use.
type Finder struct {
	what   string
	file   io.ReaderAt
	done   func() error
	frames *zstd.Decoder
	starts []int64       // of the frames, and where the last one ends
	firsts map[int]first // of frames that were looked at
	packed []byte

	at    int    // the frame that was read last; -1: none
	text  []byte // its lines of files
	rest  []byte // those of them behind the last search
	asked string // the path that was looked for last
}

// first is the first path of a frame; none says that no file is in it.
type first struct {
	path string
	none bool
}

// Finder returns one for the manifest. It must be closed. The error is [ErrManifest] if the
// manifest has no seek table.
func (g *Generation) Finder() (*Finder, error) {
	if g == nil {
		return nil, fs.ErrNotExist
	}
	file, err := g.dir.Open(manifestName)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	f, err := newFinder(file, info.Size())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("generation %s of %s: %w", g.info.ID, g.info.Project, err), file.Close())
	}
	f.what, f.done = fmt.Sprintf("generation %s of %s", g.info.ID, g.info.Project), file.Close
	return f, nil
}

func newFinder(file io.ReaderAt, size int64) (f *Finder, err error) {
	f = &Finder{file: file, firsts: make(map[int]first), at: -1}
	if f.starts, err = readSeekTable(file, size); err != nil {
		return nil, err
	}
	f.frames, err = newFrameDecoder()
	return f, err
}

// maxFrame bounds the text of a frame: the last line may begin one byte before its end.
const maxFrame = frameSize + maxManifestLine

func newFrameDecoder() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(manifestWindow), zstd.WithDecoderMaxMemory(maxFrame))
}

// readFrame reads a frame, as it is packed, into a buffer.
func readFrame(from io.ReaderAt, to []byte, start, end int64) ([]byte, error) {
	size := end - start
	if size > 2*maxFrame {
		return nil, fmt.Errorf("a frame of %d bytes: %w", size, ErrManifest)
	}
	to = slices.Grow(to[:0], int(size))[:size]
	if _, err := from.ReadAt(to, start); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return to, nil
}

// Close closes the manifest.
func (f *Finder) Close() error {
	f.frames.Close()
	return f.done()
}

// Find returns the file at a path, as the manifest has it; false if it has none there.
func (f *Finder) Find(path string) (File, bool, error) {
	file, ok, err := f.find(path)
	if err != nil {
		err = fmt.Errorf("%s: look for %q: %w", f.what, path, err)
	}
	return file, ok, err
}

func (f *Finder) find(path string) (File, bool, error) {
	before := f.asked
	f.asked = path
	if f.at >= 0 && path > before {
		// Files of a folder are near one another: here, or in the next frame.
		file, ok, beyond, err := f.scan(path)
		if err == nil && beyond && f.at+1 < f.count() {
			if err = f.load(f.at + 1); err == nil {
				file, ok, beyond, err = f.scan(path)
			}
		}
		if err != nil || !beyond || f.at+1 == f.count() {
			return file, ok, err
		}
	}
	var failed error
	// The last frame that does not begin behind the path.
	at := sort.Search(f.count(), func(i int) bool {
		first, err := f.first(i)
		failed = errors.Join(failed, err)
		return first.none || first.path > path
	}) - 1
	if failed != nil {
		f.at = -1
		return File{}, false, failed
	}
	if err := f.load(max(at, 0)); err != nil {
		return File{}, false, err
	}
	file, ok, _, err := f.scan(path)
	return file, ok, err
}

func (f *Finder) count() int { return len(f.starts) - 1 }

// first returns the first path of a frame.
func (f *Finder) first(i int) (first, error) {
	if known, ok := f.firsts[i]; ok {
		return known, nil
	}
	if err := f.load(i); err != nil {
		return first{}, err
	}
	line, _, _ := bytes.Cut(f.text, []byte("\n"))
	path, ok := pathOf(line)
	f.firsts[i] = first{path, !ok}
	return f.firsts[i], nil
}

// load reads a frame.
func (f *Finder) load(i int) error {
	if f.at == i {
		f.rest = f.text
		return nil
	}
	f.at = -1
	var err error
	if f.packed, err = readFrame(f.file, f.packed, f.starts[i], f.starts[i+1]); err != nil {
		return err
	}
	text, err := f.frames.DecodeAll(f.packed, f.text[:0])
	if err != nil {
		return fmt.Errorf("%w: %w", ErrManifest, err)
	}
	if i == 0 {
		_, text, _ = bytes.Cut(text, []byte("\n\n")) // the head
	}
	f.at, f.text, f.rest = i, text, text
	return nil
}

// scan looks for a path in what is left of the frame; beyond says that it may be in the
// next one.
func (f *Finder) scan(path string) (file File, ok, beyond bool, err error) {
	for len(f.rest) > 0 {
		line, rest, _ := bytes.Cut(f.rest, []byte("\n"))
		at, is := pathOf(line)
		if !is || at > path {
			return file, false, false, nil
		}
		f.rest = rest
		if at == path {
			file, err = parseLine(line)
			return file, err == nil, false, err
		}
	}
	return file, false, true, nil
}

// pathOf is the path of the line of a file; false if it is the line of none.
func pathOf(line []byte) (string, bool) {
	first, rest, _ := bytes.Cut(line, []byte(" "))
	_, rest, ok := bytes.Cut(rest, []byte(" "))
	if ok && string(first) != linkMark {
		_, rest, ok = bytes.Cut(rest, []byte(" "))
	}
	if !ok {
		return "", false
	}
	return unescape(rest)
}
