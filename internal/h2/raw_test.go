package h2

import (
	"bytes"
	"context"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"freshet/internal/h1"
)

// raw is a client that sends what it is told, by the framer of another
// implementation. It notes all frames that come.
type raw struct {
	t     *testing.T
	c     net.Conn
	fr    *http2.Framer
	enc   *hpack.Encoder
	block bytes.Buffer

	got    chan struct{} // closed at the end of the connection
	data   map[uint32][]byte
	ended  map[uint32]bool
	status map[uint32]string
	resets map[uint32]http2.ErrCode
	away   []http2.ErrCode
	acks   int
	pongs  int
}

// bubble runs a test with a server in memory, in fake time.
func bubble(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, true)
		f(t, w)
		w.stop()
	})
}

// dial connects without a word.
func (w *world) dial(t *testing.T) *raw {
	t.Helper()
	r := w.mute(t)
	go r.read()
	return r
}

// mute connects and does not read.
func (w *world) mute(t *testing.T) *raw {
	t.Helper()
	c, err := w.network.DialContext(context.Background(), "tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	r := &raw{
		t: t, c: c, fr: http2.NewFramer(c, c), got: make(chan struct{}), data: make(map[uint32][]byte),
		ended: make(map[uint32]bool), status: make(map[uint32]string), resets: make(map[uint32]http2.ErrCode),
	}
	r.fr.AllowIllegalWrites = true
	r.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	r.enc = hpack.NewEncoder(&r.block)
	t.Cleanup(func() { _ = c.Close() })
	return r
}

// begin connects and greets.
func (w *world) begin(t *testing.T, settings ...http2.Setting) *raw {
	t.Helper()
	r := w.dial(t)
	r.write(preface)
	r.must(r.fr.WriteSettings(settings...))
	return r
}

func (r *raw) read() {
	defer close(r.got)
	for {
		f, err := r.fr.ReadFrame()
		if err != nil {
			return
		}
		switch f := f.(type) {
		case *http2.DataFrame:
			r.data[f.StreamID] = append(r.data[f.StreamID], f.Data()...)
			r.ended[f.StreamID] = r.ended[f.StreamID] || f.StreamEnded()
		case *http2.MetaHeadersFrame:
			if r.status[f.StreamID] != "" {
				r.status[f.StreamID] += " "
			}
			r.status[f.StreamID] += f.PseudoValue("status")
			r.ended[f.StreamID] = r.ended[f.StreamID] || f.StreamEnded()
		case *http2.RSTStreamFrame:
			r.resets[f.StreamID] = f.ErrCode
		case *http2.GoAwayFrame:
			r.away = append(r.away, f.ErrCode)
		case *http2.SettingsFrame:
			if f.IsAck() {
				r.acks++
			}
		case *http2.PingFrame:
			if f.IsAck() {
				r.pongs++
			}
		}
	}
}

func (r *raw) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatalf("write: %v", err)
	}
}

func (r *raw) write(s string) {
	r.t.Helper()
	_, err := io.WriteString(r.c, s)
	r.must(err)
}

// fields encodes a header: "name: value" each.
func (r *raw) fields(fields ...string) []byte {
	r.block.Reset()
	for _, f := range fields {
		i := strings.Index(f[1:], ":") + 1
		_ = r.enc.WriteField(hpack.HeaderField{Name: f[:i], Value: strings.TrimPrefix(f[i+1:], " ")})
	}
	return slices.Clone(r.block.Bytes())
}

// get asks for a target on a stream.
func (r *raw) get(id uint32, target string, more ...string) {
	r.t.Helper()
	r.header(id, true, append([]string{":method: GET", ":scheme: http", ":authority: h", ":path: " + target}, more...)...)
}

func (r *raw) header(id uint32, end bool, fields ...string) {
	r.t.Helper()
	r.must(r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: r.fields(fields...), EndStream: end, EndHeaders: true}))
}

// over waits until nothing more happens, and reports whether the connection
// has ended.
func (r *raw) over() bool {
	synctest.Wait()
	select {
	case <-r.got:
		return true
	default:
		return false
	}
}

// wantAway fails unless the connection has ended with this code and was counted
// by this reason.
func (r *raw) wantAway(w *world, code http2.ErrCode, why h1.Rejection) {
	r.t.Helper()
	for range 3 { // lingering ends in time
		if r.over() {
			break
		}
		time.Sleep(goodbye)
	}
	if !r.over() || !slices.Contains(r.away, code) {
		r.t.Errorf("the connection was not ended by %v: %v", code, r.away)
	}
	if n := w.rejections(why); n != 1 {
		r.t.Errorf("%v cases of %s were counted", n, why)
	}
}
