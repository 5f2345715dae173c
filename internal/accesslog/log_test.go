package accesslog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// disk is a writer that can block and fail.
type disk struct {
	mu      sync.Mutex
	b       bytes.Buffer
	writes  int
	err     error
	blocked chan struct{} // not nil: writes wait until it is closed
}

func (d *disk) Write(p []byte) (int, error) {
	d.mu.Lock()
	blocked := d.blocked
	d.mu.Unlock()
	if blocked != nil {
		<-blocked
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writes++
	if d.err != nil {
		return 0, d.err
	}
	return d.b.Write(p)
}

func (d *disk) set(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

func (d *disk) lines() (lines, writes int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Count(d.b.String(), "\n"), d.writes
}

func open(t *testing.T, opt Options) *Log {
	t.Helper()
	l, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func closed(t *testing.T, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// Lines wait a little for others, and none is lost.
func TestLinesGoTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d disk
		l := open(t, Options{Writer: &d})
		edge, hub := l.For("edge"), l.For("hub")
		for range 10 {
			edge.Write(sample())
			hub.Write(sample())
		}
		if n, _ := d.lines(); n != 0 {
			t.Errorf("%d lines at once", n)
		}
		time.Sleep(delay)
		synctest.Wait()
		if n, writes := d.lines(); n != 20 || writes > 2*maxShards {
			t.Errorf("%d lines in %d writes", n, writes)
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 1000 {
					edge.Write(sample())
				}
			})
		}
		wg.Wait()
		closed(t, l)
		closed(t, l)
		if n, _ := d.lines(); n+int(l.Dropped()) != 4020 || l.Dropped() != 0 {
			t.Errorf("%d lines, %d dropped", n, l.Dropped())
		}
		if s := d.b.String(); strings.Count(s, "role=edge") != 4010 || strings.Count(s, "role=hub") != 10 {
			t.Error("roles are mixed up")
		}
	})
}

// Full buffers are written many at once, but before there are too many of them.
func TestBuffersGoTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d disk
		l := open(t, Options{Writer: &d})
		begin := time.Now()
		for len(l.core.full) < burst-1 {
			l.Write(sample())
		}
		synctest.Wait()
		if _, writes := d.lines(); writes != 0 {
			t.Errorf("%d writes for less than a burst", writes)
		}
		for range 2 * maxShards * bufferBytes / 100 {
			l.Write(sample())
			if _, writes := d.lines(); writes > 0 {
				break
			}
		}
		synctest.Wait()
		if _, writes := d.lines(); writes < burst || time.Since(begin) != 0 {
			t.Errorf("%d writes for a burst after %v", writes, time.Since(begin))
		}
		closed(t, l)
		if l.Dropped() != 0 {
			t.Errorf("%d lines were dropped", l.Dropped())
		}
	})
}

// A disk that takes nothing costs lines, which are counted, and no time.
func TestBlockedDiskBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := disk{blocked: make(chan struct{})}
		l := open(t, Options{Format: Combined, Writer: &d})
		begin := time.Now()
		const total = 100_000
		for range total {
			l.Write(sample())
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("waited %v", took)
		}
		if l.Dropped() == 0 {
			t.Error("nothing was dropped")
		}
		close(d.blocked)
		closed(t, l)
		if n, _ := d.lines(); n+int(l.Dropped()) != total {
			t.Errorf("%d written and %d dropped of %d", n, l.Dropped(), total)
		}
	})
}

// A full disk is told of once, and so is its end.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d disk
		var told []string
		l := open(t, Options{Writer: &d, Failed: func(err error) { told = append(told, fmt.Sprint(err)) }})
		write := func() {
			l.Write(sample())
			time.Sleep(delay)
			synctest.Wait()
		}
		d.set(syscall.ENOSPC)
		write()
		write()
		if l.Dropped() != 2 {
			t.Errorf("%d dropped", l.Dropped())
		}
		d.set(nil)
		write()
		closed(t, l)
		if n, _ := d.lines(); n != 1 || len(told) != 2 || told[1] != "<nil>" || !strings.Contains(told[0], "no space") {
			t.Errorf("%d lines, told %q", n, told)
		}
	})
}

// logrotate renames the file and sends SIGHUP: every line is in one of the two.
func TestRotate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	l := open(t, Options{Path: path})
	const each = 500
	for i := range 4 {
		for range each {
			l.Write(sample())
		}
		if err := os.Rename(path, fmt.Sprintf("%s.%d", path, i)); err != nil {
			t.Fatal(err)
		}
		l.Reopen()
		for { // the new file comes with the next round of the writer
			if _, err := os.Stat(path); err == nil {
				break
			} else if !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
	}
	closed(t, l)
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) != 5 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		want := each
		if f == path {
			want = 0
		}
		if n := bytes.Count(data, []byte("\n")); err != nil || n != want {
			t.Errorf("%s has %d lines, %v; want %d", f, n, err, want)
		}
	}
}

func TestNilLog(t *testing.T) {
	var l *Log
	l.Write(sample())
	l.Reopen()
	if l.For("edge") != nil || l.Dropped() != 0 || l.Close() != nil {
		t.Error("a nil log does something")
	}
}

// Lines of others are written whole, as they are, and count when they are lost.
func TestWriteLine(t *testing.T) {
	d := new(disk)
	l := open(t, Options{Writer: d})
	const line = "IP: 192.0.2.1; REPO: epel-9\n"
	for range 5000 { // more than a buffer takes
		l.WriteLine([]byte(line))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := d.b.String(); got != strings.Repeat(line, 5000) {
		t.Errorf("%d bytes were written, want %d", len(got), 5000*len(line))
	}
	d = &disk{err: errors.New("full")}
	l = open(t, Options{Writer: d})
	l.WriteLine([]byte(line))
	if err := l.Close(); err != nil || l.Dropped() != 1 {
		t.Errorf("%d lines were lost, %v", l.Dropped(), err)
	}
	(*Log)(nil).WriteLine([]byte(line)) // nobody listens
}
