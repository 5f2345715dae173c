package handover

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// The words of the two processes, each a line. What belongs to a word follows it after a
// space.
const (
	wordPrepared = "prepared" // new: the configuration is good
	wordGo       = "go"       // old: nobody else has what only one may have
	wordReady    = "ready"    // new: all roles serve
	wordYours    = "yours"    // old: the service is the new one's
	wordFailed   = "failed"   // new: why
)

// maxLine bounds a line, an error's text most of all.
const maxLine = 4096

// speech is one end of a conversation by lines.
type speech struct {
	conn net.Conn
	in   *bufio.Reader
}

func newSpeech(conn net.Conn) *speech { return &speech{conn, bufio.NewReaderSize(conn, maxLine)} }

// say sends a line. It does not wait for long.
func (s *speech) say(word, text string) error {
	line := strings.Join(strings.Fields(word+" "+text), " ")
	if len(line) >= maxLine {
		line = line[:maxLine-1]
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(sayTime)); err != nil {
		return err
	}
	_, err := io.WriteString(s.conn, line+"\n")
	return err
}

// sayTime is how long a line may wait for its reader.
const sayTime = 5 * time.Second

// hear returns the next line, until deadline if that is not zero.
func (s *speech) hear(deadline time.Time) (word, text string, err error) {
	if err := s.conn.SetReadDeadline(deadline); err != nil {
		return "", "", err
	}
	line, err := s.in.ReadSlice('\n')
	if err != nil {
		return "", "", err
	}
	word, text, _ = strings.Cut(strings.TrimSuffix(string(line), "\n"), " ")
	return word, text, nil
}

// connOf makes a connection of a descriptor, which it takes over.
func connOf(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "handover")
	conn, err := net.FileConn(f)
	return conn, errors.Join(err, f.Close())
}

// Predecessor is the process that this one takes over from. The nil Predecessor is none:
// then there is nobody to wait for. Its methods are called one after the other.
type Predecessor struct{ *speech }

// prepared says that this process could run, and waits until it may, for as long as the
// other one takes or ctx lasts. When that has ended, it may as well.
func (p *Predecessor) prepared(ctx context.Context) error { return p.ask(ctx, wordPrepared, wordGo) }

// ready says that this process serves, and waits until the service is its own.
func (p *Predecessor) ready(ctx context.Context) error {
	err := p.ask(ctx, wordReady, wordYours)
	if p != nil {
		_ = p.conn.Close() // all is said
	}
	return err
}

// ask says a word and waits for its answer; the end of the other process is one too.
func (p *Predecessor) ask(ctx context.Context, say, want string) error {
	if p == nil {
		return nil
	}
	defer context.AfterFunc(ctx, func() { _ = p.conn.Close() })()
	_ = p.say(say, "") // hear tells
	if got, _, err := p.hear(time.Time{}); err == nil && got != want {
		return fmt.Errorf("the process that hands over said %q where %q was expected", got, want)
	}
	return ctx.Err()
}

// Failed says why this process ends, if it has not taken over yet.
func (p *Predecessor) Failed(err error) {
	if p != nil {
		_ = p.say(wordFailed, err.Error()) // nobody may be there any more
	}
}
