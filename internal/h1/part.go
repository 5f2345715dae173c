package h1

import (
	"errors"
	"net"
	"os"
	"time"
)

// Parting is how a connection ends on which the client was told that nothing follows.
type Parting struct {
	// Within is how long a client that has got everything may take to close.
	Within time.Duration
	// Stall is how long it may take nothing of what was sent.
	Stall time.Duration
	// MinRate is how many bytes per second it must take on the average.
	MinRate int
}

const (
	// partTime is how long a client may take to close after its last answer.
	partTime = time.Second
	// partLook is how often it is looked whether a client has got everything.
	partLook = 100 * time.Millisecond
)

// Part waits until the client has got all that was written to a connection, which may be
// megabytes in the buffers of this system that it takes slowly, and closes, or until its time
// is over. Then the connection can be closed. Without this, something of the client's that
// nobody reads, a pipelined request or the word that it takes more, would make the system
// drop what it has not sent yet (RFC 9112 §9.6). What comes is read and dropped.
//
// It does nothing with what is no socket. It ends early when the connection is closed.
func Part(conn net.Conn, p Parting) {
	unsent, socket := Unsent(conn)
	if !socket {
		return
	}
	var buf [512]byte
	begun := time.Now()
	moved, said := begun, false
	most := p.Stall + time.Duration(unsent/max(p.MinRate, 1))*time.Second
	for {
		left, _ := Unsent(conn)
		now := time.Now()
		if left < unsent {
			unsent, moved = left, now
		}
		if left == 0 && !said {
			said, moved = true, now
			if tc, ok := conn.(interface{ CloseWrite() error }); ok {
				_ = tc.CloseWrite() // who does not hear it hears the end
			}
		}
		if rests := now.Sub(moved); said && rests > p.Within || rests > p.Stall || now.Sub(begun) > most {
			return
		}
		_ = conn.SetReadDeadline(now.Add(partLook)) // fails only when the connection is closed
		for {
			_, err := conn.Read(buf[:])
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return
			}
		}
	}
}
