package h2

import (
	"net/http"
	"time"

	"freshet/internal/h1"
	"freshet/internal/role"
)

// malformed answers a request that is none (RFC 9113 §8.1.1), and resets its
// stream.
func (c *conn) malformed(id uint32, h *header, err error) error {
	c.tell(&h1.Refused{Method: h.method, Target: h.path, Status: http.StatusBadRequest, Why: RejectMalformed, Text: err.Error()})
	if err := c.budget.reset(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queueHeaderLocked(id, refusal(http.StatusBadRequest, RejectMalformed), true)
	c.resetLocked(id, codeProtocol)
	return nil
}

// tooLarge answers a request whose header is too large.
func (c *conn) tooLarge(id uint32, end bool) error {
	c.tell(&h1.Refused{Status: http.StatusRequestHeaderFieldsTooLarge, Why: RejectHeaderSize, Text: "the header is too large"})
	if err := c.budget.reset(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queueHeaderLocked(id, refusal(http.StatusRequestHeaderFieldsTooLarge, RejectHeaderSize), true)
	if !end {
		c.resetLocked(id, codeNone)
	}
	return nil
}

// tell counts a request that came to no handler, and tells of it.
func (c *conn) tell(r *h1.Refused) {
	c.s.Metrics.Rejected(r.Why)
	if c.s.Refused != nil {
		r.At, r.Client, r.Proto = time.Now(), c.client, "HTTP/2.0"
		c.s.Refused(r)
	}
}

// refusal is the head of an answer without a body.
func refusal(status int, why h1.Rejection) []byte {
	head := AppendNumber(AppendStatus(nil, status), "content-length", 0)
	head = AppendField(head, "date", time.Now().UTC().Format(http.TimeFormat))
	return AppendHeader(head, http.Header{role.ReasonHeader: {string(why)}})
}
