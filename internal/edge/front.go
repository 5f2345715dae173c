package edge

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"freshet/internal/accesslog"
	"freshet/internal/edge/diskcache"
	"freshet/internal/edge/upstream"
	"freshet/internal/h1"
	"freshet/internal/httpcache"
	"freshet/internal/role"
)

// front answers fresh hits, and nothing else, before net/http comes into play
// ([h1.Handler]). A client cannot tell its answers from those of
// [Edge.ServeHTTP], nor can the metrics and the record.
type front struct {
	e      *Edge
	access *role.Access
	hots   *hots
	altSvc string    // told to clients over TLS
	record sync.Pool // of *accesslog.Record
}

// wish is what the fields of a request ask for, apart from the representation.
type wish struct {
	header http.Header // conditions and Range, nil if there are none
	cache  bool        // there are directives for caches
	ranged bool
}

// read notes the fields that matter. It reports false for a request that is
// not for a cache to answer.
func (w *wish) read(fields []h1.Field) bool {
	for _, f := range fields {
		var name string
		switch len(f.Name) {
		case 5:
			if f.Is("range") {
				name, w.ranged = "Range", true
			}
		case 6:
			w.cache = w.cache || f.Is("pragma")
		case 8:
			switch {
			case f.Is("if-match"):
				return false
			case f.Is("if-range"):
				name = "If-Range"
			}
		case 13:
			switch {
			case f.Is("if-none-match"):
				name = "If-None-Match"
			case f.Is("cache-control"):
				w.cache = true
			}
		case 17:
			if f.Is("if-modified-since") {
				name = "If-Modified-Since"
			}
		case 19:
			if f.Is("if-unmodified-since") {
				return false
			}
		}
		if name != "" {
			if w.header == nil {
				w.header = make(http.Header)
			}
			w.header[name] = append(w.header[name], string(f.Value))
		}
	}
	return true
}

// Answer implements [h1.Handler].
func (f *front) Answer(req *h1.Request, res *h1.Response) bool {
	var w wish
	if !w.read(req.Fields) {
		return false
	}
	key := req.Target
	if len(f.e.sites) > 0 { // where the head will be, later
		key = append(append(append(res.Head, req.Host...), '\n'), req.Target...)
	}
	h, seen := f.find(key, req)
	if h == nil || w.cache && !h.ruled || !f.open(h, req) {
		return false
	}
	var at place
	if h.set != nil {
		if at = f.e.readers.look(req.Remote, h.set, h.call.path, req.Begun); at.g == nil || at.g.files[h.call.path] != h.entry.ID() {
			return false // in the middle of an older one
		}
	}
	fresh := h.call.freshness(seen.State, httpcache.Freshness{Age: seen.State.Age(req.Begun)})
	fresh = at.g.bound(fresh, req.Begun, h.call.policy.Fresh)
	if fresh.Decide(httpcache.Directives{}) != httpcache.Fresh {
		return false
	}
	ready := w.header == nil && f.whole(h, req, res, fresh)
	if !ready && !f.parts(h, req, &w, res, fresh) {
		return false
	}
	if h.set == nil || f.e.readers.note(req.Remote, h.set, at.g, h.call.path, at, req.Begun) {
		return true
	}
	f.drop(res)
	return false
}

// parts makes an answer of a head and a body. It reports false for answers that
// are not made here.
func (f *front) parts(h *hot, req *h1.Request, w *wish, res *h1.Response, fresh httpcache.Freshness) bool {
	head := newHead(req, res)
	begin, length, ok := f.choose(h, req, w, res, &head)
	if !ok {
		return false
	}
	head.freshness(h, fresh)
	f.appendGate(h, req, &head)
	res.Head = head.b
	return f.body(h, begin, length, res)
}

// find returns what is known of a target, if it is of what the store has now,
// and what that was found to be.
func (f *front) find(key []byte, req *h1.Request) (*hot, *diskcache.Sight) {
	if h := f.hots.get(key); h != nil {
		if seen := f.e.look(h); seen != nil {
			return h, seen
		}
	}
	name := string(key) // what h keeps of the target is a part of it
	h := f.e.heat(name, string(req.Host), name[len(name)-len(req.Target):])
	if h == nil {
		return nil, nil
	}
	f.hots.put(h)
	if seen := f.e.look(h); seen != nil {
		return h, seen
	}
	return nil, nil
}

// choose begins the head and says which part of the body goes with it. It
// reports false for answers that are not made here.
func (f *front) choose(h *hot, req *h1.Request, w *wish, res *h1.Response, head *head) (begin, length int64, ok bool) {
	size := h.size
	res.Status = http.StatusOK
	if w.header != nil {
		if httpcache.Evaluate(w.header, h.meta.Header) == httpcache.NotModified {
			res.Status = http.StatusNotModified
			head.notModified(h)
			return 0, 0, true
		}
		if lines := w.header["Range"]; w.ranged && len(lines) == 1 && !req.Head && httpcache.IfRange(w.header, h.meta.Header) {
			ranges, satisfiable := httpcache.ParseRange(lines[0], size)
			switch {
			case !satisfiable || len(ranges) > 1 || len(ranges) == 1 && h.sniffed != "":
				return 0, 0, false
			case len(ranges) == 1:
				res.Status = http.StatusPartialContent
				head.partial(h, ranges[0].Length)
				head.field("Content-Range", "content-range", []byte(ranges[0].ContentRange(size)))
				return ranges[0].Start, ranges[0].Length, true
			}
		}
	}
	head.whole(h)
	if req.Head {
		return 0, 0, true
	}
	head.sniffed(h)
	return 0, size, true
}

// body attaches the body: from memory, or from its file as far as that was
// found to be right before.
func (f *front) body(h *hot, begin, length int64, res *h1.Response) bool {
	if h.body != nil || length == 0 {
		res.Tag = h
		if length > 0 {
			res.Body = h.body[begin : begin+length]
		}
		return true
	}
	body, err := h.entry.Open()
	if err != nil {
		return false
	}
	if res.File = body.At(begin, length); res.File == nil {
		body.Close()
		return false
	}
	res.Offset, res.Length = begin, length
	res.Tag = &fromFile{h, body}
	return true
}

// drop takes the body away from an answer that is not sent after all.
func (f *front) drop(res *h1.Response) {
	switch tag := res.Tag.(type) {
	case *fromFile:
		tag.body.Close()
	case *hot:
		tag.ready.release(res)
	}
	*res = h1.Response{Head: res.Head[:0], Closing: res.Closing}
}

// fromFile is an answer that holds a file open.
type fromFile struct {
	hot  *hot
	body *diskcache.Body
}

// Sent implements [h1.Handler].
func (f *front) Sent(req *h1.Request, res *h1.Response, sent int64, err error) {
	took := time.Since(req.Begun)
	var h *hot
	switch tag := res.Tag.(type) {
	case *hot:
		h = tag
		h.ready.release(res)
	case *fromFile:
		h = tag.hot
		tag.body.Close()
	}
	if h.set != nil && took >= slowFile {
		f.e.readers.touch(req.Remote, h.set, req.Begun.Add(took))
	}
	rec, ok := f.record.Get().(*accesslog.Record)
	if !ok {
		rec = new(accesslog.Record)
	}
	defer f.record.Put(rec)
	// One field after the other: a literal is made elsewhere and copied.
	*rec = accesslog.Record{}
	req.Note(rec)
	rec.Took, rec.FirstByte, rec.Path = took, max(took, 1), h.path
	rec.Status, rec.Bytes = res.Status, sent
	rec.Outcome, rec.Site, rec.Key = outcomeHit.String(), h.call.site.name, h.short
	if err != nil {
		rec.Reason, rec.Detail = string(upstream.ClientGone), err.Error()
		if _, fault := errors.AsType[*h1.FileError](err); fault {
			rec.Outcome, rec.Reason = outcomeError.String(), string(upstream.StoreFull)
		}
	}
	if !res.Started.IsZero() {
		rec.FirstByte = max(res.Started.Sub(req.Begun), 1)
	}
	f.access.Note(context.Background(), rec)
}
