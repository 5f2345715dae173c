package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// at is a request for a path.
func at(path string) Request { return Request{Method: "GET", URI: path, Header: http.Header{}} }

// owned returns n paths whose first origin is o.
func owned(g *Group, o *Origin, n int) []string {
	var paths []string
	for i := 0; len(paths) < n; i++ {
		path := fmt.Sprintf("/own/%d", i)
		if g.order(new(at(path)), time.Now())[0].o == o {
			paths = append(paths, path)
		}
	}
	return paths
}

// broken answers like bad for the paths, and 200 for others.
func broken(bad func(*http.Request) (*http.Response, error), paths ...string) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		if slices.Contains(paths, r.URL.Path) {
			return bad(r)
		}
		return status(200)(r)
	}
}

func cutBody(r *http.Request) (*http.Response, error) {
	resp, err := status(200)(r)
	resp.Body = &endless{}
	return resp, err
}

// endless breaks at its first read.
type endless struct{}

func (*endless) Read([]byte) (int, error) { return 0, &Error{ShortBody, errors.New("cut")} }
func (*endless) Close() error             { return nil }

// silent takes the request and never answers.
func silent(r *http.Request) (*http.Response, error) {
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil {
		trace.GotConn(httptrace.GotConnInfo{})
	}
	<-r.Context().Done()
	return nil, context.Cause(r.Context())
}

// One URL that fails, however often it is asked for and with whatever query,
// says nothing of the origin.
func TestOneBrokenURL(t *testing.T) {
	for name, bad := range map[string]func(*http.Request) (*http.Response, error){
		"500": status(500), "503": status(503), "504": status(504), "silent": silent, "cut": cutBody,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, fakes := group(2)
				paths := owned(g, fakes[0].Origin, 2)
				fakes[0].answer = broken(bad, paths[0])
				for i := range 200 {
					resp, err := g.Do(t.Context(), at(fmt.Sprintf("%s?%d", paths[0], i)))
					if err == nil {
						_, _ = resp.Body.Read(make([]byte, 1))
						_ = resp.Body.Close()
					}
					if !fakes[0].Healthy() {
						t.Fatalf("left alone after %d answers to one URL", i+1)
					}
				}
				if who, err := ask(t, g, at(paths[1])); who != fakes[0].Name() || err != nil {
					t.Errorf("another of its files is had from %s, %v", who, err)
				}
			})
		})
	}
}

// Failures in a row of several URLs eject, the sooner the more they speak of the
// origin; good answers between them tell that it is well.
func TestFailuresInARow(t *testing.T) {
	for _, c := range []struct {
		name string
		bad  func(*http.Request) (*http.Response, error)
		need int
	}{
		{"refused", refuse, 3},
		{"502", status(502), 3},
		{"503", status(503), 3},
		{"504", status(504), 3},
		{"500", status(500), 5},
		{"507", status(507), 5},
		{"501", status(501), 0},
		{"silent", silent, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, fakes := group(2)
				sick := fakes[0]
				paths := owned(g, sick.Origin, 20)
				sick.answer = c.bad
				for i, path := range paths {
					if sick.Healthy() == (c.need > 0 && i >= c.need) {
						t.Fatalf("healthy: %v after %d failures in a row", sick.Healthy(), i)
					}
					_, _ = ask(t, g, at(path))
				}
			})
			synctest.Test(t, func(t *testing.T) {
				g, fakes := group(2)
				sick := fakes[0]
				paths := owned(g, sick.Origin, 8)
				sick.answer = broken(c.bad, paths[:4]...)
				for i := range 100 {
					_, _ = ask(t, g, at(paths[i%4]))
					_, _ = ask(t, g, at(paths[4+i%4]))
					if !sick.Healthy() {
						t.Fatalf("left alone for 4 broken URLs of 8, after %d rounds", i)
					}
				}
			})
		})
	}
}

// An origin that answers now and then, and fails for most of what it is asked
// for, is left alone too, and longer the sooner it fails again.
func TestFailuresAmongAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, fakes := group(2)
		sick := fakes[0]
		n := 0
		sick.answer = func(r *http.Request) (*http.Response, error) {
			if n++; n%2 == 0 {
				return status(500)(r)
			}
			return status(200)(r)
		}
		paths := owned(g, sick.Origin, 2000)
		begun, away := time.Now(), time.Duration(0)
		for _, path := range paths {
			_, _ = ask(t, g, at(path))
			time.Sleep(100 * time.Millisecond)
			if !sick.Healthy() {
				away += 100 * time.Millisecond
			}
		}
		if all := time.Since(begun); away < all/2 {
			t.Errorf("left alone for %v of %v in which every second answer was a failure", away, all)
		}
		sick.answer = status(200)
		time.Sleep(2 * ejectMax) // which varies
		for _, path := range paths[:2] {
			_, _ = ask(t, g, at(path))
		}
		if !sick.Healthy() {
			t.Error("not back when it answers")
		}
		// One in ten is no reason.
		n = 0
		sick.answer = func(r *http.Request) (*http.Response, error) {
			if n++; n%10 == 0 {
				return status(503)(r)
			}
			return status(200)(r)
		}
		for _, path := range paths {
			if _, _ = ask(t, g, at(path)); !sick.Healthy() {
				t.Fatal("left alone for one failure in ten")
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
}

// What was under way when the origin was ejected says nothing of now.
func TestLateAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, fakes := group(2)
		sick := fakes[0]
		paths := owned(g, sick.Origin, 5)
		sick.set(after(time.Second, status(200)))
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = ask(t, g, at(paths[0]))
		}()
		time.Sleep(time.Millisecond)
		sick.set(refuse)
		for _, path := range paths[1:4] {
			_, _ = ask(t, g, at(path))
		}
		<-done
		if sick.Healthy() {
			t.Error("an answer to an earlier request brings it back")
		}
	})
}

// A trial with a URL that was broken before proves little: the origin is not
// left alone for longer, and the next trial may be with another one.
func TestTrialWithBrokenURL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, fakes := group(2)
		sick := fakes[0]
		paths := owned(g, sick.Origin, 4)
		sick.answer = broken(status(503), paths[:3]...)
		for _, path := range paths[:3] {
			_, _ = ask(t, g, at(path))
		}
		if sick.Healthy() {
			t.Fatal("not ejected")
		}
		for range 3000 {
			_, _ = ask(t, g, at(paths[0]))
			time.Sleep(time.Second)
		}
		time.Sleep(ejectFor * 2)
		if who, _ := ask(t, g, at(paths[3])); who != sick.Name() || !sick.Healthy() {
			t.Errorf("asked %s, healthy: %v", who, sick.Healthy())
		}
	})
}

// What is remembered of failures is bounded.
func TestEvidenceIsBounded(t *testing.T) {
	var h health
	now := time.Now()
	for i := range uint64(10 * maxPaths) {
		for range 2 {
			h.succeeded(now, now)
		}
		h.failed(now, now, failure{path: i, points: pointsWeak})
	}
	if n := len(h.recent.paths); n != maxPaths || h.ejected() {
		t.Errorf("%d paths, ejected: %v", n, h.ejected())
	}
}
