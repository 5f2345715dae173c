package doors

import (
	"errors"
	"net"
	"sync"
)

// joined is several listeners as one.
type joined struct {
	all    []net.Listener
	conns  chan accepted
	once   sync.Once
	closed chan struct{}
}

type accepted struct {
	conn net.Conn
	err  error
}

// join makes one listener of all, nil if there are none. Its address is that of
// the first.
func join(all []net.Listener) net.Listener {
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	j := &joined{all: all, conns: make(chan accepted), closed: make(chan struct{})}
	for _, ln := range all {
		go j.accept(ln)
	}
	return j
}

func (j *joined) accept(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		select {
		case j.conns <- accepted{conn, err}:
		case <-j.closed:
			if err == nil {
				_ = conn.Close() // it was not used
			}
			return
		}
	}
}

func (j *joined) Accept() (net.Conn, error) {
	select {
	case a := <-j.conns:
		return a.conn, a.err
	case <-j.closed:
		return nil, net.ErrClosed
	}
}

func (j *joined) Close() error {
	err := net.ErrClosed
	j.once.Do(func() {
		close(j.closed)
		err = nil
		for _, ln := range j.all {
			err = errors.Join(err, ln.Close())
		}
	})
	return err
}

func (j *joined) Addr() net.Addr { return j.all[0].Addr() }
