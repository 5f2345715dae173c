package budget

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/memnet"
	"freshet/internal/pause"

	"golang.org/x/sys/unix"
)

// taker takes pieces from a share until its context ends.
func taker(ctx context.Context, s *Share, piece int64, wg *sync.WaitGroup) {
	wg.Go(func() {
		for s.Take(ctx, piece) == nil {
			continue
		}
	})
}

// within tells whether got is want, five hundredths more or less.
func within(got, want float64) bool { return math.Abs(got-want) <= 0.05*want }

// Ten projects with several connections each stay together at the rate, and get of it what
// their weights say, whatever the size of what they take.
func TestTenShares(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const rate, seconds = 25 << 20, 60
		b := New(rate)
		ctx, cancel := context.WithTimeout(t.Context(), seconds*time.Second)
		defer cancel()
		var shares []*Share
		var wg sync.WaitGroup
		weights := 0
		for i := range 10 {
			s := b.Share(1 + i%3)
			weights += 1 + i%3
			shares = append(shares, s)
			for range 1 + i%4 {
				taker(ctx, s, int64(1000+6000*i), &wg)
			}
		}
		wg.Wait()
		var sum int64
		for i, s := range shares {
			sum += s.Taken()
			if want := rate * seconds * float64(1+i%3) / float64(weights); !within(float64(s.Taken()), want) {
				t.Errorf("share %d took %d bytes, want %.0f", i, s.Taken(), want)
			}
			if s.Held() < seconds/2*time.Second {
				t.Errorf("share %d was held for %v only", i, s.Held())
			}
		}
		if !within(float64(sum), rate*seconds) {
			t.Errorf("all of them took %d bytes in a minute, want %d", sum, rate*seconds)
		}
	})
}

// What one does not use is the others'; a share's own limit holds within that; and a new
// rate holds at once, also for who waits.
func TestChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := New(1 << 20)
		idle, busy, kept := b.Share(9), b.Share(1), b.Share(9)
		kept.Limit(100 << 10)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		taker(ctx, busy, 10_000, &wg)
		taker(ctx, kept, 10_000, &wg)
		time.Sleep(time.Minute)
		if got := float64(kept.Taken()); !within(got, 60*100<<10) {
			t.Errorf("the limited one took %.0f bytes", got)
		}
		if got := float64(busy.Taken()); !within(got, 60*924<<10) || idle.Taken() != 0 {
			t.Errorf("the other one took %.0f bytes, want what is left", got)
		}
		before := busy.Taken()
		b.Set(10 << 10) // less than one takes at once
		time.Sleep(100 * time.Second)
		if got := float64(busy.Taken() - before); got > 1200<<10 || got < 50<<10 {
			t.Errorf("%.0f bytes in 100 s at the lower rate", got)
		}
		b.Set(100 << 10)
		before = busy.Taken()
		time.Sleep(100 * time.Second)
		if got := float64(busy.Taken() - before); got > 100*100<<10 || got < 5*100<<10 {
			t.Errorf("%.0f bytes in 100 s at the higher rate", got)
		}
		cancel()
		wg.Wait()
	})
}

// What goes through a second share is of its budget, too: the slower of the two holds, and who
// else uses that one gets its part.
func TestThrough(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network, disk := New(1<<20), New(256<<10)
		in, write, check := network.Share(1), disk.Share(1), disk.Share(1)
		in.Through(write)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		taker(ctx, in, 10_000, &wg)
		time.Sleep(time.Minute)
		if got := float64(in.Taken()); !within(got, 60*256<<10) || write.Taken() != in.Taken() {
			t.Errorf("%.0f bytes came in, and %d were written", got, write.Taken())
		}
		if in.Held() < 30*time.Second {
			t.Errorf("it was held for %v only", in.Held())
		}
		before := in.Taken()
		taker(ctx, check, 10_000, &wg)
		time.Sleep(time.Minute)
		if got := float64(in.Taken() - before); !within(got, 30*256<<10) {
			t.Errorf("%.0f bytes came in while the disk was read as well", got)
		}
		cancel() // who takes of what has no bound never waits
		wg.Wait()
		disk.Set(0)
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		before = in.Taken()
		taker(ctx, in, 10_000, &wg)
		wg.Wait()
		if got := float64(in.Taken() - before); !within(got, 60<<20) {
			t.Errorf("%.0f bytes came in when nothing bounds the disk", got)
		}
	})
}

// Without a limit, and without a budget or a share, nobody waits.
func TestNoLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		var none *Share
		var zero Budget
		s, loose := zero.Share(0), (*Budget)(nil).Share(3)
		for _, s := range []*Share{none, s, loose} {
			for range 100 {
				if err := s.Take(t.Context(), 1<<40); err != nil {
					t.Fatal(err)
				}
			}
		}
		if s.Taken() != 100<<40 || none.Taken() != 0 || time.Since(begun) != 0 {
			t.Errorf("%d bytes counted in %v", s.Taken(), time.Since(begun))
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		zero.Set(1)
		_ = s.Take(ctx, 1<<20)
		enough := errors.New("enough")
		time.AfterFunc(time.Second, func() { cancel(enough) })
		if err := s.Take(ctx, 1); !errors.Is(err, enough) {
			t.Errorf("got %v, want the cause of the end", err)
		}
		time.AfterFunc(time.Second, func() { zero.Set(0) })
		if err := s.Take(t.Context(), 1); err != nil {
			t.Error(err)
		}
	})
}

// Connections bring no more than the budget lets them, and those that nobody limits are
// not slowed down by it. Closing one ends who waits.
func TestConn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var network memnet.Network
		l, err := network.Listen("server")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() { _, _ = io.Copy(c, strings.NewReader(strings.Repeat("x", 1<<20))); _ = c.Close() }()
			}
		}()
		b := New(128 << 10)
		s := b.Share(1)
		var counter atomic.Int64
		begun := time.Now()
		for _, read := range []func(net.Conn) (int64, error){
			func(c net.Conn) (int64, error) { return io.Copy(struct{ io.Writer }{io.Discard}, c) },
			func(c net.Conn) (int64, error) { return io.Copy(io.Discard, struct{ io.Reader }{c}) },
		} {
			raw, err := network.DialContext(t.Context(), "tcp", "server")
			if err != nil {
				t.Fatal(err)
			}
			c := s.Conn(raw, &counter)
			if n, err := read(c); n != 1<<20 || err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
			_ = c.Close()
		}
		if took := time.Since(begun); took < 15*time.Second || took > 17*time.Second {
			t.Errorf("2 MiB at 128 KiB/s took %v", took)
		}
		if s.Taken() != 2<<20 || counter.Load() != 2<<20 {
			t.Errorf("%d and %d bytes are counted", s.Taken(), counter.Load())
		}
		b.Set(1)
		raw, _ := network.DialContext(t.Context(), "tcp", "server")
		c := s.Conn(raw)
		time.AfterFunc(time.Second, func() { _ = c.Close() })
		if _, err := io.Copy(io.Discard, c); err == nil {
			t.Error("a closed connection ended as if it was read to its end")
		}
		_ = l.Close()
	})
}

// From TCP to TCP all bytes arrive, and are counted, with a limit and without.
func TestTCP(t *testing.T) {
	t.Parallel()
	const size = 3<<20 + 17
	for _, rate := range []int64{0, 1 << 30} {
		server, in := pair(t)
		out, client := pair(t)
		s := New(rate).Share(1)
		go func() {
			_, _ = io.Copy(server, strings.NewReader(strings.Repeat("y", size)))
			_ = server.Close()
		}()
		go func() {
			if n, err := io.Copy(out, s.Conn(in)); n != size || err != nil {
				t.Errorf("copied %d bytes, %v", n, err)
			}
			_ = out.Close()
		}()
		got, err := io.ReadAll(client)
		if len(got) != size || err != nil || s.Taken() != size {
			t.Errorf("rate %d: %d bytes, %v, %d counted", rate, len(got), err, s.Taken())
		}
	}
}

// pair is a connection of TCP.
func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if a, err = net.Dial("tcp", l.Addr().String()); err == nil {
		b, err = l.Accept()
	}
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

// Before more is waited for, what has come is acknowledged, whatever the kernel thought of
// waiting for an answer.
func TestAcknowledged(t *testing.T) {
	t.Parallel()
	server, in := pair(t)
	out, client := pair(t)
	option(t, in, func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0) })
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(out, New(0).Share(1).Conn(in))
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for option(t, in, func(int) error { return nil }) == 0 { // until it waits
		if !pause.For(ctx, time.Millisecond) {
			t.Fatal("it waits, and does not acknowledge")
		}
	}
	_ = server.Close()
	<-copied
	_ = errors.Join(out.Close(), client.Close())
}

// option does something to a connection, and tells whether it acknowledges at once.
func option(t *testing.T, c net.Conn, do func(fd int) error) (quick int) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	var failed error
	if err == nil {
		err = raw.Control(func(fd uintptr) {
			if failed = do(int(fd)); failed == nil {
				quick, failed = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK)
			}
		})
	}
	if err = errors.Join(err, failed); err != nil {
		t.Fatal(err)
	}
	return quick
}

// BenchmarkTake is what a limited connection pays for each of its pieces.
func BenchmarkTake(b *testing.B) {
	s := New(1 << 50).Share(1)
	for b.Loop() {
		_ = s.Take(b.Context(), 1<<16)
	}
}
