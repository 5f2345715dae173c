package edge

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"strconv"
	"time"

	"freshet/internal/edge/diskcache"
	"freshet/internal/edge/upstream"
	"freshet/internal/forwarded"
	"freshet/internal/httpcache"
	"freshet/internal/role"
)

// via is what proxies add to what they pass on (RFC 9110 §7.6.3).
const via = "1.1 " + product

// fetchHeader makes the fields of a request whose answer is for many. Where
// rules apply, nothing of the client's goes into it: what is not part of the
// key must not change the answer.
//
// Where only HTTP decides, most fields go on: answers may depend on any. Where
// rules decide for others, unknown files get what clients negotiate with.
func (e *Edge) fetchHeader(c *call, client http.Header) http.Header {
	if c.policy.Ruled() {
		h := maps.Clone(c.site.fetch)
		if v := client["Authorization"]; len(v) > 0 { // flights with one are not shared
			h["Authorization"] = v
		}
		if len(client[loopField]) > 0 {
			c.site.mark(h, client)
		}
		return h
	}
	if c.site.ruled {
		h := http.Header{"Via": {via}, "User-Agent": {product + "-edge"}}
		for _, name := range [...]string{"Accept", "Accept-Charset", "Accept-Encoding", "Accept-Language", "Authorization", "Cookie", "Origin", "User-Agent"} {
			if v := client[name]; len(v) > 0 { // flights with Authorization or Cookie are not shared
				h[name] = v
			}
		}
		c.site.mark(h, client)
		return h
	}
	h := c.site.passHeader(client)
	for _, name := range [...]string{"Range", "If-Range", "If-None-Match", "If-Modified-Since"} {
		delete(h, name)
	}
	return h
}

// ownFields are those of a request whose answer is for many.
func (s *site) ownFields() http.Header {
	h := http.Header{
		"User-Agent":      {product + "-edge"},
		"Accept":          {"*/*"},
		"Accept-Encoding": {"identity"},
		"Via":             {via},
	}
	s.mark(h, nil)
	return h
}

// passHeader makes the fields of a request of which most go on.
func (s *site) passHeader(client http.Header) http.Header {
	h := client.Clone()
	httpcache.RemoveHopByHop(h)
	forwarded.Strip(h)
	h.Add("Via", via)
	s.mark(h, client)
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = []string{""} // net/http would put its own
	}
	return h
}

// passHeaderOf makes the fields of a request that is passed on for one client.
func (s *site) passHeaderOf(r *http.Request) http.Header {
	h := s.passHeader(r.Header)
	forwarded.Tell(h, r)
	return h
}

// flyAlone makes a flight that only the caller, who leads it, and every purge
// know.
func (e *Edge) flyAlone(c *call, r *http.Request, id diskcache.ID, old *diskcache.Entry) *flight {
	f := &flight{call: *c, client: r.Header, request: e.fetchHeader(c, r.Header), id: id, old: old, begun: time.Now(), epoch: e.store.Epoch(), ready: make(chan struct{}), landed: make(chan struct{})}
	e.enlive(f)
	e.launch(f)
	return f
}

// pass hands the request on as it is.
func (rp *reply) pass() {
	e, c, r := rp.e, rp.c, rp.r
	rp.outcome, rp.asked = outcomePass, new(asking)
	before := direct{rp: rp}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	req := upstream.Request{
		Method: r.Method, URI: c.uri, Header: c.site.passHeaderOf(r), ContentLength: r.ContentLength, Interim: before.add,
		Key: c.id, Avoid: e.avoided(c.site, c.id), Direct: c.hops > 0,
	}
	body := rp.newUpload(cancel)
	if body != nil {
		req.Body = body
	}
	resp, err := e.ask(ctx, &c.site.passes, c, req, rp.asked)
	if err == nil {
		defer func() { _ = resp.Body.Close() }() // read to its end, or cut
	}
	before.end()
	if err != nil {
		if wrong := body.failure(); wrong != nil && (r.Context().Err() == nil || errors.Is(wrong, errStalled)) {
			rp.refuseBody(wrong)
			return
		}
		e.metrics.fetches.WithLabelValues(string(upstream.ReasonOf(err))).Inc()
		rp.failed(err, nil)
		return
	}
	e.metrics.fetches.WithLabelValues("other").Inc()
	e.invalidate(c, r, resp.StatusCode, resp.Header)
	rp.relay(resp, nil)
}

// fromOrigin answers with a response that is for this request only. If it may
// be stored for later validation, it is, on the way.
func (rp *reply) fromOrigin(f *flight, resp *http.Response) {
	cc := httpcache.ParseResponse(resp.Header)
	if resp.StatusCode == http.StatusOK && httpcache.Evaluate(rp.r.Header, resp.Header) == httpcache.NotModified {
		h := rp.w.Header()
		maps.Copy(h, httpcache.StoredHeader(resp.Header, httpcache.Directives{}))
		rp.explain(h, httpcache.Freshness{}, false)
		rp.notModified(h)
		return
	}
	storable, _ := rp.c.storable(rp.r.Header, resp, cc, f.asked, f.got)
	if !storable || f.again || resp.ContentLength > rp.e.store.Size()/2 {
		rp.relay(resp, nil)
		return
	}
	w, meta, state, err := rp.e.newEntry(rp.c, rp.r.Header, resp, cc, f.asked, f.got)
	if err != nil {
		rp.relay(resp, nil)
		return
	}
	defer w.Abort()
	rp.stored = true
	good := true
	whole := rp.relay(resp, func(p []byte) {
		if good {
			_, err := w.Write(p)
			good = err == nil
		}
	})
	if whole && good && (resp.ContentLength < 0 || w.Len() == resp.ContentLength) && newVerifier(rp.c.policy).sample(w) == nil {
		_, _ = rp.e.commit(rp.c, w, meta, state, f.old, f) // the client has what it wants
	}
}

// relay streams a response to the client, showing each piece to tee. It
// reports whether it came to the end. A whole body whose name tells its digest
// is not completed if it is another one. The caller closes it.
func (rp *reply) relay(resp *http.Response, tee func([]byte)) bool {
	rp.fwdStatus = resp.StatusCode
	httpcache.RemoveHopByHop(resp.Header)
	role.SetHeader(rp.w, resp.Header)
	h := rp.w.Header()
	if resp.ContentLength >= 0 {
		h["Content-Length"] = []string{strconv.FormatInt(resp.ContentLength, 10)}
	}
	if resp.StatusCode >= 500 {
		rp.outcome, rp.reason = outcomeError, upstream.Status5xx
		role.SetReason(rp.w, rp.r, string(rp.reason), resp.Status)
	}
	rp.explain(h, httpcache.Freshness{}, false)
	rp.start(resp.StatusCode)
	lender := rp.passLender(resp.ContentLength)
	buf := lender.get()
	defer lender.put(buf)
	check := rp.verifies(resp)
	defer check.close()
	var got int64
	for {
		n, err := resp.Body.Read(*buf)
		got += int64(n)
		check.write((*buf)[:n])
		if got == resp.ContentLength || errors.Is(err, io.EOF) {
			rp.verify(check)
			check = nil
		}
		if n > 0 {
			if tee != nil {
				tee((*buf)[:n])
			}
			_, werr := rp.w.Write((*buf)[:n])
			if werr == nil && n < len(*buf) && err == nil { // the end is flushed by net/http
				werr = rp.flush()
			}
			if werr != nil {
				rp.cut(toClient(werr))
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return true
		case err != nil:
			rp.cut(err)
		}
	}
}

// fastPasses is how many bodies of a site are passed on at once with large
// buffers: what clients hold of the edge's memory by taking nothing is bounded.
const fastPasses = 256

// passLender lends what a body of n bytes is passed on with.
func (rp *reply) passLender(n int64) *bufferPool {
	if running, _ := rp.c.site.passes.Held(); running > fastPasses {
		return &rp.e.small
	}
	return rp.lender(n)
}

// verifies returns what compares the body with its name, nil if nothing does:
// it is a part, nothing is known of it, or it comes in a coding that this client
// asked for.
func (rp *reply) verifies(resp *http.Response) *verifier {
	if rp.r.Method != http.MethodGet || resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Encoding") != "" {
		return nil
	}
	check := newVerifier(rp.c.policy)
	check.detach(http.NoBody)
	return check
}

// verify cuts the answer if the body, which has come to its end, is wrong.
func (rp *reply) verify(check *verifier) {
	err := check.endStream()
	if err == nil {
		return
	}
	if rp.asked != nil {
		rp.e.mistrust(rp.c.site, rp.c.id, rp.asked.trace.Origin, upstream.VerifyMismatch)
	}
	rp.cut(&upstream.Error{Reason: upstream.VerifyMismatch, Err: err})
}
