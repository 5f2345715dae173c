package accesslog

import (
	"bytes"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
)

// slow is a disk that takes less than is logged meanwhile.
type slow struct {
	log    *Log
	writes int
}

// tooMany is more than the buffers that wait, by far.
const tooMany = 100 * queueLength

func (d *slow) Write(p []byte) (int, error) {
	if d.writes++; d.writes < tooMany { // so that a log that never ends fails
		for range 2 {
			d.log.WriteLine(make([]byte, bufferBytes))
		}
	}
	return len(p), nil
}

// A disk that falls behind for good keeps the log neither from being closed nor
// from being opened anew.
func TestSlowDiskEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := new(slow)
		d.log = open(t, Options{Writer: d})
		d.log.Write(sample())
		closed(t, d.log)
		if d.writes >= tooMany {
			t.Errorf("there were %d writes", d.writes)
		}
	})
}

// narrow takes some bytes, and more later.
type narrow struct {
	bytes.Buffer
	room int
}

func (d *narrow) Write(p []byte) (int, error) {
	n := min(len(p), d.room)
	d.room -= n
	_, _ = d.Buffer.Write(p[:n])
	if n < len(p) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

// The line at which a disk got full costs no other line.
func TestTornLine(t *testing.T) {
	const line = "IP: 192.0.2.1; REPO: epel-9\n"
	for room, want := range map[int]string{
		0:             line,
		10:            line[:10] + "\n" + line,
		len(line) - 1: line[:len(line)-1] + "\n" + line, // all of it, as it happens
		len(line):     line + line,
		len(line) + 3: line + line[:3] + "\n" + line,
		2 * len(line): line + line + line,
	} {
		d := &narrow{room: room}
		c := &core{w: d}
		c.write(buffered(line + line))
		c.write(buffered("")) // the disk is as full as it was
		d.room = 1000
		c.write(buffered(line))
		if got := d.String(); got != want {
			t.Errorf("room for %d: %q, want %q", room, got, want)
		}
		if kept := int64(strings.Count(want, line)); kept+c.dropped.Load() != 3 && room != len(line)-1 {
			t.Errorf("room for %d: %d lines are kept, %d dropped", room, kept, c.dropped.Load())
		}
	}
}

func buffered(s string) *[]byte {
	b := []byte(s)
	return &b
}
