package measure

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
)

// Client is one connection that asks, reads, and asks again. It is not for
// concurrent use.
type Client struct {
	Addr  string
	TLS   bool
	Close bool // a connection for each request, which must ask for that
	// Conn is the connection, nil while there is none. It is the caller's to close.
	Conn net.Conn
	// Reader is what answers are read by; nil: one of its own.
	Reader *bufio.Reader
	buf    []byte
}

// Dial connects.
func (c *Client) Dial(ctx context.Context) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.Addr)
	if err != nil {
		return err
	}
	if c.TLS {
		// The key exchange that all servers here have: hybrid ones with ML-KEM,
		// which the edge agrees to and older OpenSSL does not know, cost a third
		// more.
		conn = tls.Client(conn, &tls.Config{
			InsecureSkipVerify: true, //nolint:gosec // the time is measured, not the trust
			NextProtos:         []string{"http/1.1"}, CurvePreferences: []tls.CurveID{tls.X25519},
		})
	}
	c.Conn = conn
	if c.Reader == nil {
		c.Reader = bufio.NewReaderSize(conn, 64<<10)
	}
	c.Reader.Reset(conn)
	return nil
}

// Do sends a request and reads its answer, which must have a length.
func (c *Client) Do(ctx context.Context, request []byte) (status int, length int64, err error) {
	if c.Conn == nil {
		if err := c.Dial(ctx); err != nil {
			return 0, 0, err
		}
	}
	if _, err := c.Conn.Write(request); err != nil {
		return 0, 0, err
	}
	if status, length, err = c.head(); err != nil {
		return 0, 0, err
	}
	if err := c.discard(length); err != nil {
		return 0, 0, err
	}
	if c.Close {
		_ = c.Conn.Close() // read to its end
		c.Conn = nil
	}
	return status, length, nil
}

// head reads the head of an answer.
func (c *Client) head() (status int, length int64, err error) {
	line, err := c.Reader.ReadSlice('\n')
	if err != nil {
		return 0, 0, err
	}
	const version = "HTTP/1.1 "
	if len(line) < len(version)+4 || string(line[:len(version)]) != version {
		return 0, 0, fmt.Errorf("answered %q", line)
	}
	if status, err = strconv.Atoi(string(line[len(version) : len(version)+3])); err != nil {
		return 0, 0, fmt.Errorf("answered %q", line)
	}
	length = -1
	for {
		if line, err = c.Reader.ReadSlice('\n'); err != nil {
			return 0, 0, err
		}
		if len(line) <= 2 {
			break
		}
		const name = "Content-Length: "
		if len(line) > len(name) && bytes.EqualFold(line[:len(name)], []byte(name)) {
			if length, err = strconv.ParseInt(string(bytes.TrimSpace(line[len(name):])), 10, 64); err != nil {
				return 0, 0, err
			}
		}
	}
	if length < 0 {
		return 0, 0, errors.New("an answer without length")
	}
	return status, length, nil
}

func (c *Client) discard(n int64) error {
	k, err := c.Reader.Discard(int(min(n, int64(c.Reader.Buffered()))))
	read := int64(k)
	if c.buf == nil && read < n {
		c.buf = make([]byte, 256<<10)
	}
	for err == nil && read < n {
		k, err = c.Conn.Read(c.buf[:min(n-read, int64(len(c.buf)))])
		read += int64(k)
	}
	if errors.Is(err, io.EOF) && read < n {
		err = io.ErrUnexpectedEOF
	}
	return err
}
