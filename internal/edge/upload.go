package edge

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"freshet/internal/doors"
	"freshet/internal/edge/upstream"
	"freshet/internal/h1"
	"freshet/internal/role"
)

// upload is the body of a client's request on its way to the origin. What goes
// wrong with it is the client's fault: it ends the request to the origin, which
// is not held to have failed.
type upload struct {
	body   io.Reader
	stall  time.Duration // how long a read may take
	end    context.CancelCauseFunc
	client *http.ResponseController

	mu      sync.Mutex
	reading bool
	timer   *time.Timer
	err     error
}

var errStalled = errors.New("the body of the request does not come")

// newUpload returns the body of the request, nil if it has none. A failure
// calls end.
func (rp *reply) newUpload(end context.CancelCauseFunc) *upload {
	if rp.r.ContentLength == 0 {
		return nil
	}
	return &upload{body: rp.r.Body, stall: rp.e.cfg.Limits.Stall, end: end, client: http.NewResponseController(rp.w)}
}

// Read implements [io.Reader].
func (u *upload) Read(p []byte) (int, error) {
	u.mu.Lock()
	u.reading = true
	if u.timer == nil {
		u.timer = time.AfterFunc(u.stall, u.late)
	} else {
		u.timer.Reset(u.stall)
	}
	u.mu.Unlock()
	n, err := u.body.Read(p)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.reading = false
	u.timer.Stop()
	if err != nil && !errors.Is(err, io.EOF) {
		u.failLocked(err)
	}
	return n, err //nolint:wrapcheck // as a body's
}

// late ends a read that takes too long.
func (u *upload) late() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.reading {
		u.failLocked(errStalled)
		// Without this, net/http would wait for the read before it ends the
		// request. HTTP/2 and HTTP/3 do not.
		_ = u.client.SetReadDeadline(time.Unix(1, 0)) // fails only where it is not needed
	}
}

func (u *upload) failLocked(err error) {
	if u.err == nil {
		u.err = err
		u.end(&upstream.Error{Reason: upstream.ClientGone, Err: err})
	}
}

// failure is what went wrong, nil if nothing did. A nil upload has no failure.
func (u *upload) failure() error {
	if u == nil {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err
}

// Close implements [io.Closer]. The server closes the body itself, at the end of
// the request: to close it here too could wait for what the server still reads.
func (u *upload) Close() error { return nil }

// refuseBody answers a client that is there and does not send what it said.
func (rp *reply) refuseBody(err error) {
	if rp.r.ProtoMajor == 1 {
		rp.w.Header()["Connection"] = []string{"close"} // where the next request begins is not known
	}
	if errors.Is(err, errStalled) {
		rp.refuse(http.StatusRequestTimeout, "slow_body", err.Error())
		return
	}
	rp.refuse(http.StatusBadRequest, reasonOfBody(rp.r), "the body of the request is malformed or cut short")
}

// reasonOfBody is the word for what is wrong with the body of a request.
func reasonOfBody(r *http.Request) string {
	if bad := h1.BodyFault(r); bad != nil {
		return string(bad.Why)
	}
	return "bad_body"
}

// maxUnread is how much of a body is read that means nothing, and unreadTime how
// long that may take.
const (
	maxUnread  = 64 << 10
	unreadTime = 10 * time.Second
)

// refuseUnread reads the body of a GET or HEAD request, which means nothing (RFC
// 9110 §9.3.1), before it is answered: so it is refused if it is malformed, and
// what is behind it is a request. It reports whether the request was refused;
// if not, the request has no body any more.
func refuseUnread(w http.ResponseWriter, r *http.Request) bool {
	if r.ProtoMajor != 1 || r.ContentLength == 0 || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	client := http.NewResponseController(w)
	_ = client.SetReadDeadline(time.Now().Add(unreadTime)) // where that cannot be, other limits hold
	n, err := io.CopyN(io.Discard, r.Body, maxUnread+1)
	switch {
	case errors.Is(err, io.EOF):
		_ = client.SetReadDeadline(time.Time{})
		doors.DropBody(r)
		return false
	case err == nil && n > maxUnread:
		refuseBody(w, r, http.StatusRequestEntityTooLarge, "body_size", "a request of this method has no use for such a body")
	default:
		refuseBody(w, r, http.StatusBadRequest, reasonOfBody(r), "the body of the request is malformed or cut short")
	}
	return true
}

func refuseBody(w http.ResponseWriter, r *http.Request, status int, word, text string) {
	w.Header().Set("Connection", "close") // where the next request begins is not known
	role.SetReason(w, r, word, text)
	http.Error(w, text, status)
}
