package fetch

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// PartsFolder is the name of the folder, at the top of that of an order, in which files
// grow that come over HTTP. Their names are hashes of paths; beside a long one lies what
// is known of it, so that it can be gone on with after a crash.
const PartsFolder = ".freshet-parts"

const (
	// longFile is how long a file is at least that comes in pieces, several at once.
	longFile  = 64 << 20
	pieceSize = 16 << 20
	maxNotes  = 1 << 20 // bytes
)

func makeParts(root *os.Root) error {
	if err := root.Mkdir(PartsFolder, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// version is what a server tells of a file beside its content.
type version struct {
	ETag    string    `json:"etag,omitempty"`
	ModTime time.Time `json:"mtime,omitzero"`
}

func versionOf(h http.Header) version {
	v := version{ETag: h.Get("ETag")}
	if t, err := http.ParseTime(h.Get("Last-Modified")); err == nil {
		v.ModTime = t.UTC()
	}
	return v
}

// condition is what a server knows this version again by, and "" if there is nothing that
// is sure (RFC 9110 §13.1.5): a weak tag is not.
func (v version) condition() string {
	switch {
	case v.ETag != "" && !strings.HasPrefix(v.ETag, "W/"):
		return v.ETag
	case v.ETag == "" && !v.ModTime.IsZero():
		return v.ModTime.Format(http.TimeFormat)
	}
	return ""
}

// part is a file that grows: from its beginning, or in pieces.
type part struct {
	root    *os.Root
	name    string
	f       *os.File
	want    Want
	version version

	length int64 // of what was written from the beginning
	sums   *sums // of that

	changes int // how often it was another file than its first pieces are of

	mu     sync.Mutex
	pieces []bool // that are there; nil: it grows from its beginning
}

// reach is how many bytes are there that need not come again.
func (p *part) reach() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pieces == nil {
		return p.length
	}
	var there int64
	for _, ok := range p.pieces {
		if ok {
			there += pieceSize
		}
	}
	return there
}

// changed begins anew with a file that is another one now; from its beginning if that
// happens again: there may be several servers, which do not tell the same of it.
func (p *part) changed() error {
	p.changes++
	return p.restart(p.changes == 1)
}

// notes are what is kept of a long file while it is not whole.
type notes struct {
	Path    string  `json:"path"`
	Size    int64   `json:"size"`
	Version version `json:"version"`
	Pieces  []bool  `json:"pieces"`
}

func openPart(root *os.Root, w Want) (*part, error) {
	sum := sha256.Sum256([]byte(w.Path))
	p := &part{root: root, name: path.Join(PartsFolder, hex.EncodeToString(sum[:20])), want: w, sums: newSums(w.Sum)}
	f, err := root.OpenFile(p.name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	p.f = f
	if w.Size >= longFile {
		p.recall()
	}
	if p.pieces == nil {
		return p, p.f.Truncate(0)
	}
	return p, nil
}

// recall takes up what is noted of a long file, if that is of the one that is wanted.
func (p *part) recall() {
	p.pieces = make([]bool, (p.want.Size+pieceSize-1)/pieceSize)
	text, err := p.readNotes()
	var n notes
	if err != nil || json.Unmarshal(text, &n) != nil || n.Path != p.want.Path || n.Size != p.want.Size || len(n.Pieces) != len(p.pieces) {
		return
	}
	p.version, p.pieces = n.Version, n.Pieces
}

func (p *part) readNotes() ([]byte, error) {
	f, err := p.root.Open(p.notesName())
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxNotes))
	return text, errors.Join(err, f.Close())
}

func (p *part) notesName() string { return p.name + ".json" }

// meet takes the version of the first piece that comes.
func (p *part) meet(v version) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.version == (version{}) {
		p.version = v
	}
}

// missing are the pieces that are not there.
func (p *part) missing() (at []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, there := range p.pieces {
		if !there {
			at = append(at, i)
		}
	}
	return at
}

// bounds are where a piece begins and ends.
func (p *part) bounds(i int) (from, to int64) {
	return int64(i) * pieceSize, min(int64(i+1)*pieceSize, p.want.Size)
}

// note keeps that a piece is there. Bytes that no checksum will be compared with have to
// be on the disk before.
func (p *part) note(i int) error {
	if p.want.Sum.Value == "" {
		if err := p.f.Sync(); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pieces[i] = true
	text, err := json.Marshal(notes{p.want.Path, p.want.Size, p.version, p.pieces})
	if err != nil {
		return err
	}
	temp := p.name + ".new"
	if err := p.root.WriteFile(temp, text, 0o644); err != nil {
		return err
	}
	return p.root.Rename(temp, p.notesName())
}

// restart forgets what is there. In pieces or not, the file begins anew.
func (p *part) restart(inPieces bool) error {
	p.length, p.sums, p.version = 0, newSums(p.want.Sum), version{}
	switch {
	case !inPieces:
		p.pieces = nil
	case p.pieces != nil:
		p.pieces = slices.Repeat([]bool{false}, len(p.pieces))
	}
	return errors.Join(removeIfThere(p.root, p.notesName()), p.f.Truncate(0))
}

// Write appends to a file that grows from its beginning.
func (p *part) Write(b []byte) (int, error) {
	n, err := p.f.WriteAt(b, p.length)
	p.length += int64(n)
	_, _ = p.sums.Write(b[:n]) // a hash takes everything
	return n, err
}

// check compares a file that grew from its beginning with what is told of it.
func (p *part) check(r *Result) (err error) {
	if p.want.Size >= 0 && p.length != p.want.Size {
		return fmt.Errorf("%w: it has %d bytes, not %d", errWrong, p.length, p.want.Size)
	}
	r.Size = p.length
	if r.SHA256, err = p.sums.check(); err != nil || !p.want.Sum.Control {
		return err
	}
	return checkControl(io.NewSectionReader(p.f, 0, p.length), p.want.Sum)
}

// place gives the file its time, its mode and its name.
func (p *part) place(modTime time.Time) error {
	if err := errors.Join(p.f.Chmod(0o644), p.root.Chtimes(p.name, time.Time{}, modTime)); err != nil {
		return err
	}
	folder := path.Dir(p.want.Path)
	if err := p.root.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	if err := p.root.Rename(p.name, p.want.Path); err != nil {
		return err
	}
	return removeIfThere(p.root, p.notesName())
}

// close ends the work on a file. What is there of a long one stays, unless it is to be
// forgotten.
func (p *part) close(forget bool) {
	_ = p.f.Close()
	if forget || p.pieces == nil {
		_ = errors.Join(removeIfThere(p.root, p.name), removeIfThere(p.root, p.notesName()))
	}
}

func removeIfThere(root *os.Root, name string) error {
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
