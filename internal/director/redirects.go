package director

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/accesslog"
	"freshet/internal/director/redirect"
	"freshet/internal/h1"
	"freshet/internal/role"
)

// redirects answers requests for files, in the same two ways as [front].
type redirects struct {
	data    *atomic.Pointer[redirect.Data]
	page    func(w http.ResponseWriter, req *http.Request, why *directorapi.Why)
	senders *senders
	access  *role.Access
	metrics *redirectMetrics
	pool    sync.Pool // of *errand
}

// errand is what one request for a file needs. It is used again.
type errand struct {
	answer redirect.Answer
	path   string
	head   []byte
	record accesslog.Record
	more   [3]slog.Attr
}

func (f *redirects) begin() *errand {
	if e, ok := f.pool.Get().(*errand); ok {
		return e
	}
	return new(errand)
}

func (f *redirects) end(e *errand) {
	if cap(e.answer.Body) <= keep {
		f.pool.Put(e)
	}
}

// make makes the answer to a request.
func (f *redirects) make(e *errand, r *redirect.Request) {
	e.path = pathOf(r.Target)
	a := &e.answer
	a.Make(f.data.Load(), r)
	f.metrics.answers[a.Outcome].Inc()
	if a.Mirror != nil && a.Mirror.Count != nil {
		a.Mirror.Count.Redirects.Add(1)
		if !r.Part {
			a.Mirror.Count.Bytes.Add(a.Size)
		}
	}
}

// Answer implements [h1.Handler].
func (f *redirects) Answer(req *h1.Request, res *h1.Response) bool {
	return f.respond(string(req.Target), req, res)
}

// respond implements [respondent].
func (f *redirects) respond(target string, req *h1.Request, res *h1.Response) bool {
	from := f.senders.ready(req)
	r := redirect.Request{Target: target, Client: from.client(), HTTPS: from.https, Now: req.Begun, Part: req.Head}
	for _, field := range req.Fields {
		takeField(&r, field)
	}
	e := f.begin()
	f.make(e, &r)
	a := &e.answer
	if a.Page != nil {
		f.end(e)
		return false // pages are for the general server
	}
	res.Status, res.Tag = a.Status, e
	res.Head = beginHead(res.Head, a.Status, req.Begun)
	res.Head = a.Fields.AppendHead(res.Head)
	res.Head = endHead(res.Head, a.Status, string(a.Reason), len(a.Body))
	e.head = spoken(req, res, e.head)
	if !req.Head {
		res.Body = a.Body
	}
	return true
}

// takeField takes what matters of a field.
func takeField(r *redirect.Request, field h1.Field) {
	switch {
	case field.Is("accept"):
		if r.Accept = anything; string(field.Value) != anything {
			r.Accept = string(field.Value)
		}
	case field.Is("if-none-match"):
		r.IfNoneMatch = string(field.Value)
	case field.Is("if-modified-since"):
		r.IfModifiedSince = string(field.Value)
	case field.Is("range"):
		r.Part = true
	}
}

// anything is what nearly all downloaders accept, and say so.
const anything = "*/*"

// Sent implements [h1.Handler].
func (f *redirects) Sent(req *h1.Request, res *h1.Response, sent int64, err error) {
	e, ok := res.Tag.(*errand)
	if !ok {
		return
	}
	defer f.end(e)
	took := time.Since(req.Begun)
	rec := &e.record
	*rec = accesslog.Record{}
	req.Note(rec)
	rec.Took, rec.FirstByte, rec.Path = took, max(took, 1), e.path
	rec.Client = e.answer.Asker
	rec.Status, rec.Bytes = res.Status, sent
	rec.Reason = string(e.answer.Reason)
	if err != nil {
		rec.Reason, rec.Detail = "client_gone", err.Error()
	}
	rec.More = e.about()
	f.access.Note(context.Background(), rec)
}

// about is what the record of a request tells of its answer. It is e's.
func (e *errand) about() []slog.Attr {
	a := &e.answer
	more := append(e.more[:0], slog.String("outcome", a.Outcome.String()))
	if a.Tier != "" {
		more = append(more, slog.String("best", a.Tier))
	}
	if a.Mirror != nil {
		more = append(more, slog.String("mirror", a.Mirror.Name))
	}
	return more
}

// methods are those that ask for files.
const methods = "GET, HEAD, OPTIONS"

// ServeHTTP implements [http.Handler].
func (f *redirects) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	switch req.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodOptions:
		w.Header().Set("Allow", methods)
		w.WriteHeader(http.StatusNoContent)
		return
	default:
		w.Header().Set("Allow", methods)
		role.SetReason(w, req, "bad_method", "")
		http.Error(w, "Files are only read here.", http.StatusMethodNotAllowed)
		return
	}
	e := f.begin()
	defer f.end(e)
	from := f.senders.of(req)
	r := redirect.Request{
		Target: targetOf(req), Client: from.client(), HTTPS: from.https, Now: time.Now(),
		Accept: req.Header.Get("Accept"), IfNoneMatch: req.Header.Get("If-None-Match"), IfModifiedSince: req.Header.Get("If-Modified-Since"),
	}
	r.Part = req.Method == http.MethodHead || req.Header.Get("Range") != ""
	f.make(e, &r)
	f.write(w, req, e)
}

// write sends an answer.
func (f *redirects) write(w http.ResponseWriter, req *http.Request, e *errand) {
	a := &e.answer
	h := w.Header()
	for name, value := range a.Fields.All() {
		h[name] = append(h[name], string(value))
	}
	if rec := role.RecordOf(req); rec != nil {
		rec.Client = a.Asker
		rec.More = append(rec.More, e.about()...)
	}
	if a.Page != nil {
		f.page(w, req, a.Page)
		return
	}
	if a.Status != http.StatusNotModified {
		h["Content-Length"] = []string{strconv.Itoa(len(a.Body))}
	}
	if a.Reason != "" {
		role.SetReason(w, req, string(a.Reason), "")
	}
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body) // the client has left, or has it
}
