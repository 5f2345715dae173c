package h2

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"freshet/internal/h1"
)

// Both windows hold for answers of both ways, and changes of SETTINGS count for
// streams that are open.
func TestWindows(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		r := w.begin(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100})
		targets := map[uint32]string{1: "/memory/1000", 3: "/file/0/1000", 5: "/slow/small"}
		check := func(what string, want map[uint32]int) {
			t.Helper()
			synctest.Wait()
			for id, n := range want {
				if len(r.data[id]) != n || r.ended[id] != (n == 1000) {
					t.Errorf("%s: %d bytes of %s, ended %v; want %d", what, len(r.data[id]), targets[id], r.ended[id], n)
				}
			}
		}
		for _, id := range []uint32{1, 3, 5} {
			r.get(id, targets[id])
		}
		check("at first", map[uint32]int{1: 100, 3: 100, 5: 100})
		r.must(r.fr.WriteWindowUpdate(3, 50))
		check("one stream", map[uint32]int{1: 100, 3: 150, 5: 100})
		r.must(r.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 300}))
		check("settings", map[uint32]int{1: 300, 3: 350, 5: 300})
		r.must(r.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))
		r.must(r.fr.WriteWindowUpdate(1, 200)) // the window was 100 less than none
		check("below zero", map[uint32]int{1: 300, 3: 350, 5: 300})
		r.must(r.fr.WriteWindowUpdate(1, 101))
		check("above again", map[uint32]int{1: 301, 3: 350, 5: 300})
		for _, id := range []uint32{1, 3, 5} {
			r.must(r.fr.WriteWindowUpdate(id, 1000))
		}
		check("all", map[uint32]int{1: 1000, 3: 1000, 5: 1000})
		if !bytes.Equal(r.data[1], w.content.Bytes[:1000]) || !bytes.Equal(r.data[3], w.content.Bytes[:1000]) || !bytes.Equal(r.data[5], w.content.Bytes[:1000]) {
			t.Error("a body is wrong")
		}
	})
	bubble(t, func(t *testing.T, w *world) { // that of the connection
		r := w.begin(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
		for id := range uint32(4) {
			r.get(2*id+1, []string{"/memory/50000", "/file/9/50000", "/slow/much", "/memory/50000"}[id])
		}
		synctest.Wait()
		sum := 0
		for _, b := range r.data {
			sum += len(b)
		}
		if sum != defWindow {
			t.Errorf("%d bytes came", sum)
		}
		for range 40 {
			r.must(r.fr.WriteWindowUpdate(0, 1<<17))
			r.must(r.fr.WriteWindowUpdate(5, 1<<17))
			synctest.Wait()
		}
		for id, n := range map[uint32]int{1: 50000, 3: 50000, 5: contentLen, 7: 50000} {
			if len(r.data[id]) != n || !r.ended[id] {
				t.Errorf("%d bytes of stream %d", len(r.data[id]), id)
			}
		}
	})
}

// Streams take turns: a small answer does not wait for a large one, nor one
// large one for another.
func TestFair(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		r := w.begin(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 4 << 20})
		r.get(1, "/file/0/3000000")
		r.get(3, "/memory/3000000")
		synctest.Wait()
		r.must(r.fr.WriteWindowUpdate(0, 1<<20))
		synctest.Wait()
		if a, b := len(r.data[1]), len(r.data[3]); a+b != defWindow+1<<20 || b < a/2 {
			t.Errorf("%d and %d bytes came", a, b)
		}
		r.get(5, "/memory/10")
		r.must(r.fr.WriteWindowUpdate(0, 100_000))
		synctest.Wait()
		if len(r.data[5]) != 10 {
			t.Error("a small answer waits")
		}
	})
}

// What is given up is over at once, and told: the handler of a hit, the
// context of a request.
func TestGivenUp(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		r := w.begin(t)
		r.get(1, "/file/0/1000000")
		r.get(3, "/slow/hold")
		r.get(5, "/slow/much")
		synctest.Wait()
		for _, id := range []uint32{1, 3, 5} {
			r.must(r.fr.WriteRSTStream(id, http2.ErrCodeCancel))
		}
		synctest.Wait()
		if s := <-w.sent; s.bytes != defWindow || !errors.Is(s.err, errReset) {
			t.Errorf("%+v", s)
		}
		for range 2 {
			if err := <-w.gone; !errors.Is(err, errReset) {
				t.Errorf("%v", err)
			}
		}
		r.must(r.fr.WriteWindowUpdate(0, defWindow))
		r.get(7, "/memory/77")
		synctest.Wait()
		if len(r.data[7]) != 77 || r.over() {
			t.Error("the connection is broken")
		}
		if s := <-w.sent; s.bytes != 77 || s.err != nil {
			t.Errorf("%+v", s)
		}
		// The client goes: the same.
		r.get(9, "/file/0/1000000")
		r.get(11, "/slow/hold")
		synctest.Wait()
		_ = r.c.Close()
		synctest.Wait()
		if s := <-w.sent; s.err == nil {
			t.Errorf("%+v", s)
		}
		if err := <-w.gone; err == nil {
			t.Error("no cause")
		}
	})
}

// Bodies that cannot be sent whole never look complete.
func TestNotWhole(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		r := w.begin(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 24})
		r.must(r.fr.WriteWindowUpdate(0, 1<<24))
		for i, target := range []string{"/short", "/slow/abort", "/slow/part"} {
			id := uint32(2*i + 1)
			r.get(id, target)
			synctest.Wait()
			if r.ended[id] || r.resets[id] != http2.ErrCodeInternal {
				t.Errorf("%s: ended %v, %v", target, r.ended[id], r.resets)
			}
		}
		if _, fault := errors.AsType[*h1.FileError]((<-w.sent).err); !fault {
			t.Error("the handler was not told of its file")
		}
		if string(r.data[5]) != string(w.content.Bytes[:1000]) {
			t.Errorf("%d bytes of the part", len(r.data[5]))
		}
	})
}

// When serving ends, clients are told twice: at once, and with the last stream
// that is answered when they have heard it. What was on its way is answered.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, true)
		busy, idle, deaf := w.begin(t), w.begin(t), w.mute(t)
		busy.get(1, "/slow/hold")
		idle.get(1, "/memory/1")
		deaf.write(preface)
		synctest.Wait()
		ended := make(chan error, 1)
		go func() { ended <- w.stop() }()
		synctest.Wait()
		for _, r := range []*raw{busy, idle} {
			if len(r.away) != 1 || r.away[0] != http2.ErrCodeNo || r.over() {
				t.Errorf("told %v", r.away)
			}
		}
		busy.get(3, "/memory/33") // on its way when the client heard
		busy.must(busy.fr.WritePing(true, [8]byte([]byte(leavePing))))
		synctest.Wait()
		busy.get(5, "/memory/55") // too late
		idle.must(idle.fr.WritePing(true, [8]byte([]byte(leavePing))))
		synctest.Wait()
		if !idle.over() || busy.over() || len(busy.data[3]) != 33 || busy.status[5] != "" || len(busy.away) != 2 {
			t.Errorf("idle %v, busy %v, %d bytes, %q, %v", idle.over(), busy.over(), len(busy.data[3]), busy.status[5], busy.away)
		}
		w.hold <- struct{}{}
		synctest.Wait()
		if !busy.over() || busy.status[1] != "200" || !busy.ended[1] {
			t.Errorf("the last answer: %q", busy.status[1])
		}
		_ = deaf.c.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	// Who does not hear is not waited for.
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, true)
		r := w.begin(t)
		r.get(1, "/memory/1")
		synctest.Wait()
		begun := time.Now()
		if err := w.stop(); err != nil || time.Since(begun) > 2*goodbye {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
	})
}

// Interim answers, trailers and Expect pass.
func TestInterim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, true)
		w.server.HTTP = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/expect" {
				body, _ := io.ReadAll(r.Body)
				_, _ = rw.Write(body)
				return
			}
			rw.Header().Set("Link", "</a>; rel=preload")
			rw.WriteHeader(http.StatusEarlyHints)
			rw.Header().Set("Trailer", "Sum")
			_, _ = io.WriteString(rw, strings.Repeat("x", 5000))
			rw.Header().Set("Sum", "5000")
			rw.Header().Set(http.TrailerPrefix+"More", "yes")
		})
		r := w.begin(t)
		r.get(1, "/hints")
		r.header(3, false, ":method: PUT", ":scheme: http", ":authority: h", ":path: /expect", "expect: 100-continue")
		synctest.Wait()
		if r.status[1] != "103 200 " || !r.ended[1] || len(r.data[1]) != 5000 {
			t.Errorf("%q, %d bytes", r.status[1], len(r.data[1]))
		}
		if r.status[3] != "100" {
			t.Errorf("expect: %q", r.status[3])
		}
		r.must(r.fr.WriteData(3, true, []byte("body")))
		synctest.Wait()
		if r.status[3] != "100 200" || string(r.data[3]) != "body" {
			t.Errorf("expect: %q %q", r.status[3], r.data[3])
		}
		if err := w.stop(); err != nil {
			t.Error(err)
		}
	})
}

// A read of a body that does not come ends with its request.
func TestBodyReadAfterTheAnswer(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		r := w.begin(t)
		r.header(1, false, ":method: POST", ":scheme: http", ":authority: h", ":path: /slow/leave")
		time.Sleep(2 * time.Second) // the answer is there
		synctest.Wait()
		select {
		case err := <-w.gone:
			if err == nil {
				t.Error("something was read")
			}
		default:
			t.Error("it waits still")
			_ = r.c.Close()
		}
	})
}
