package handover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The words of an order and its answers, each a line.
const (
	wordOrder    = "hand-over" // to the process
	wordProgress = "progress"  // what happens
	wordDone     = "done"      // what has happened
)

// orderTime is how long an order may take to be given.
const orderTime = 5 * time.Second

// addressOf is where the process takes orders.
func addressOf(pid int) string { return fmt.Sprintf("@freshet/%d", pid) }

// listen takes orders until ctx ends.
func (s *server) listen(ctx context.Context) error {
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: addressOf(os.Getpid()), Net: "unix"})
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.AcceptUnix()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				time.Sleep(time.Second) //nolint:forbidigo // out of descriptors, most likely
				continue
			}
			go s.take(conn)
		}
	}()
	return nil
}

// take takes an order.
func (s *server) take(conn *net.UnixConn) {
	o := &order{newSpeech(conn)}
	peer, err := credentials(conn)
	if err != nil || peer.Uid != 0 && int(peer.Uid) != os.Geteuid() {
		o.failed(errors.New("this order is for root, and for the user that the process runs as"))
		return
	}
	if word, _, err := o.hear(time.Now().Add(orderTime)); err != nil || word != wordOrder {
		o.failed(fmt.Errorf("no order: %q", word))
		return
	}
	select {
	case s.orders <- o:
	default:
		o.failed(errors.New("another hand-over is under way"))
	}
}

// credentials are those of the process at the other end.
func credentials(conn *net.UnixConn) (cred *unix.Ucred, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	failed := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	return cred, errors.Join(err, failed)
}

// order is somebody who has ordered to hand over, and may have left.
type order struct{ *speech }

func (o *order) progress(text string) { _ = o.say(wordProgress, text) }

func (o *order) done(text string) {
	_ = o.say(wordDone, text)
	_ = o.conn.Close()
}

func (o *order) failed(err error) {
	_ = o.say(wordFailed, err.Error())
	_ = o.conn.Close()
}

// Order has a process, which [Serve] runs in, hand over, and returns what has come of it
// in words for people. Progress is called with what happens meanwhile.
func Order(ctx context.Context, pid int, progress func(text string)) (string, error) {
	conn, err := (&net.Dialer{Timeout: orderTime}).DialContext(ctx, "unix", addressOf(pid))
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "", fmt.Errorf("process %d takes no orders: it is not there, is no freshet that serves, has not begun to or hands over already", pid)
	case err != nil:
		return "", fmt.Errorf("order process %d: %w", pid, err)
	}
	defer conn.Close() //nolint:errcheck // all is said
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if unixConn, ok := conn.(*net.UnixConn); ok {
		// Anybody may have taken the name.
		if peer, err := credentials(unixConn); err != nil || int(peer.Pid) != pid {
			return "", errors.Join(fmt.Errorf("another process answers for %d", pid), err)
		}
	}
	s := newSpeech(conn)
	if err := s.say(wordOrder, ""); err != nil {
		return "", err
	}
	for {
		switch word, text, err := s.hear(time.Time{}); {
		case errors.Is(err, io.EOF):
			return "", fmt.Errorf("process %d ended, or gave up, before it said what came of it", pid)
		case err != nil:
			return "", err
		case word == wordDone:
			return text, nil
		case word == wordFailed:
			return "", errors.New(text)
		default:
			progress(text)
		}
	}
}
