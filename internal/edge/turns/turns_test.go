package turns

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func clientOf(i byte) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, i}), 32)
}

func take(t *testing.T, l *Line, of netip.Prefix) {
	t.Helper()
	if err := l.Take(t.Context(), of); err != nil {
		t.Error(err)
	}
}

// wants fails unless so many have a turn, and wait.
func wants(t *testing.T, l *Line, running, waiting int) {
	t.Helper()
	synctest.Wait()
	if r, w := l.Held(); r != running || w != waiting {
		t.Errorf("%d have a turn and %d wait, want %d and %d", r, w, running, waiting)
	}
}

func TestZeroLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Line
		for range 10_000 {
			take(t, &l, clientOf(1))
		}
		wants(t, &l, 10_000, 0)
	})
}

// One client has its share, others have the rest, and nobody in particular is
// bounded by the whole only.
func TestShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Line{Most: 20, PerClient: 3, Waiting: 100, Patience: time.Minute}
		for range 5 {
			go take(t, &l, clientOf(1))
		}
		wants(t, &l, 3, 2)
		for range 3 {
			take(t, &l, clientOf(2))
		}
		for range 14 {
			take(t, &l, netip.Prefix{})
		}
		wants(t, &l, 20, 2)
		go take(t, &l, clientOf(3))
		wants(t, &l, 20, 3)
		l.Give(clientOf(2)) // for client 3: client 1 has all it may
		wants(t, &l, 20, 2)
		l.Give(clientOf(2))
		wants(t, &l, 19, 2)
		l.Give(clientOf(1)) // it has two, and so few are left that it may not have another
		wants(t, &l, 18, 2)
		for range 13 {
			l.Give(netip.Prefix{})
		}
		wants(t, &l, 6, 1)
		l.Give(clientOf(1))
		wants(t, &l, 6, 0)
	})
}

// A few clients that take what they can, and give nothing back, leave turns for
// others: each of the first hundred finds some, and one with none finds the last.
func TestFewCannotTakeAll(t *testing.T) {
	l := Line{Most: 2048, PerClient: 512}
	left := []int{l.Most}
	for i := range 100 {
		of := clientOf(byte(i))
		for l.TryTake(of) {
		}
		if l.Free(of) {
			t.Errorf("client %d had no turn, and would find one", i)
		}
		running, _ := l.Held()
		left = append(left, l.Most-running)
	}
	for n, want := range map[int]int{1: 2048 - 512, 4: 954, 16: 483, 64: 227} {
		if left[n] != want {
			t.Errorf("%d clients leave %d, want %d", n, left[n], want)
		}
	}
	n := 100
	for ; l.TryTake(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), 32)); n++ { // one for each
	}
	if running, _ := l.Held(); running != l.Most || n < 200 {
		t.Errorf("%d clients have %d turns, and there is none for the next", n, running)
	}
}

// Turns go to who has least.
func TestLeastFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Line{Most: 3, Waiting: 100, Patience: time.Minute}
		for range 3 { // of whom each may have all
			take(t, &l, clientOf(1))
		}
		var got [3]atomic.Int64
		for _, i := range []byte{1, 1, 1, 2, 2} {
			go func() {
				take(t, &l, clientOf(i))
				got[i].Add(1)
			}()
			synctest.Wait()
		}
		l.Give(clientOf(1))
		wants(t, &l, 3, 4)
		if got[1].Load() != 0 || got[2].Load() != 1 {
			t.Errorf("the first turn is for who has two: %d, %d", got[1].Load(), got[2].Load())
		}
		l.Give(clientOf(1)) // each has one, and the other waits longer
		l.Give(clientOf(2))
		wants(t, &l, 3, 2)
		if got[1].Load() != 1 || got[2].Load() != 2 {
			t.Errorf("then: %d, %d", got[1].Load(), got[2].Load())
		}
		l.Give(clientOf(1))
		l.Give(clientOf(1))
		wants(t, &l, 3, 0)
	})
}

// A client with many to wait for does not hold up one that comes later with
// one.
func TestInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Line{Most: 1, Waiting: 1000, Patience: time.Hour}
		take(t, &l, clientOf(9))
		for range 100 {
			go take(t, &l, clientOf(1))
		}
		synctest.Wait()
		var got atomic.Bool
		go func() {
			take(t, &l, clientOf(2))
			got.Store(true)
		}()
		synctest.Wait()
		l.Give(clientOf(9))
		synctest.Wait()
		l.Give(clientOf(1))
		synctest.Wait()
		if !got.Load() {
			t.Error("the second turn is not the second client's")
		}
		l.Give(clientOf(2))
		for range 99 {
			synctest.Wait()
			l.Give(clientOf(1))
		}
		wants(t, &l, 0, 0)
		if len(l.clients) > 0 {
			t.Errorf("%d clients are remembered", len(l.clients))
		}
	})
}

// The line has an end, in length and time, and who leaves it does not count.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Line{Most: 1, Waiting: 4, Patience: 10 * time.Second}
		take(t, &l, clientOf(1))
		ctx, cancel := context.WithCancelCause(t.Context())
		left := errors.New("left")
		errs := make(chan error, 10)
		for range 2 {
			go func() { errs <- l.Take(ctx, clientOf(1)) }()
		}
		wants(t, &l, 1, 2)
		if err := l.Take(t.Context(), clientOf(1)); !errors.Is(err, ErrFull) {
			t.Errorf("one client waits for more than half: %v", err)
		}
		go func() { errs <- l.Take(t.Context(), clientOf(2)) }()
		wants(t, &l, 1, 3)
		if err := l.Take(t.Context(), clientOf(2)); !errors.Is(err, ErrFull) {
			t.Errorf("one client waits for the last place: %v", err)
		}
		go func() { errs <- l.Take(t.Context(), clientOf(3)) }()
		wants(t, &l, 1, 4)
		if err := l.Take(t.Context(), clientOf(4)); !errors.Is(err, ErrFull) {
			t.Errorf("a fifth waits: %v", err)
		}
		cancel(left)
		for range 2 {
			if err := <-errs; !errors.Is(err, left) {
				t.Error(err)
			}
		}
		wants(t, &l, 1, 2)
		begun := time.Now()
		for range 2 {
			if err := <-errs; !errors.Is(err, ErrLate) || time.Since(begun) != 10*time.Second {
				t.Errorf("%v after %v", err, time.Since(begun))
			}
		}
		wants(t, &l, 1, 0)
		l.Give(clientOf(1))
		wants(t, &l, 0, 0)
		if len(l.clients) > 0 {
			t.Errorf("%d clients are remembered", len(l.clients))
		}
	})
}

// Whatever happens, no bound is broken, no turn lost and nobody forgotten.
func TestManyTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Line{Most: 7, PerClient: 3, Waiting: 500, Patience: time.Second}
		var running atomic.Int64
		var each [4]atomic.Int64
		var taken atomic.Int64
		var wg sync.WaitGroup
		for i := range 2000 {
			wg.Go(func() {
				of := byte(i % 4)
				time.Sleep(time.Duration(rand.IntN(5000)) * time.Millisecond)
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+rand.IntN(2000))*time.Millisecond)
				defer cancel()
				if l.Take(ctx, clientOf(of)) != nil {
					return
				}
				taken.Add(1)
				if all, mine := running.Add(1), each[of].Add(1); all > 7 || mine > 3 {
					t.Errorf("%d have a turn, %d of one client", all, mine)
				}
				time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
				running.Add(-1)
				each[of].Add(-1)
				l.Give(clientOf(of))
			})
		}
		wg.Wait()
		if l.running != 0 || l.waiting != 0 || len(l.clients) != 0 || taken.Load() < 1000 {
			t.Errorf("in the end: %d running, %d waiting, %d clients, %d had a turn", l.running, l.waiting, len(l.clients), taken.Load())
		}
	})
}
