package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// fake is an origin without a network.
type fake struct {
	*Origin
	asked  atomic.Int64
	mu     sync.Mutex
	answer func(*http.Request) (*http.Response, error)
}

// RoundTrip implements [http.RoundTripper].
func (f *fake) RoundTrip(r *http.Request) (*http.Response, error) {
	f.asked.Add(1)
	f.mu.Lock()
	answer := f.answer
	f.mu.Unlock()
	return answer(r)
}

func (f *fake) set(answer func(*http.Request) (*http.Response, error)) {
	f.mu.Lock()
	f.answer = answer
	f.mu.Unlock()
}

func status(code int) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: code, Body: io.NopCloser(strings.NewReader(r.URL.Host)), ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}}, nil
	}
}

func after(d time.Duration, next func(*http.Request) (*http.Response, error)) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		select {
		case <-time.After(d):
			return next(r)
		case <-r.Context().Done():
			return nil, context.Cause(r.Context())
		}
	}
}

func refuse(*http.Request) (*http.Response, error) {
	return nil, &Error{Refused, errors.New("refused")}
}

// group returns n origins "o0", "o1"… that answer 200 with their name.
func group(n int) (*Group, []*fake) {
	g, fakes := new(Group), make([]*fake, n)
	for i := range fakes {
		f := &fake{answer: status(200)}
		f.Origin = &Origin{Base: &url.URL{Scheme: "http", Host: fmt.Sprintf("o%d", i)}, HTTP: f, FirstByte: 15 * time.Second}
		fakes[i] = f
		g.Origins = append(g.Origins, f.Origin)
	}
	return g, fakes
}

func get(i int) Request {
	return Request{Method: "GET", URI: fmt.Sprintf("/%d", i), Header: http.Header{}}
}

func ask(t *testing.T, g *Group, r Request) (who string, err error) {
	t.Helper()
	tr := new(Trace)
	r.Trace = tr
	resp, err := g.Do(t.Context(), r)
	if err != nil {
		return tr.Origin, err
	}
	body, err := io.ReadAll(resp.Body)
	if cerr := resp.Body.Close(); err != nil || cerr != nil {
		t.Error(err, cerr)
	}
	if string(body) != tr.Origin {
		t.Errorf("%s answered, the trace says %s", body, tr.Origin)
	}
	if resp.StatusCode != 200 {
		err = fmt.Errorf("status %d", resp.StatusCode)
	}
	return tr.Origin, err
}

// Keys spread by weight, stay where they are, and when one origin is gone only
// its own move.
func TestRendezvous(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, fakes := group(4)
		fakes[3].Weight = 2
		const keys = 5000
		first := make([]string, keys)
		count := make(map[string]int)
		for i := range keys {
			first[i], _ = ask(t, g, get(i))
			count[first[i]]++
		}
		for i, share := range []int{1000, 1000, 1000, 2000} {
			if n := count[fmt.Sprintf("o%d", i)]; n < share*9/10 || n > share*11/10 {
				t.Errorf("o%d has %d keys, want about %d", i, n, share)
			}
		}
		fakes[1].answer = refuse
		for i := range keys {
			who, err := ask(t, g, get(i))
			if err != nil || who == "o1" || first[i] != "o1" && who != first[i] {
				t.Fatalf("key %d moved from %s to %s, %v", i, first[i], who, err)
			}
		}
	})
}

// What one origin has too much of goes to the next.
func TestBoundedLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, fakes := group(4)
		release := make(chan struct{})
		for _, f := range fakes {
			f.answer = func(r *http.Request) (*http.Response, error) {
				<-release
				return status(200)(r)
			}
		}
		var wg sync.WaitGroup
		for range 80 {
			wg.Go(func() { _, _ = ask(t, g, get(7)) }) // all for one key
			synctest.Wait()
		}
		for i, f := range fakes {
			if n := f.InFlight(); n > 26 { // 1.25 of 20, rounded up
				t.Errorf("o%d has %d of 80 requests in flight", i, n)
			}
		}
		close(release)
		wg.Wait()
		for i, f := range fakes {
			if n := f.InFlight(); n != 0 {
				t.Errorf("o%d: %d in flight in the end", i, n)
			}
		}
	})
}

// What belongs together comes from one origin, whatever it has to do.
func TestSteady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, fakes := group(4)
		release := make(chan struct{})
		for _, f := range fakes {
			f.answer = func(r *http.Request) (*http.Response, error) {
				<-release
				return status(200)(r)
			}
		}
		var wg sync.WaitGroup
		for range 20 {
			r := get(7)
			r.Steady = true
			wg.Go(func() { _, _ = ask(t, g, r) })
			synctest.Wait()
		}
		if !slices.ContainsFunc(fakes, func(f *fake) bool { return f.InFlight() == 20 }) {
			t.Error("they are spread")
		}
		close(release)
		wg.Wait()
	})
}

func TestNextOrigin(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(*http.Request) (*http.Response, error)
		r      Request
		keep   bool
		moves  bool
	}{
		{name: "refused", answer: refuse, r: get(1), moves: true},
		{name: "503", answer: status(503), r: get(1), moves: true},
		{name: "503 kept", answer: status(503), r: get(1), keep: true},
		{name: "501", answer: status(501), r: get(1)},
		{name: "hangs", answer: after(time.Hour, status(200)), r: get(1), moves: true},
		{name: "post", answer: refuse, r: Request{Method: "POST", URI: "/1", Header: http.Header{}}},
		{name: "get with a body", answer: refuse, r: Request{Method: "GET", URI: "/1", Header: http.Header{}, Body: http.NoBody, ContentLength: -1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, fakes := group(3)
				g.KeepStatus = c.keep
				first, _ := ask(t, g, get(1))
				for _, f := range fakes {
					if f.Name() == first {
						f.answer = c.answer
					}
				}
				begun := time.Now()
				who, err := ask(t, g, c.r)
				if c.moves != (err == nil) || c.moves == (who == first) {
					t.Errorf("%s answered, %v", who, err)
				}
				if took := time.Since(begun); took > 15*time.Second {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

// One more try, not all of them; what the first said is what counts then.
func TestOneMoreTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, fakes := group(4)
		for _, f := range fakes {
			f.answer = status(503)
		}
		tr := new(Trace)
		r := get(1)
		r.Trace = tr
		resp, err := g.Do(t.Context(), r)
		if err != nil || resp.StatusCode != 503 || tr.Tries != 2 {
			t.Fatalf("%v, %v, %d tries", resp, err, tr.Tries)
		}
		body, _ := io.ReadAll(resp.Body)
		if _ = resp.Body.Close(); string(body) != tr.Origin {
			t.Errorf("answer of %s, trace of %s", body, tr.Origin)
		}
		fakes[slices.IndexFunc(fakes, func(f *fake) bool { return f.Name() != tr.Origin })].answer = refuse
	})
}

// Three failures in a row eject; then one request at a time tries again; when
// nobody is well, the least bad is asked all the same.
func TestEjection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, fakes := group(2)
		sick := fakes[0]
		sick.answer = refuse
		mine := 0 // a key of the sick one
		for g.order(new(get(mine)), time.Now())[0].o != sick.Origin {
			mine++
		}
		for range 50 {
			if _, err := ask(t, g, get(mine)); err != nil {
				t.Fatal(err)
			}
		}
		if n := sick.asked.Load(); n != 3 || sick.Healthy() {
			t.Errorf("asked %d times before it was ejected, healthy: %v", n, sick.Healthy())
		}
		// Each second one request for an hour: tries become rare.
		for range 3600 {
			time.Sleep(time.Second)
			if _, err := ask(t, g, get(mine)); err != nil {
				t.Fatal(err)
			}
		}
		if n := sick.asked.Load(); n < 50 || n > 120 {
			t.Errorf("tried %d times in an hour", n)
		}
		// While one request tries, the others go elsewhere.
		sick.answer = after(5*time.Second, status(200))
		time.Sleep(2 * time.Minute)
		before := sick.asked.Load()
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { _, _ = ask(t, g, get(mine)) })
			synctest.Wait()
		}
		if n := sick.asked.Load() - before; n != 1 {
			t.Errorf("%d requests try at once", n)
		}
		wg.Wait()
		if !sick.Healthy() {
			t.Error("not back after it answered")
		}
		if who, _ := ask(t, g, get(mine)); who != sick.Name() {
			t.Error("its keys do not come back")
		}
		// Both gone: asked all the same, and found when they are back.
		for _, f := range fakes {
			f.answer = refuse
		}
		for range 20 {
			_, _ = ask(t, g, get(mine))
		}
		sick.answer = status(200)
		if _, err := ask(t, g, get(mine)); err != nil {
			t.Errorf("with one back: %v", err)
		}
	})
}

func TestRoles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, fakes := group(3)
		fakes[0].Role, fakes[1].Role = Shield, LastResort
		if g.Main() != fakes[1].Origin || !g.HasShield() {
			t.Error("wrong main origin, or no shield")
		}
		for i := range 100 {
			if who, _ := ask(t, g, get(i)); who == "o1" {
				t.Error("the last resort is asked")
			}
			r := get(i)
			r.Direct = true
			if who, _ := ask(t, g, r); who != "o2" {
				t.Errorf("a shield's request goes to %s", who)
			}
			r = get(i)
			r.Avoid = []string{"o0", "o2"}
			if who, _ := ask(t, g, r); who != "o1" {
				t.Errorf("%s is asked although it is to be avoided", who)
			}
		}
		fakes[0].answer, fakes[2].answer = refuse, refuse
		for i := range 10 {
			_, _ = ask(t, g, get(i))
		}
		if who, err := ask(t, g, get(1)); who != "o1" || err != nil {
			t.Errorf("without the others: %s, %v", who, err)
		}
	})
}

// A slow answer is overtaken by another origin's, within a budget, and the
// slower request is given up.
func TestHedge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, fakes := group(2)
		why := make(map[string]int)
		var mu sync.Mutex
		g.second = func(s string) { mu.Lock(); why[s]++; mu.Unlock() }
		for _, f := range fakes {
			f.answer = after(20*time.Millisecond, status(200))
		}
		hedged := func(i int) (string, time.Duration) {
			r := get(i)
			r.Hedge = true
			begun := time.Now()
			who, err := ask(t, g, r)
			if err != nil {
				t.Error(err)
			}
			return who, time.Since(begun)
		}
		for i := range 400 {
			hedged(i)
		}
		if why["slow"] != 0 {
			t.Errorf("%d hedges of normal answers", why["slow"])
		}
		slow := g.order(new(get(1)), time.Now())[0].o
		for _, f := range fakes {
			if f.Origin == slow {
				f.answer = after(5*time.Second, status(200))
			}
		}
		if who, took := hedged(1); who == slow.Name() || took > 50*time.Millisecond {
			t.Errorf("%s answered after %v", who, took)
		}
		synctest.Wait()
		if n := slow.InFlight(); n != 0 {
			t.Errorf("%d requests go on in vain", n)
		}
		if !slow.Healthy() || why["slow_won"] != 1 {
			t.Errorf("healthy: %v, %v", slow.Healthy(), why)
		}
		for range 1000 {
			hedged(1)
		}
		if n := why["slow"]; n < 10 || n > 1401/hedgePrice {
			t.Errorf("%d hedges of 1401 requests", n)
		}
	})
}

// The first to answer wins, also if it was asked last, and a failure does not.
func TestHedgeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, fakes := group(2)
		g.HedgeAfter = 100 * time.Millisecond
		first := g.order(new(get(1)), time.Now())[0].o
		for _, f := range fakes {
			if f.Origin == first {
				f.answer = after(time.Second, status(200))
			} else {
				f.answer = status(503)
			}
		}
		r := get(1)
		r.Hedge = true
		g.credit.Store(hedgePrice)
		begun := time.Now()
		if who, err := ask(t, g, r); who != first.Name() || err != nil || time.Since(begun) != time.Second {
			t.Errorf("%s, %v after %v", who, err, time.Since(begun))
		}
	})
}

func TestProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, fakes := group(2)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { g.Probe(ctx, "/config", 10*time.Second) })
		time.Sleep(time.Minute)
		if !fakes[0].Healthy() || fakes[0].asked.Load() < 4 {
			t.Errorf("healthy: %v after %d probes", fakes[0].Healthy(), fakes[0].asked.Load())
		}
		fakes[0].set(status(404))
		time.Sleep(time.Minute)
		if fakes[0].Healthy() || !fakes[1].Healthy() {
			t.Error("a failing probe does not eject, or ejects another one")
		}
		fakes[0].set(status(200))
		time.Sleep(15 * time.Second)
		if !fakes[0].Healthy() {
			t.Error("a good probe does not bring it back")
		}
		cancel()
		wg.Wait()
	})
}
