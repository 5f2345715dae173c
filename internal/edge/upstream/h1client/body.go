package h1client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

const (
	// maxChunkLine is the longest line with a chunk's size.
	maxChunkLine = 256
	// maxTrailers bounds what comes after the last chunk.
	maxTrailers = 16 << 10
)

// exchange is a response with its body and the connection it comes by.
type exchange struct {
	resp http.Response
	body body
}

// body reads the body of a response and leaves the connection behind it.
type body struct {
	client *Client
	conn   *conn           // nil when it is given back
	ctx    context.Context //nolint:containedctx // the request's, which the body ends
	upload *upload         // nil: the request had no body
	idle   time.Duration
	keep   bool // the connection may be used again
	mode   framing
	left   int64 // of the body or the chunk
	begun  bool  // a chunk was read, and its line end was not
	// trailing allows bytes behind the announced end.
	trailing bool
	err      error // what every further read returns
}

// Read implements [io.Reader]. Errors but io.EOF are an [*Error].
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := b.read(p)
	if err != nil {
		b.end(err)
		return n, b.err
	}
	return n, nil
}

func (b *body) read(p []byte) (n int, err error) {
	switch b.mode {
	case framedLength:
		n, err = b.some(p)
		switch {
		case b.left > 0 || err != nil:
		case b.conn.r < b.conn.w && !b.trailing:
			n, err = 0, errLong // without its end, it is not taken for whole
		default:
			err = io.EOF
		}
	case framedChunked:
		if b.left == 0 {
			if err := b.nextChunk(); err != nil {
				return 0, err
			}
		}
		n, err = b.some(p)
	case framedClose:
		b.left = int64(len(p))
		n, err = b.raw(p)
	case framedNone:
		return 0, io.EOF
	}
	return n, err
}

// some reads a part of what is left, which is something.
func (b *body) some(p []byte) (int, error) {
	n, err := b.raw(p)
	if n > 0 {
		return n, nil
	}
	if errors.Is(err, io.EOF) {
		err = &Error{Short, io.ErrUnexpectedEOF}
	}
	return n, err
}

// raw reads up to left bytes from the buffer, or past it.
func (b *body) raw(p []byte) (int, error) {
	c := b.conn
	p = p[:min(int64(len(p)), b.left)]
	if c.r == c.w {
		c.wait(b.idle)
		if len(p) >= bufferSize {
			if b.mode == framedLength && int64(len(p)) == b.left {
				p = p[:len(p)-1] // the last byte comes by the buffer, which shows what is behind it
			}
			n, err := c.nc.Read(p)
			b.left -= int64(n)
			if n > 0 {
				err = nil // it comes again
			}
			return n, err
		}
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, (*c.buf)[c.r:c.w])
	c.r += n
	b.left -= int64(n)
	return n, nil
}

// errLong says that there is more of a body than its length says: what belongs
// to it, and what to another answer, nobody can tell.
var errLong = &Error{Long, errors.New("bytes behind the body that was announced")}

// nextChunk reads the line with the next chunk's size. After the last one, and
// the trailers, it returns io.EOF.
func (b *body) nextChunk() error {
	if b.begun {
		line, err := b.line(2)
		if err != nil {
			return err
		}
		if len(line) > 0 {
			return malformed("chunk is longer than its size")
		}
	}
	b.begun = true
	line, err := b.line(maxChunkLine)
	if err != nil {
		return err
	}
	size, err := chunkSize(line)
	if err != nil {
		return err
	}
	if b.left = size; size > 0 {
		return nil
	}
	for total := 0; ; {
		line, err := b.line(maxTrailers)
		if err != nil {
			return err
		}
		if len(line) == 0 {
			return io.EOF
		}
		if _, _, err := fieldLine(string(line)); err != nil {
			return err
		}
		if total += len(line) + 2; total > maxTrailers {
			return malformed("trailers longer than %d bytes", maxTrailers)
		}
	}
}

// line returns the next line, which is valid until the next read, without its
// CRLF. With it, it has at most limit bytes.
func (b *body) line(limit int) ([]byte, error) {
	c := b.conn
	for seen := 0; ; {
		data := (*c.buf)[c.r:c.w]
		if i := bytes.IndexByte(data[seen:], '\n'); i >= 0 {
			i += seen
			switch {
			case i == 0 || data[i-1] != '\r':
				return nil, malformed("line without CR")
			case i >= limit:
				return nil, malformed("line longer than %d bytes", limit)
			}
			c.r += i + 1
			return data[:i-1], nil
		}
		if seen = len(data); seen >= limit {
			return nil, malformed("line longer than %d bytes", limit)
		}
		c.wait(b.idle)
		if err := c.fill(); err != nil {
			if errors.Is(err, io.EOF) {
				err = &Error{Short, io.ErrUnexpectedEOF}
			} else if errors.Is(err, errFull) {
				err = malformed("line longer than %d bytes", bufferSize)
			}
			return nil, err
		}
	}
}

// chunkSize reads "1a2b" or "1a2b;name=value" (RFC 9112 §7.1). Extensions mean
// nothing to us.
func chunkSize(line []byte) (int64, error) {
	digits, ext, extended := bytes.Cut(line, []byte(";"))
	if extended {
		digits = bytes.TrimRight(digits, " \t") // bad whitespace, which §7.1.1 has us ignore
		if err := checkText(string(ext)); err != nil {
			return 0, err
		}
	}
	if len(digits) == 0 || len(digits) > 15 {
		return 0, malformed("chunk size %.32q", line)
	}
	for _, c := range digits {
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') {
			return 0, malformed("chunk size %.32q", line)
		}
	}
	n, err := strconv.ParseInt(string(digits), 16, 64)
	if err != nil {
		return 0, malformed("chunk size %.32q", line)
	}
	return n, nil
}

// end notes what every further read returns and gives the connection back.
func (b *body) end(err error) {
	if errors.Is(err, io.EOF) {
		b.err = io.EOF
	} else {
		b.keep = false
		kind := Broken
		if errors.Is(err, io.ErrUnexpectedEOF) {
			kind = Short
		}
		b.err = asError(b.ctx, err, IdleTimeout, kind)
	}
	b.release()
}

// release leaves the connection to the pool if it is fit for another request.
func (b *body) release() {
	c := b.conn
	if c == nil {
		return
	}
	b.conn = nil
	keep := c.hook.Drop() && b.keep && c.r == c.w && b.upload.sent()
	b.client.buffers.put(c.buf)
	c.buf, c.r, c.w = nil, 0, 0
	if !keep {
		c.close()
		return
	}
	b.client.park(c)
}

// AtHand reports whether the next n bytes of the body have been received.
func (b *body) AtHand(n int64) bool {
	return b.err != nil || b.mode == framedLength && n <= min(b.left, int64(b.conn.w-b.conn.r))
}

// Close implements [io.Closer]. It cuts the connection unless the rest of the
// body is at hand.
func (b *body) Close() error {
	if b.conn == nil {
		return nil // at its end, or closed before
	}
	if c := b.conn; b.mode == framedLength && b.left == int64(c.w-c.r) {
		c.r = c.w
	} else {
		b.keep = false
	}
	b.err = &Error{Canceled, fmt.Errorf("read after close: %w", io.ErrClosedPipe)}
	b.release()
	return nil
}
