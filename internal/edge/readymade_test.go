package edge

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/h1"
)

const readymadeRequest = "GET /files/a.rpm HTTP/1.1\r\nHost: files.example.org\r\n\r\n"

func readymadeOrigin(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "max-age=86400")
	w.Header().Set("Cache-Status", "other; hit")
	_, _ = io.WriteString(w, pattern(4800)) // no type: one is added
}

// An answer that was put together before is the one that net/http sends, however
// old it is by then.
func TestReadymadeAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwoWays(t, Config{}, readymadeOrigin)
		w.ask("plain", readymadeRequest)
		w.ask("plain", readymadeRequest)
		for i := range 4 * readyAfter {
			if !w.same(readymadeRequest) {
				t.Errorf("request %d was no hit", i)
			}
			time.Sleep(700 * time.Millisecond)
		}
		time.Sleep(2 * time.Hour)
		if !w.same(readymadeRequest) {
			t.Error("no hit hours later")
		}
	})
}

// It is for one connection at a time, and for requests of all of it by HTTP/1.1.
func TestReadymadeIsLent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwoWays(t, Config{}, readymadeOrigin)
		w.ask("plain", readymadeRequest)
		w.ask("plain", readymadeRequest)
		f := &front{e: w.e, access: w.e.newAccess(), hots: newHots()}
		answer := func(change func(*h1.Request, *h1.Response)) (*h1.Request, *h1.Response) {
			req := &h1.Request{Clear: true, Target: []byte("/files/a.rpm"), Host: []byte("files.example.org"), Begun: time.Now()}
			res := new(h1.Response)
			change(req, res)
			if !f.Answer(req, res) {
				t.Fatal("no hit")
			}
			return req, res
		}
		usual := func(*h1.Request, *h1.Response) {}
		done := func(req *h1.Request, res *h1.Response) { f.Sent(req, res, int64(len(res.Body)), nil) }
		for range readyAfter - 1 {
			req, res := answer(usual)
			if res.Whole != nil {
				t.Fatal("put together for what is asked for seldom")
			}
			done(req, res)
		}
		req, first := answer(usual)
		_, second := answer(usual)
		if first.Whole == nil || second.Whole != nil {
			t.Fatalf("one is %d bytes, the other %d", len(first.Whole), len(second.Whole))
		}
		head, body, _ := strings.Cut(string(first.Whole), "\r\n\r\n")
		if want := string(second.Body); body != want || string(first.Body) != want {
			t.Errorf("the bodies have %d and %d bytes, want %d", len(body), len(first.Body), len(want))
		}
		if n := len(strings.Split(head, "\r\n")); n != strings.Count(string(second.Head), "\r\n") {
			t.Errorf("%q has other fields than %q", head, second.Head)
		}
		h := first.Tag.(*hot)
		if takes := int64(len(h.h1.whole) + len(h.h2.whole) + len(h.body) + len(h.ready.b)); h.weight < takes {
			t.Errorf("what takes %d bytes is thought to take %d", takes, h.weight)
		}
		done(req, first)
		for name, change := range map[string]func(*h1.Request, *h1.Response){
			"HEAD":    func(req *h1.Request, _ *h1.Response) { req.Head = true },
			"HTTP/2":  func(req *h1.Request, _ *h1.Response) { req.H2 = true },
			"TLS":     func(req *h1.Request, _ *h1.Response) { req.Clear = false },
			"closing": func(_ *h1.Request, res *h1.Response) { res.Closing = true },
			"range": func(req *h1.Request, _ *h1.Response) {
				req.Fields = []h1.Field{{Name: []byte("Range"), Value: []byte("bytes=0-1")}}
			},
		} {
			if _, res := answer(change); res.Whole != nil {
				t.Errorf("%s: it is lent", name)
			}
		}
		time.Sleep(90 * time.Second)
		req, third := answer(usual)
		if third.Whole == nil || !strings.Contains(string(third.Whole), "\r\nAge: 90\r\n") {
			t.Errorf("it is not given back, or as old as it was: %.200q", third.Whole)
		}
		done(req, third)
	})
}
