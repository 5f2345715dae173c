package h2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"freshet/internal/h1"
)

// tape is a connection whose client has said everything, and notes what it is
// told.
type tape struct {
	in  *bytes.Reader
	out bytes.Buffer // written by one at a time
}

func (c *tape) Read(p []byte) (int, error)     { return c.in.Read(p) }
func (c *tape) Write(p []byte) (int, error)    { return c.out.Write(p) }
func (*tape) Close() error                     { return nil }
func (*tape) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*tape) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*tape) SetDeadline(time.Time) error      { return nil }
func (*tape) SetReadDeadline(time.Time) error  { return nil }
func (*tape) SetWriteDeadline(time.Time) error { return nil }

// counted answers everything below /memory/, and counts.
type counted struct{ answered, sent atomic.Int64 }

func (h *counted) Answer(req *h1.Request, res *h1.Response) bool {
	if !bytes.HasPrefix(req.Target, []byte("/memory/")) || len(req.Host) == 0 {
		return false
	}
	h.answered.Add(1)
	res.Head = AppendNumber(AppendStatus(res.Head, 200), "content-length", 100_000)
	if !req.Head {
		res.Body = make([]byte, 100_000)
	}
	return true
}

func (h *counted) Sent(*h1.Request, *h1.Response, int64, error) { h.sent.Add(1) }

// Whatever a client sends, the server ends, says nothing that is no HTTP/2, and
// tells the handler of the end of each answer.
func FuzzFrames(f *testing.F) {
	seed := func(do func(fr *http2.Framer, header func(fields ...string) []byte)) {
		var b, block bytes.Buffer
		enc := hpack.NewEncoder(&block)
		do(http2.NewFramer(&b, nil), func(fields ...string) []byte {
			block.Reset()
			for i := 0; i < len(fields); i += 2 {
				_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
			}
			return bytes.Clone(block.Bytes())
		})
		f.Add(b.Bytes())
	}
	get := []string{":method", "GET", ":scheme", "https", ":authority", "h", ":path", "/memory/1"}
	post := []string{":method", "POST", ":scheme", "https", ":authority", "h", ":path", "/x", "content-length", "4"}
	seed(func(fr *http2.Framer, header func(fields ...string) []byte) {
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: header(get...), EndStream: true, EndHeaders: true})
		_ = fr.WriteWindowUpdate(1, 1<<20)
		_ = fr.WriteWindowUpdate(0, 1<<20)
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: header(get...), EndStream: true, EndHeaders: true, PadLength: 7})
		_ = fr.WriteRSTStream(3, http2.ErrCodeCancel)
	})
	seed(func(fr *http2.Framer, header func(fields ...string) []byte) {
		_ = fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10}, http2.Setting{ID: http2.SettingHeaderTableSize})
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: header(post...), EndHeaders: true})
		_ = fr.WriteDataPadded(1, false, []byte("ab"), make([]byte, 9))
		_ = fr.WriteData(1, true, []byte("cd"))
		_ = fr.WritePing(false, [8]byte{1})
		b := header(get...)
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 5, BlockFragment: b[:3], EndStream: true})
		_ = fr.WriteContinuation(5, true, b[3:])
	})
	seed(func(fr *http2.Framer, header func(fields ...string) []byte) {
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: header(post[:8]...), EndHeaders: true})
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: header("sum", "1"), EndHeaders: true, EndStream: true})
		_ = fr.WritePriority(9, http2.PriorityParam{StreamDep: 1})
		_ = fr.WriteGoAway(0, 0, nil)
	})
	f.Fuzz(func(t *testing.T, in []byte) {
		var hello bytes.Buffer
		hello.WriteString(preface)
		_ = http2.NewFramer(&hello, nil).WriteSettings()
		h := new(counted)
		s := Server{Handler: h, HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			_, _ = w.Write(b)
			_, _ = io.WriteString(w, strings.Repeat("x", 5000))
		})}
		c := &tape{in: bytes.NewReader(append(hello.Bytes(), in...))}
		s.ServeClear(context.Background(), c)
		if h.answered.Load() != h.sent.Load() {
			t.Fatalf("%d answers, %d ends", h.answered.Load(), h.sent.Load())
		}
		checkFrames(t, c.out.Bytes())
	})
}

// checkFrames fails if out is not what a server may say.
func checkFrames(t *testing.T, out []byte) {
	t.Helper()
	fr := http2.NewFramer(nil, bytes.NewReader(out))
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	ended := make(map[uint32]bool)
	for {
		frame, err := fr.ReadFrame()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("the server said something else: %v", err)
		}
		id := frame.Header().StreamID
		switch frame := frame.(type) {
		case *http2.DataFrame:
			if ended[id] {
				t.Fatalf("DATA after the end of stream %d", id)
			}
			ended[id] = frame.StreamEnded()
		case *http2.MetaHeadersFrame:
			if ended[id] {
				t.Fatalf("a header after the end of stream %d", id)
			}
			ended[id] = frame.StreamEnded()
		case *http2.RSTStreamFrame:
			ended[id] = true
		}
	}
}
