package h1

import (
	"errors"
	"io"
	"os"
	"time"
)

// send sends a response. It returns how much of the body went out.
func (c *conn) send(r *Response) (int64, error) {
	switch {
	case r.Whole != nil:
		n, err := c.sendMemory(nil, r.Whole)
		return max(0, n-int64(len(r.Whole)-len(r.Body))), err
	case r.File == nil:
		return c.sendMemory(r.Head, r.Body)
	case r.Length > sendfileFrom && c.sock != nil:
		if _, err := c.w.out.writeAll(r.Head, nil, true); err != nil {
			return 0, err
		}
		r.Started = time.Now()
		if watcher, ok := c.s.Handler.(Watcher); ok {
			c.w.out.watcher, c.w.out.told = watcher, r.Started
			defer func() { c.w.out.watcher = nil }()
		}
		return c.w.out.sendFile(r.File, r.Offset, r.Length)
	}
	out := c.s.buffers.getOut()
	defer c.s.buffers.out.Put(out)
	head := r.Head
	watcher, _ := c.s.Handler.(Watcher)
	told := time.Time{} // when it was looked at the clock first
	var sent int64
	for sent < r.Length || len(head) > 0 {
		used := 0
		if len(head) <= outSize/2 {
			used = copy(out[:], head)
			head = nil
		}
		size := int64(used) + r.Length - sent
		if size > outSize {
			size = sendfileFrom // whole records of TLS, which have 16 KiB at most (RFC 8446 §5.1)
		}
		part := out[used:size]
		if err := readFile(r.File, part, r.Offset+sent); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF // the file is shorter than it was
			}
			return sent, &FileError{err}
		}
		n, err := c.sendMemory(head, out[:used+len(part)])
		head = nil
		sent += max(0, n-int64(used))
		if err != nil {
			return sent, err
		}
		if watcher != nil && sent < r.Length {
			switch now := time.Now(); {
			case told.IsZero():
				told = now
			case now.Sub(told) >= WatchEvery:
				told = now
				watcher.Sending(&c.w.req, r, sent)
			}
		}
	}
	return sent, nil
}

// FileError says that a body could not be read: the fault is not the client's.
type FileError struct{ Err error }

func (e *FileError) Error() string { return "read the body: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *FileError) Unwrap() error { return e.Err }

// sendMemory sends head and body as one. It returns how much of the body went
// out.
func (c *conn) sendMemory(head, body []byte) (int64, error) {
	if c.sock != nil {
		first := head
		if len(body) <= cap(head)-len(head) {
			first, body = append(head, body...), nil
		}
		n, err := c.w.out.writeAll(first, body, false)
		return int64(max(0, n-len(head))), err
	}
	if len(head) > 0 && len(body) > 0 && len(head)+len(body) <= outSize {
		out := c.s.buffers.getOut()
		defer c.s.buffers.out.Put(out)
		n, err := c.write(append(append(out[:0], head...), body...))
		return int64(max(0, n-len(head))), err
	}
	if len(head) > 0 {
		if _, err := c.write(head); err != nil {
			return 0, err
		}
	}
	sent := 0
	for sent < len(body) {
		n, err := c.write(body[sent:min(len(body), sent+outSize)])
		sent += n
		if err != nil {
			return int64(sent), err
		}
	}
	return int64(sent), nil
}

// write writes to a connection that is no bare socket. Its deadline is renewed
// now and then.
func (c *conn) write(b []byte) (int, error) {
	if by := time.Now().Add(c.s.Stall); c.writeBy.Before(by) {
		c.writeBy = by.Add(slack)
		if err := c.rwc.SetWriteDeadline(c.writeBy); err != nil {
			return 0, err
		}
	}
	return c.rwc.Write(b)
}

// readFile reads all of p from a file. What is in memory is read without a word to the
// runtime, which would see whether the call waits for the disk.
func readFile(f *os.File, p []byte, off int64) error {
	n, err := readNow(f, p, off)
	if err == nil && n == len(p) {
		return nil
	}
	_, err = f.ReadAt(p, off)
	return err
}
