package rsynctest

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"iter"
	"net"
	"sync"
	"testing"
)

// Lie is what a server says that is not what it seems: of the module m, in version 29 of the
// protocol, in which a listing comes as a whole.
type Lie struct {
	// Names are the files of the module, however many: of a hundred bytes each, as it tells.
	Names iter.Seq[string]
	// Content are the pieces of the file that is asked for first, whatever its length.
	Content iter.Seq[[]byte]
}

// Serve serves the lie to each client, until the test ends.
func (l Lie) Serve(t testing.TB) (url string) {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var clients sync.WaitGroup
	t.Cleanup(clients.Wait)
	t.Cleanup(func() { _ = ln.Close() })
	clients.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			clients.Go(func() {
				defer conn.Close() //nolint:errcheck // the client has gone
				c := liar{in: bufio.NewReader(conn), out: bufio.NewWriter(conn)}
				_ = errors.Join(c.tell(l), c.out.Flush()) // until the client has had enough
			})
		}
	})
	return "rsync://" + ln.Addr().String() + "/m/"
}

// liar speaks with one client.
type liar struct {
	in  *bufio.Reader
	out *bufio.Writer
}

func (c *liar) tell(l Lie) error {
	if _, err := c.out.WriteString("@RSYNCD: 29.0\n@RSYNCD: OK\n"); err != nil {
		return err
	}
	if err := errors.Join(c.number(1), c.out.Flush()); err != nil { // the seed of checksums
		return err
	}
	fetches, err := c.hear()
	if err != nil {
		return err
	}
	for name := range l.Names {
		const long, mode = 0x40, 0o100644
		entry := binary.LittleEndian.AppendUint32([]byte{long}, uint32(len(name)))
		entry = append(entry, name...)
		for _, n := range []uint32{100, 1_700_000_000, mode} { // size, time
			entry = binary.LittleEndian.AppendUint32(entry, n)
		}
		if err := c.data(entry); err != nil {
			return err
		}
	}
	if err := errors.Join(c.data(make([]byte, 5)), c.out.Flush()); err != nil || !fetches {
		return err
	}
	return c.send(l)
}

// hear reads what the client wants, and reports whether that is files.
func (c *liar) hear() (fetches bool, err error) {
	for line := ""; line != "\n" && err == nil; { // version, module and arguments
		line, err = c.in.ReadString('\n')
		fetches = fetches || line == "--files-from=-\n"
	}
	for n := 1; n > 0 && err == nil; { // excludes
		var length int32
		err = binary.Read(c.in, binary.LittleEndian, &length)
		n = int(length)
		_, _ = c.in.Discard(n)
	}
	for name := "x"; fetches && name != "\x00" && err == nil; {
		name, err = c.in.ReadString(0)
	}
	return fetches, err
}

// send sends the file that is asked for first: what is asked is what is answered, and then its content.
func (c *liar) send(l Lie) error {
	asked := make([]byte, 4+2+4*4) // which, what of it, and the head of its checksums: none
	if _, err := io.ReadFull(c.in, asked); err != nil {
		return err
	}
	if err := c.data(asked); err != nil {
		return err
	}
	for piece := range l.Content {
		token := binary.LittleEndian.AppendUint32(nil, uint32(len(piece)))
		if err := c.data(append(token, piece...)); err != nil {
			return err
		}
	}
	return c.out.Flush()
}

// data writes a message of MSG_DATA.
func (c *liar) data(b []byte) error {
	const tag = 7 << 24
	if err := c.number(tag | uint32(len(b))); err != nil {
		return err
	}
	_, err := c.out.Write(b)
	return err
}

func (c *liar) number(n uint32) error { return binary.Write(c.out, binary.LittleEndian, n) }
