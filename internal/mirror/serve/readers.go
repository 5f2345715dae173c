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
// goes on as it began. They are two files, of now and of the [idle] before, that hold lines
// in the order in which things happened:
//
//	1795348382123 2001:db8::a 9e3779b97f4a7c15 epel 000012 repodata%2Frepomd.xml
//
// A time in milliseconds, the address, the hash of the User-Agent, the project, its
// generation, and a pointer; "-" for anything else. They are written a moment later by a
// goroutine, since the disk may take its time and clients do not wait for it. What cannot
// be written is not.
type readers struct {
	dir   durable.Dir
	in    chan string
	done  chan struct{}
	ended sync.WaitGroup

	// These are of the goroutine.
	file   *os.File
	size   int64
	turned time.Time
}

const (
	readersName   = "readers"
	readersBefore = "readers.before"

	// maxReadersFile bounds one file, in bytes; what is read later is not noted.
	maxReadersFile = 8 << 20
	// maxNotes bounds what waits to be written.
	maxNotes = 4096
)

// openReaders begins to note what clients read.
func openReaders(dir durable.Dir, now func() time.Time) *readers {
	r := &readers{dir: dir, in: make(chan string, maxNotes), done: make(chan struct{})}
	r.open(now()) // and goes on where the process before has ended
	r.ended.Go(func() { r.run(now) })
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

// note notes that a client has read a path of a generation.
func (r *readers) note(c client, generation, path string, begins bool, at time.Time) {
	name := "-"
	if begins {
		name = url.PathEscape(path)
	}
	select {
	case r.in <- fmt.Sprintf("%d %s %x %s %s %s\n", at.UnixMilli(), c.at, c.agent, c.project, generation, name):
	default:
	}
}

func (r *readers) run(now func() time.Time) {
	defer r.shut()
	var b strings.Builder
	for ended := false; !ended; {
		select {
		case line := <-r.in:
			b.WriteString(line)
		case <-r.done:
			ended = true
		}
		r.write(r.waiting(&b), now())
	}
}

// waiting takes all that waits.
func (r *readers) waiting(b *strings.Builder) string {
	defer b.Reset()
	for {
		select {
		case line := <-r.in:
			b.WriteString(line)
		default:
			return b.String()
		}
	}
}

func (r *readers) write(text string, now time.Time) {
	if passed := now.Sub(r.turned); passed < 0 || passed >= idle {
		r.turn(now)
	}
	if r.file == nil || r.size > maxReadersFile {
		return
	}
	n, _ := r.file.WriteString(text) // or it is not noted
	r.size += int64(n)
	if n > 0 && n < len(text) {
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
