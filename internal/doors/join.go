package doors

import (
	"errors"
	"net"
	"sync"
)

// joined is several listeners as one.
type joined struct {
	all   []net.Listener
	conns chan accepted
	ended chan struct{} // closed when none of them accepts any more
	once  sync.Once
}

type accepted struct {
	conn net.Conn
	err  error
}

// join makes one listener of all, nil if there are none. Its address is that of
// the first. What one of them has accepted when it is closed is still returned by
// Accept, which must be called until its error is [net.ErrClosed].
func join(all []net.Listener) net.Listener {
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	j := &joined{all: all, conns: make(chan accepted), ended: make(chan struct{})}
	var accepting sync.WaitGroup
	for _, ln := range all {
		accepting.Go(func() { j.accept(ln) })
	}
	go func() { accepting.Wait(); close(j.ended) }()
	return j
}

func (j *joined) accept(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		j.conns <- accepted{conn, err}
	}
}

func (j *joined) Accept() (net.Conn, error) {
	select {
	case a := <-j.conns:
		return a.conn, a.err
	case <-j.ended:
		return nil, net.ErrClosed
	}
}

func (j *joined) Close() error {
	err := net.ErrClosed
	j.once.Do(func() {
		err = nil
		for _, ln := range j.all {
			err = errors.Join(err, ln.Close())
		}
	})
	return err
}

func (j *joined) Addr() net.Addr { return j.all[0].Addr() }
