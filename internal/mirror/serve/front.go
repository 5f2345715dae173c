package serve

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"freshet/internal/accesslog"
	"freshet/internal/h1"
	"freshet/internal/h2"
	"freshet/internal/httpcache"
)

// Answer implements [h1.Handler]: files that are open already, as a whole or a part.
func (s *Site) Answer(req *h1.Request, res *h1.Response) bool {
	ranged, ok := rangeOf(req.Fields)
	if !ok || s.opts.Access == nil {
		return false
	}
	o := s.open.get(req.Target)
	if o == nil {
		return false
	}
	part := httpcache.Range{Length: o.size}
	head := head{res.Head, req.H2}
	res.Status = http.StatusOK
	if ranged == nil {
		head.status(http.StatusOK, "HTTP/1.1 200 OK\r\n")
	} else {
		parts, satisfiable := httpcache.ParseRange(string(ranged), o.size)
		if !satisfiable || len(parts) != 1 || req.Head {
			o.release()
			return false
		}
		part, res.Status = parts[0], http.StatusPartialContent
		head.status(http.StatusPartialContent, "HTTP/1.1 206 Partial Content\r\n")
		head.field("Content-Range", "content-range", part.ContentRange(o.size))
	}
	head.field("Date", "date", s.date.at(req.Begun))
	head.fields(o)
	head.length(part.Length)
	res.Head, res.Tag = head.b, o
	if req.Head || part.Length == 0 {
		return true
	}
	if body := s.open.body(o); body != nil {
		res.Body = body[part.Start:][:part.Length]
	} else {
		res.File, res.Offset, res.Length = o.file, part.Start, part.Length
	}
	return true
}

// rangeOf returns the value of the Range field, nil if there is none. It reports false
// if there are conditions or a wish for a digest, which are looked at elsewhere.
func rangeOf(fields []h1.Field) (value []byte, ok bool) {
	for _, f := range fields {
		switch len(f.Name) {
		case 5:
			if f.Is("range") {
				if value != nil {
					return nil, false
				}
				value = f.Value
			}
		case 8:
			if f.Is("if-match") || f.Is("if-range") {
				return nil, false
			}
		case 11, 16:
			if f.Is("want-digest") || f.Is("want-repr-digest") {
				return nil, false
			}
		case 13, 17, 19:
			if f.Is("if-none-match") || f.Is("if-modified-since") || f.Is("if-unmodified-since") {
				return nil, false
			}
		}
	}
	return value, true
}

// record is that of an answer with an open file. It is given back to s.records.
func (s *Site) record(req *h1.Request, res *h1.Response, o *openFile) *accesslog.Record {
	rec, ok := s.records.Get().(*accesslog.Record)
	if !ok {
		rec = new(accesslog.Record)
	}
	*rec = accesslog.Record{}
	req.Note(rec)
	rec.Path, rec.Site, rec.Status, rec.Told = o.path, o.project.Name(), res.Status, res.Told
	return rec
}

// Sending implements [h1.Watcher].
func (s *Site) Sending(req *h1.Request, res *h1.Response, sent int64) {
	if o, ok := res.Tag.(*openFile); ok {
		rec := s.record(req, res, o)
		s.opts.Access.Progress(rec, sent)
		res.Told = rec.Told
		s.records.Put(rec)
	}
}

// Sent implements [h1.Handler].
func (s *Site) Sent(req *h1.Request, res *h1.Response, sent int64, err error) {
	o, ok := res.Tag.(*openFile)
	if !ok {
		return
	}
	defer o.release()
	rec := s.record(req, res, o)
	defer s.records.Put(rec)
	rec.Took = time.Since(req.Begun)
	rec.FirstByte = max(rec.Took, 1)
	if !res.Started.IsZero() {
		rec.FirstByte = max(res.Started.Sub(req.Begun), 1)
	}
	if s.opts.Asked != nil {
		s.opts.Asked(rec.Site, o.path[len("/")+len(rec.Site)+len("/"):])
	}
	rec.Bytes = sent
	if err != nil {
		rec.Reason, rec.Detail = string(ClientGone), err.Error()
		if _, fault := errors.AsType[*h1.FileError](err); fault {
			rec.Reason = string(DiskFailed)
		}
	}
	s.opts.Access.Note(context.Background(), rec)
}

// head writes the head of an answer as the protocol of the request has it.
type head struct {
	b  []byte
	h2 bool
}

// status begins the head; line is what HTTP/1.1 has for it.
func (w *head) status(status int, line string) {
	if w.h2 {
		w.b = h2.AppendStatus(w.b, status)
		return
	}
	w.b = append(w.b, line...)
}

// field adds a field; lower is its name in lower case.
func (w *head) field(name, lower, value string) {
	if w.h2 {
		w.b = h2.AppendField(w.b, lower, value)
		return
	}
	w.b = append(append(append(append(w.b, name...), ": "...), value...), "\r\n"...)
}

func (w *head) fields(o *openFile) {
	if w.h2 {
		w.b = append(w.b, o.h2...)
		return
	}
	w.b = append(w.b, o.h1...)
}

func (w *head) length(n int64) {
	if w.h2 {
		w.b = h2.AppendNumber(w.b, "content-length", n)
		return
	}
	w.b = strconv.AppendInt(append(w.b, "Content-Length: "...), n, 10)
	w.b = append(w.b, "\r\n"...)
}

// date is the value of Date, made once a second.
type date struct{ made atomic.Pointer[madeDate] }

type madeDate struct {
	second int64
	text   string
}

func (d *date) at(now time.Time) string {
	second := now.Unix()
	if m := d.made.Load(); m != nil && m.second == second {
		return m.text
	}
	m := &madeDate{second, now.UTC().Format(http.TimeFormat)}
	d.made.Store(m)
	return m.text
}
