package director

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"freshet/internal/accesslog"
	"freshet/internal/director/lists"
	"freshet/internal/h1"
	"freshet/internal/role"
)

// front answers requests: as [h1.Handler] those that the loop of internal/h1
// understands, and as [http.Handler] all others, in the same way.
type front struct {
	data    *atomic.Pointer[lists.Data]
	senders *senders
	access  *role.Access
	lines   *accesslog.Log
	metrics *metrics
	pool    sync.Pool // of *work
}

// work is what one request needs. It is used again.
type work struct {
	answer lists.Answer
	target string
	head   []byte
	line   []byte
	record accesslog.Record
	more   [2]slog.Attr
}

func (f *front) begin() *work {
	if w, ok := f.pool.Get().(*work); ok {
		return w
	}
	return new(work)
}

// keep is the longest body whose memory is used again. Few are longer.
const keep = 256 << 10

func (f *front) end(w *work) {
	if cap(w.answer.Body) <= keep {
		f.pool.Put(w)
	}
}

// make makes the answer to a request.
func (f *front) make(w *work, r *lists.Request) {
	r.Seed = rand.Uint64()
	w.target = r.Target
	a := &w.answer
	a.Make(f.data.Load(), r)
	f.metrics.best[a.Best].Inc()
	if a.Counted {
		w.line = a.AppendLine(w.line[:0], r.Now)
		f.lines.WriteLine(w.line)
	}
}

// Answer implements [h1.Handler].
func (f *front) Answer(req *h1.Request, res *h1.Response) bool {
	return f.respond(string(req.Target), req, res)
}

// respond implements [respondent].
func (f *front) respond(target string, req *h1.Request, res *h1.Response) bool {
	from := f.senders.ready(req)
	r := lists.Request{Target: target, Peer: from.peer, Forwarded: from.forwarded, HasForwarded: from.hasForwarded, Now: req.Begun}
	w := f.begin()
	f.make(w, &r)
	a := &w.answer
	res.Status, res.Tag = a.Status, w
	res.Head = appendHead(res.Head, a, req.Begun)
	w.head = spoken(req, res, w.head)
	if !req.Head {
		res.Body = a.Body
	}
	return true
}

// appendHead appends the head of an answer.
func appendHead(b []byte, a *lists.Answer, now time.Time) []byte {
	b = beginHead(b, a.Status, now)
	if a.Type != "" {
		b = append(append(append(b, "Content-Type: "...), a.Type...), "\r\n"...)
	}
	if len(a.Location) > 0 {
		b = append(append(append(b, "Location: "...), a.Location...), "\r\n"...)
	}
	return endHead(b, a.Status, string(a.Reason), len(a.Body))
}

// Sent implements [h1.Handler].
func (f *front) Sent(req *h1.Request, res *h1.Response, sent int64, err error) {
	w, ok := res.Tag.(*work)
	if !ok {
		return
	}
	defer f.end(w)
	took := time.Since(req.Begun)
	rec := &w.record
	// One field after the other: a literal is made elsewhere and copied.
	*rec = accesslog.Record{}
	req.Note(rec)
	rec.Took, rec.FirstByte, rec.Path = took, max(took, 1), pathOf(w.target)
	rec.Client = w.answer.Sender
	rec.Status, rec.Bytes = res.Status, sent
	rec.Reason = string(w.answer.Reason)
	if err != nil {
		rec.Reason, rec.Detail = "client_gone", err.Error()
	}
	rec.More = w.about()
	f.access.Note(context.Background(), rec)
}

// about is what the record of a request tells of its answer. It is w's.
func (w *work) about() []slog.Attr {
	if !w.answer.Client.IsValid() {
		return nil
	}
	w.more[0] = slog.String("country", cmp.Or(w.answer.Country, "-"))
	w.more[1] = slog.String("best", w.answer.Best.String())
	return w.more[:]
}

// ServeHTTP implements [http.Handler]. Any method is one that asks.
func (f *front) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	work := f.begin()
	defer f.end(work)
	from := f.senders.of(req)
	r := lists.Request{Target: targetOf(req), Peer: from.peer, Forwarded: from.forwarded, HasForwarded: from.hasForwarded, Now: time.Now()}
	f.make(work, &r)
	a := &work.answer
	h := w.Header()
	h["Content-Type"] = nil // none is found out
	if a.Type != "" {
		h["Content-Type"] = []string{a.Type}
	}
	if len(a.Location) > 0 {
		h["Location"] = []string{string(a.Location)}
	}
	h["Content-Length"] = []string{strconv.Itoa(len(a.Body))}
	if a.Reason != "" {
		role.SetReason(w, req, string(a.Reason), "")
	}
	if rec := role.RecordOf(req); rec != nil {
		rec.Client = a.Sender
		rec.More = append(rec.More, work.about()...)
	}
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body) // the client has left, or has it
}
