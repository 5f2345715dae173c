package generation

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// journal says which files of a staging were fetched, by path and by content, so that
// they are found again: by the staging itself, and by the next one if it is
// interrupted. Each staging is a session, with a tree of its own.
//
// It is a file of lines: "session NUMBER BOOT" at the beginning of each, "gone PATH"
// before something is put in the place of a file, and lines like those of a manifest,
// each behind its file's coming into its place: some of them together, since what is lost
// of them is fetched once more.
//
// byContent may be called while others work with it; the rest is for one at a time.
type journal struct {
	mu       sync.RWMutex // for byContent: over what add, cancel and flush change
	file     *os.File
	size     int64 // with what is pending
	pending  []byte
	atRisk   int64 // bytes of the files that it tells of
	seed     maphash.Seed
	sessions []session
	former   []fetched         // of former sessions, sorted by path
	sums     map[uint64]int64  // of all, by the beginning of the hash: where the line is
	gone     map[goneKey]int64 // where the last line is that says so
}

type session struct {
	number int
	boot   string // in which the machine was
	start  int64
}

// fetched is a file of a former session. There may be many.
type fetched struct {
	path       uint64 // its hash
	offset     int64
	size, when int64
	sum        [32]byte
}

type goneKey struct {
	path    uint64
	session int
}

const (
	sessionMark = "session "
	goneMark    = "gone "
)

// openJournal reads a journal. Lines that are not whole, such as the last one of a
// program that was killed, or any after a loss of power, are passed over.
func openJournal(f *os.File) (*journal, error) {
	j, cut, err := readJournal(f)
	if err == nil && cut {
		err = j.write([]byte("\n")) // ends a line that was cut
	}
	return j, err
}

// readJournal is openJournal for who writes nothing. It reports whether the last line is
// cut.
func readJournal(f *os.File) (j *journal, cut bool, err error) {
	j = &journal{file: f, seed: maphash.MakeSeed(), sums: make(map[uint64]int64), gone: make(map[goneKey]int64)}
	lines := bufio.NewReaderSize(io.NewSectionReader(f, 0, 1<<62), maxManifestLine)
	for {
		line, err := lines.ReadSlice('\n')
		if err == nil {
			j.read(line[:len(line)-1])
		}
		j.size += int64(len(line))
		switch {
		case err == nil, errors.Is(err, bufio.ErrBufferFull):
		case !errors.Is(err, io.EOF):
			return nil, false, fmt.Errorf("read %s: %w", f.Name(), err)
		default:
			j.sort()
			return j, len(line) > 0, nil
		}
	}
}

func (j *journal) read(line []byte) {
	if text, ok := bytes.CutPrefix(line, []byte(sessionMark)); ok {
		number, boot, ok := strings.Cut(string(text), " ")
		if n, err := strconv.Atoi(number); err == nil && ok {
			j.sessions = append(j.sessions, session{n, boot, j.size})
		}
		return
	}
	if path, ok := bytes.CutPrefix(line, []byte(goneMark)); ok {
		if path, ok := unescape(path); ok {
			j.gone[goneKey{j.hash(path), j.session(j.size).number}] = j.size
		}
		return
	}
	if f, err := parseLine(line); err == nil && !f.IsLink() && len(j.sessions) > 0 {
		j.former = append(j.former, fetched{j.hash(f.Path), j.size, f.Size, f.ModTime.Unix(), f.SHA256})
	}
}

// sort drops what is gone, and makes the rest to be found.
func (j *journal) sort() {
	j.former = slices.DeleteFunc(j.former, func(e fetched) bool { return j.isGone(e.path, e.offset) })
	for _, e := range j.former {
		j.sums[prefix(e.sum)] = e.offset
	}
	slices.SortStableFunc(j.former, func(a, b fetched) int { return cmp.Compare(a.path, b.path) })
}

func (j *journal) isGone(path uint64, offset int64) bool {
	at, ok := j.gone[goneKey{path, j.session(offset).number}]
	return ok && at > offset
}

func (j *journal) hash(path string) uint64 { return maphash.String(j.seed, path) }

func prefix(sum [32]byte) uint64 { return binary.BigEndian.Uint64(sum[:]) }

// session is the one that has written what is at the offset.
func (j *journal) session(offset int64) session {
	for _, s := range slices.Backward(j.sessions) {
		if s.start <= offset {
			return s
		}
	}
	return session{}
}

// last is the session that was begun last.
func (j *journal) last() session {
	if len(j.sessions) == 0 {
		return session{}
	}
	return j.sessions[len(j.sessions)-1]
}

// alive tells which sessions have files that are found by their content.
func (j *journal) alive() map[int]bool {
	alive := make(map[int]bool)
	for _, offset := range j.sums {
		alive[j.session(offset).number] = true
	}
	return alive
}

// write adds a line that is to be in the file before anything else happens.
func (j *journal) write(line []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.append(line)
	return j.flushLocked()
}

// append is called with mu.
func (j *journal) append(line []byte) {
	j.pending = append(j.pending, line...)
	j.size += int64(len(line))
}

// flush writes what is pending. What does not fit on the disk stays so.
func (j *journal) flush() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.flushLocked()
}

func (j *journal) flushLocked() error {
	n, err := j.file.Write(j.pending)
	j.pending, j.atRisk = append(j.pending[:0], j.pending[n:]...), 0
	return err
}

// close writes what is pending, and closes the file.
func (j *journal) close() error { return errors.Join(j.flush(), j.file.Close()) }

// begin begins a session.
func (j *journal) begin(s session) error {
	s.start = j.size
	j.sessions = append(j.sessions, s)
	return j.write([]byte(s.line()))
}

// line is that with which a session begins.
func (s session) line() string {
	return sessionMark + strconv.Itoa(s.number) + " " + s.boot + "\n"
}

// How much may be fetched once more behind a kill: of the file's lines, and of what they
// tell of.
const (
	mostPending = 32 << 10
	mostAtRisk  = 8 << 20
)

// add notes that a file was fetched and is in its place.
func (j *journal) add(f File) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.sums[prefix(f.SHA256)] = j.size
	j.append(append(appendLine(nil, f), '\n'))
	if j.atRisk += f.Size; j.atRisk < mostAtRisk && len(j.pending) < mostPending {
		return nil
	}
	return j.flushLocked()
}

// cancel notes that what is at a path is going to be another file.
func (j *journal) cancel(path string) error {
	j.mu.Lock()
	j.gone[goneKey{j.hash(path), j.last().number}] = j.size
	j.mu.Unlock()
	return j.write(append(appendGone(nil, path), '\n'))
}

// appendGone appends the line that says that a path is gone, without its end.
func appendGone(b []byte, path string) []byte {
	return appendEscaped(append(b, goneMark...), path, false)
}

// byContent returns a file with this content and the session whose tree has it.
func (j *journal) byContent(sum [32]byte) (f File, s session, ok bool, err error) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	offset, ok := j.sums[prefix(sum)]
	if !ok {
		return f, s, false, nil
	}
	line, err := j.line(offset)
	if err != nil {
		return f, s, false, fmt.Errorf("read %s: %w", j.file.Name(), err)
	}
	if f, err = parseLine(line); err != nil {
		return f, s, false, fmt.Errorf("read %s: %w", j.file.Name(), err)
	}
	ok = f.SHA256 == sum && !j.isGone(j.hash(f.Path), offset)
	return f, j.session(offset), ok, nil
}

// line reads the line at an offset, without its end.
func (j *journal) line(offset int64) ([]byte, error) {
	if at := offset - (j.size - int64(len(j.pending))); at >= 0 {
		line, _, _ := bytes.Cut(j.pending[at:], []byte("\n"))
		return line, nil
	}
	line, err := bufio.NewReader(io.NewSectionReader(j.file, offset, maxManifestLine)).ReadBytes('\n')
	return bytes.TrimSuffix(line, []byte("\n")), err
}

// byPath completes a file by what a former session has fetched last for its path, with
// this size, unless it is below zero, and this time, unless it is zero.
func (j *journal) byPath(f File) (_ File, ok bool) {
	found := f
	path := j.hash(f.Path)
	for i := j.search(path); i < len(j.former) && j.former[i].path == path; i++ {
		if e := j.former[i]; (f.Size < 0 || e.size == f.Size) && (f.ModTime.IsZero() || e.when == f.ModTime.Unix()) {
			found.Size, found.SHA256, ok = e.size, e.sum, true
		}
	}
	return found, ok
}

// has tells whether a former session has fetched something for the path.
func (j *journal) has(path string) bool {
	h := j.hash(path)
	i := j.search(h)
	return i < len(j.former) && j.former[i].path == h
}

func (j *journal) search(path uint64) int {
	i, _ := slices.BinarySearchFunc(j.former, path, func(e fetched, h uint64) int { return cmp.Compare(e.path, h) })
	return i
}
