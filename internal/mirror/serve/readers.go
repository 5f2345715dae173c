package serve

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"freshet/internal/durable"
)

// readers are the notes of which generations clients read, so that a mirror that was killed
// goes on as it began. They are two files, of now and of the [idle] before, or less of it, that hold lines
// in the order in which things happened:
//
//	1795348382123 2001:db8::a 9e3779b97f4a7c15 epel 000012 repodata%2Frepomd.xml
//
// A time in milliseconds, the address, the hash of the User-Agent, the project, its
// generation, and a pointer; "-" for anything else. They are written a moment later by a
// goroutine, since the disk may take its time: who reads another generation than before waits for that
// a little while, lest a kill takes him back to the former one, and others do not. What cannot be written is not.
type readers struct {
	dir   durable.Dir
	in    chan readNote
	done  chan struct{}
	ended sync.WaitGroup

	// These are of the goroutine.
	awaited []chan<- struct{} // closed when what was taken is written
	file    *os.File
	size    int64
	turned  time.Time
}

const (
	readersName   = "readers"
	readersBefore = "readers.before"

	// maxReadersFile is how long a file grows, in bytes, and a batch of lines more at most; the next
	// one is begun then: what was read last counts most.
	maxReadersFile = 8 << 20
	// maxNotes bounds what waits to be written.
	maxNotes = 4096
	// noteWait is how long a client waits for the disk.
	noteWait = time.Second
)

// openReaders begins to note what clients read.
func openReaders(dir durable.Dir, now time.Time) *readers {
	r := &readers{dir: dir, in: make(chan readNote, maxNotes), done: make(chan struct{})}
	r.open(now) // and goes on where the process before has ended
	r.ended.Go(r.run)
	return r
}

func (r *readers) open(now time.Time) {
	r.file, r.size, r.turned = nil, 0, now
	f, err := r.dir.Root.OpenFile(readersName, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return // it is tried again at the next turn
	}
	if info, err := f.Stat(); err == nil && info.Size() > 0 {
		r.size = info.Size()
		_, _ = f.WriteString("\n") // ends a line that was cut
	}
	r.file = f
}

// close ends the notes. Those that wait are written.
func (r *readers) close() {
	close(r.done)
	r.ended.Wait()
}

// readNote is that a client has read a path of a generation.
type readNote struct {
	client
	generation, path string
	begins           bool // all of a pointer
	when             time.Time
	written          chan<- struct{} // closed when it is, or cannot be; nil: nobody waits for it
}

// appendTo appends the line that says so.
func (x readNote) appendTo(b []byte) []byte {
	name := "-"
	if x.begins {
		name = url.PathEscape(x.path)
	}
	return fmt.Appendf(b, "%d %s %x %s %s %s\n", x.when.UnixMilli(), x.at, x.agent, x.project, x.generation, name)
}

// note has it noted, soon. What it returns if awaited is closed by then.
func (r *readers) note(x readNote, awaited bool) <-chan struct{} {
	var written chan struct{}
	if awaited {
		written = make(chan struct{})
		x.written = written
	}
	select {
	case r.in <- x:
		return written
	default:
		return nil
	}
}

// await waits for a note, but not for long.
func await(written <-chan struct{}) {
	if written == nil {
		return
	}
	late := time.NewTimer(noteWait)
	defer late.Stop()
	select {
	case <-written:
	case <-late.C:
	}
}

func (r *readers) run() {
	defer r.shut()
	for {
		select {
		case x := <-r.in:
			r.take(x)
		case <-r.done:
			select {
			case x := <-r.in:
				r.take(x)
			default:
			}
			return
		}
	}
}

// take writes a note, and all others that wait.
func (r *readers) take(x readNote) {
	if passed := x.when.Sub(r.turned); passed < 0 || passed >= idle || r.size > maxReadersFile {
		r.turn(x.when)
	}
	r.write(r.waiting(r.append(nil, x)))
	for _, written := range r.awaited {
		close(written)
	}
	r.awaited = r.awaited[:0]
}

// append appends the line of a note.
func (r *readers) append(lines []byte, x readNote) []byte {
	if x.written != nil {
		r.awaited = append(r.awaited, x.written)
	}
	return x.appendTo(lines)
}

// waiting appends all that waits, as far as a file takes it.
func (r *readers) waiting(lines []byte) []byte {
	for len(lines) < maxReadersFile {
		select {
		case x := <-r.in:
			lines = r.append(lines, x)
		default:
			return lines
		}
	}
	return lines
}

func (r *readers) write(lines []byte) {
	if r.file == nil {
		return
	}
	n, _ := r.file.Write(lines) // or it is not noted
	r.size += int64(n)
	if n > 0 && n < len(lines) {
		_, _ = r.file.WriteString("\n") // if there is room again: a line that was cut is passed over
	}
}

// turn begins a new file.
func (r *readers) turn(now time.Time) {
	r.shut()
	_ = r.dir.Root.Rename(readersName, readersBefore) // there may be none
	r.open(now)
}

func (r *readers) shut() {
	if r.file != nil {
		_ = r.file.Close() // what could not be written is not there
	}
}

// recall remembers what was noted in a folder before the mirror was started.
func (t *settlement) recall(dir durable.Dir, now time.Time) error {
	var err error
	for _, name := range []string{readersBefore, readersName} {
		f, failed := dir.Root.Open(name)
		if errors.Is(failed, fs.ErrNotExist) {
			continue
		}
		if failed != nil {
			err = errors.Join(err, failed)
			continue
		}
		err = errors.Join(err, t.recallFrom(io.LimitReader(f, 2*maxReadersFile), now), f.Close())
	}
	return err
}

func (t *settlement) recallFrom(from io.Reader, now time.Time) error {
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) != 6 {
			continue // it was cut
		}
		milli, err := strconv.ParseInt(words[0], 10, 64)
		at, err1 := netip.ParseAddr(words[1])
		agent, err2 := strconv.ParseUint(words[2], 16, 64)
		path, err3 := url.PathUnescape(words[5])
		when := time.UnixMilli(milli)
		if ago := now.Sub(when); errors.Join(err, err1, err2, err3) != nil || ago < 0 || ago > 2*idle {
			continue
		}
		c := client{at, agent, words[3]}
		t.clients.keep(c, t.clients.find(c, when).after(words[4], path, words[5] != "-", when), when)
	}
	return lines.Err()
}
