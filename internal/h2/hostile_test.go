package h2

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"freshet/internal/h1"
)

// Floods end the connection, with the reason, after a bounded number of frames.
func TestFloods(t *testing.T) {
	header := []string{":method: GET", ":scheme: http", ":authority: h", ":path: /slow/hold"}
	for name, c := range map[string]struct {
		why   h1.Rejection
		most  int // frames until then
		flood func(r *raw, i int) error
	}{
		"rapid reset": {RejectResets, resetBurst + 1, func(r *raw, i int) error {
			id := uint32(2*i + 1)
			if err := r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: r.fields(header...), EndStream: true, EndHeaders: true}); err != nil {
				return err
			}
			return r.fr.WriteRSTStream(id, http2.ErrCodeCancel)
		}},
		"rapid reset of hits": {RejectResets, resetBurst + 1, func(r *raw, i int) error {
			id := uint32(2*i + 1)
			h := append(slices.Clone(header[:3]), ":path: /memory/100")
			if err := r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: r.fields(h...), EndStream: true, EndHeaders: true}); err != nil {
				return err
			}
			return r.fr.WriteRSTStream(id, http2.ErrCodeCancel)
		}},
		"resets that we are made to send": {RejectResets, resetBurst + 1, func(r *raw, i int) error {
			id := uint32(2*i + 1)
			if err := r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: r.fields(header...), EndStream: true, EndHeaders: true}); err != nil {
				return err
			}
			return r.fr.WriteWindowUpdate(id, 0)
		}},
		"malformed requests": {RejectResets, resetBurst + 1, func(r *raw, i int) error {
			return r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: r.fields("Upper: x"), EndStream: true, EndHeaders: true})
		}},
		"ping": {RejectFrames, frameBurst + 1, func(r *raw, _ int) error { return r.fr.WritePing(false, [8]byte{}) }},
		"settings": {RejectFrames, frameBurst/settingsCost + 1, func(r *raw, _ int) error {
			return r.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
		}},
		"settings ack":  {RejectFrames, frameBurst + 1, func(r *raw, _ int) error { return r.fr.WriteSettingsAck() }},
		"window update": {RejectFrames, frameBurst + 1, func(r *raw, _ int) error { return r.fr.WriteWindowUpdate(0, 1) }},
		"priority": {RejectFrames, frameBurst + 1, func(r *raw, i int) error {
			return r.fr.WritePriority(uint32(2*i+1), http2.PriorityParam{Weight: 1})
		}},
		"unknown frames": {RejectFrames, frameBurst + 1, func(r *raw, _ int) error { return r.fr.WriteRawFrame(99, 0, 0, nil) }},
		"long settings": {RejectFrames, 2, func(r *raw, _ int) error {
			return r.fr.WriteSettings(slices.Repeat([]http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 1}}, maxFrame/6)...)
		}},
		"data for nobody": {RejectFrames, 2*frameBurst + 40, func(r *raw, i int) error {
			switch {
			case i == 0:
				r.header(1, false, ":method: POST", ":scheme: http", ":authority: h", ":path: /slow/small")
				synctest.Wait()
				return nil
			case i == 1: // it is answered, and its stream reset
				return r.fr.WriteData(1, false, []byte("x"))
			case i%2 == 0:
				return r.fr.WritePing(false, [8]byte{})
			}
			return r.fr.WriteData(1, false, []byte("x"))
		}},
		"empty data": {RejectFrames, frameBurst + 20, func(r *raw, i int) error {
			if i == 0 {
				return r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.fields(":method: POST", ":scheme: http", ":authority: h", ":path: /x"), EndHeaders: true})
			}
			return r.fr.WriteData(1, false, nil)
		}},
		"continuation": {RejectContinuation, maxContinuations + 2, func(r *raw, i int) error {
			if i == 0 {
				return r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.fields(header...)})
			}
			return r.fr.WriteContinuation(1, false, nil)
		}},
		"long header": {RejectContinuation, 5, func(r *raw, i int) error {
			b := []byte(strings.Repeat("\x00\x01a\x01b", maxFrame/5))
			if i == 0 {
				return r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b})
			}
			return r.fr.WriteContinuation(1, false, b)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				r := w.begin(t)
				n := 0
				for ; n < 3*c.most; n++ {
					if c.flood(r, n) != nil {
						break
					}
				}
				code := http2.ErrCodeEnhanceYourCalm
				r.wantAway(w, code, c.why)
				if n > c.most+1 { // the last one may be on its way
					t.Errorf("%d frames were taken, want at most %d", n, c.most)
				}
			})
		})
	}
}

// What breaks the framing ends the connection; h2spec looks closer.
func TestBroken(t *testing.T) {
	for name, c := range map[string]struct {
		code http2.ErrCode
		why  h1.Rejection
		send func(r *raw)
	}{
		"frame too long": {http2.ErrCodeFrameSize, RejectProtocol, func(r *raw) { _ = r.fr.WriteData(1, false, make([]byte, maxFrame+1)) }},
		"hpack": {http2.ErrCodeCompression, RejectCompression, func(r *raw) {
			r.must(r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, EndHeaders: true}))
		}},
		"table too large": {http2.ErrCodeCompression, RejectCompression, func(r *raw) {
			r.must(r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x3f, 0xe2, 0xff, 0x03}, EndHeaders: true}))
		}},
		"push":        {http2.ErrCodeProtocol, RejectProtocol, func(r *raw) { r.must(r.fr.WriteRawFrame(http2.FramePushPromise, 0, 1, make([]byte, 8))) }},
		"even stream": {http2.ErrCodeProtocol, RejectProtocol, func(r *raw) { r.get(2, "/memory/1") }},
		"window":      {http2.ErrCodeFlowControl, RejectProtocol, func(r *raw) { r.must(r.fr.WriteWindowUpdate(0, 1<<31-1)) }},
		"too much data": {http2.ErrCodeFlowControl, RejectProtocol, func(r *raw) {
			for id := uint32(1); ; id += 2 {
				if r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: r.fields(":method: POST", ":scheme: http", ":authority: h", ":path: /slow/hold"), EndHeaders: true}) != nil {
					return
				}
				for range 3 {
					if r.fr.WriteData(id, false, make([]byte, maxFrame)) != nil {
						return
					}
				}
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				r := w.begin(t)
				c.send(r)
				r.wantAway(w, c.code, c.why)
			})
		})
	}
	bubble(t, func(t *testing.T, w *world) {
		r := w.dial(t)
		r.write("GET / HTTP/1.1\r\n\r\n")
		r.wantAway(w, http2.ErrCodeProtocol, RejectProtocol)
	})
}

// Requests that are none are reset, one by one; the others on the connection
// are answered.
func TestMalformed(t *testing.T) {
	good := []string{":method: GET", ":scheme: https", ":authority: h", ":path: /memory/3"}
	with := func(more ...string) []string { return append(slices.Clone(good), more...) }
	bubble(t, func(t *testing.T, w *world) {
		var told []h1.Refused
		w.server.Refused = func(r *h1.Refused) { told = append(told, *r) }
		r := w.begin(t)
		id := uint32(1)
		bad := [][]string{
			{},
			good[1:], good[:3],
			{good[0], good[1], good[2], ":path: x"},
			with(":path: /"), with("a: b", ":path: /"),
			{":method: GET", ":scheme: file", ":authority: h", ":path: /"},
			with(":protocol: x"), with(":status: 200"),
			{":method: G T", ":scheme: http", ":authority: h", ":path: /"},
			{":method: GET", ":scheme: http", ":authority: h", ":path: /a\r\nb"},
			with("A: b"), with("a b: c"), with("a: b\r\nc"), with("a: \x00"), with("a:  b"), with("a: b "), with("a\x00: b"),
			with("connection: close"), with("keep-alive: 1"), with("proxy-connection: x"), with("transfer-encoding: chunked"), with("upgrade: h2c"),
			with("te: gzip"), with("host: other"), with("content-length: 1"), with("content-length: x"), with("content-length: +0"),
			with("content-length: 0", "content-length: 1"),
			{":method: GET", ":scheme: http", ":authority: h i", ":path: /"},
			{":method: CONNECT", ":scheme: http", ":authority: h", ":path: /"},
		}
		for _, fields := range bad {
			r.header(id, true, fields...)
			synctest.Wait()
			if code, ok := r.resets[id]; !ok || code != http2.ErrCodeProtocol {
				t.Errorf("%q was not reset: %v %v, status %q", fields, code, ok, r.status[id])
			}
			if r.status[id] != "400" || len(told) != 1 || told[0].Why != RejectMalformed || told[0].Status != 400 {
				t.Errorf("%q was answered %q, and told %+v", fields, r.status[id], told)
			}
			told = nil
			id += 2
		}
		if n := w.rejections(RejectMalformed); n != float64(len(bad)) {
			t.Errorf("%v were counted of %d", n, len(bad))
		}
		for _, fields := range [][]string{good, with("host: h"), with("te: trailers"), with("cookie: a=b", "cookie: c=d"), with("x: \xc3\xa4"), with("content-length: 0")} {
			r.header(id, true, fields...)
			synctest.Wait()
			if r.status[id] != "200" || !r.ended[id] {
				t.Errorf("%q: %q", fields, r.status[id])
			}
			id += 2
		}
		// A header of more than 32 kB, though it is short as it was sent.
		big := "x: " + strings.Repeat("a", 3000)
		r.header(id, true, with(big, big, big, big, big, big, big, big, big, big, big, big)...)
		synctest.Wait()
		if r.status[id] != "431" || !r.ended[id] || w.rejections(RejectHeaderSize) != 1 {
			t.Errorf("a long header: %q", r.status[id])
		}
		r.get(id+2, "/memory/5") // and the table is still what it should be
		synctest.Wait()
		if string(r.data[id+2]) != string(w.content.Bytes[:5]) {
			t.Errorf("got %q", r.data[id+2])
		}
		// Bodies of another length than announced.
		for _, c := range []struct{ announced, sent int }{{3, 4}, {5, 4}} {
			id += 4
			r.header(id, false, ":method: POST", ":scheme: http", ":authority: h", ":path: /x", fmt.Sprintf("content-length: %d", c.announced))
			r.must(r.fr.WriteData(id, true, make([]byte, c.sent)))
			synctest.Wait()
			if r.resets[id] != http2.ErrCodeProtocol {
				t.Errorf("%v: %v", c, r.resets)
			}
			if err := <-w.gone; !errors.Is(err, errRefused) {
				t.Errorf("the handler read %v", err)
			}
		}
	})
}

// More requests than allowed are refused, also when those before were given up
// and their handlers have not ended.
func TestTooManyStreams(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		r := w.begin(t)
		for i := range maxStreams + 10 {
			r.get(uint32(2*i+1), "/slow/hold")
		}
		synctest.Wait()
		if len(r.resets) != 10 || w.slow.Load() != maxStreams || w.rejections(RejectStreams) != 10 {
			t.Errorf("%d were refused, %d run", len(r.resets), w.slow.Load())
		}
		for range maxStreams {
			w.hold <- struct{}{}
		}
		synctest.Wait()
		r.get(1001, "/slow/hold")
		synctest.Wait()
		if len(r.ended) != maxStreams || r.over() {
			t.Errorf("%d have ended", len(r.ended))
		}
		w.hold <- struct{}{}
	})
}

// Clients that stop in the middle, or never begin, or do not take their
// answers, are cut in time.
func TestSlow(t *testing.T) {
	for name, c := range map[string]struct {
		why   h1.Rejection
		after time.Duration
		do    func(t *testing.T, w *world) *raw
	}{
		"silent":       {h1.RejectHeaderTime, testHeader, func(t *testing.T, w *world) *raw { return w.dial(t) }},
		"half preface": {h1.RejectHeaderTime, testHeader, func(t *testing.T, w *world) *raw { r := w.dial(t); r.write(preface[:10]); return r }},
		"no settings":  {h1.RejectHeaderTime, testHeader, func(t *testing.T, w *world) *raw { r := w.dial(t); r.write(preface); return r }},
		"half a frame": {h1.RejectHeaderTime, testHeader, func(t *testing.T, w *world) *raw {
			r := w.begin(t)
			r.write("\x00\x00\x10\x01\x05\x00\x00\x00\x01abc")
			return r
		}},
		"half a header": {h1.RejectHeaderTime, testHeader, func(t *testing.T, w *world) *raw {
			r := w.begin(t)
			r.must(r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}, EndStream: true}))
			return r
		}},
		"no window": {h1.RejectSlow, testStall, func(t *testing.T, w *world) *raw {
			r := w.begin(t)
			r.get(1, "/memory/1000000")
			return r
		}},
		"no window for net/http": {h1.RejectSlow, testStall, func(t *testing.T, w *world) *raw {
			r := w.begin(t)
			r.get(1, "/slow/much")
			return r
		}},
		"drop by drop": {h1.RejectSlow, testStall, func(t *testing.T, w *world) *raw {
			r := w.begin(t)
			r.get(1, "/memory/1000000")
			go func() {
				for r.fr.WriteWindowUpdate(0, 50) == nil && r.fr.WriteWindowUpdate(1, 50) == nil {
					time.Sleep(time.Second)
				}
			}()
			return r
		}},
		"does not read": {h1.RejectSlow, testStall, func(t *testing.T, w *world) *raw {
			r := w.mute(t)
			r.write(preface)
			r.must(r.fr.WriteSettings())
			return r
		}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				r := c.do(t, w)
				time.Sleep(c.after - time.Second)
				synctest.Wait()
				if n := w.rejections(c.why); n != 0 {
					t.Errorf("cut too early")
				}
				time.Sleep(c.after + 2*slack)
				synctest.Wait()
				if n := w.rejections(c.why); n != 1 {
					t.Errorf("%v were counted", n)
				}
				if _, err := r.c.Write([]byte("x")); err == nil {
					t.Error("the connection is open")
				}
				_ = r.c.Close()
			})
		})
	}
	// An idle connection is told, and one whose handler takes its time is not.
	bubble(t, func(t *testing.T, w *world) {
		idle, busy := w.begin(t), w.begin(t)
		idle.get(1, "/memory/1")
		busy.get(1, "/slow/hold")
		time.Sleep(testIdle + 2*slack)
		if !idle.over() || !slices.Equal(idle.away, []http2.ErrCode{http2.ErrCodeNo}) {
			t.Errorf("an idle connection was ended by %v", idle.away)
		}
		time.Sleep(time.Hour)
		if busy.over() {
			t.Errorf("a busy connection was ended: %v", busy.away)
		}
		w.hold <- struct{}{}
		synctest.Wait()
		if busy.status[1] != "200" {
			t.Errorf("status %q", busy.status[1])
		}
	})
}
