package hub_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"freshet/internal/auth"
	"freshet/internal/hub/deltas"
	"freshet/internal/ostree"
	"freshet/internal/peertest"
)

// oldWorker is a worker that speaks flat-manager's protocol.
type oldWorker struct {
	h    *runningHub
	conn *websocket.Conn
}

// oldRequest is what such a worker is told.
type oldRequest struct {
	RequestDelta struct {
		ID    uint32
		URL   string
		Repo  string
		Delta struct {
			From *string
			To   string
		}
	}
}

func (h *runningHub) oldWorker(capacity string) *oldWorker {
	h.t.Helper()
	return h.oldWorkerWith(deltaClaims(), capacity)
}

func (h *runningHub) oldWorkerWith(claims auth.Claims, capacity string) *oldWorker {
	h.t.Helper()
	conn, _, err := websocket.Dial(h.t.Context(), strings.Replace(h.base, "http", "ws", 1)+"/api/v1/delta/worker", &websocket.DialOptions{
		HTTPClient: h.client, HTTPHeader: http.Header{"Authorization": {"Bearer " + h.token(claims)}},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = conn.CloseNow() })
	w := &oldWorker{h, conn}
	w.say(`{"Register":{"capacity":` + capacity + `}}`)
	return w
}

func (w *oldWorker) say(text string) {
	w.h.t.Helper()
	if err := w.conn.Write(w.h.t.Context(), websocket.MessageText, []byte(text)); err != nil {
		w.h.t.Fatal(err)
	}
}

func (w *oldWorker) hear() (request oldRequest) {
	w.h.t.Helper()
	ctx, cancel := context.WithTimeout(w.h.t.Context(), patience)
	defer cancel()
	_, data, err := w.conn.Read(ctx)
	if err == nil {
		err = json.Unmarshal(data, &request)
	}
	if err != nil {
		w.h.t.Fatalf("%s: %v", data, err)
	}
	return request
}

// upload makes a delta and sends it as such a worker does.
func (w *oldWorker) upload(request oldRequest, dir string) answer {
	h := w.h
	h.t.Helper()
	name := ostree.DeltaName{To: commitOf(h.t, request.RequestDelta.Delta.To)}
	if from := request.RequestDelta.Delta.From; from != nil {
		name.From = commitOf(h.t, *from)
	}
	if dir == "" {
		dir = h.t.TempDir()
		source, err := deltas.OpenSource(filepath.Join(h.cfg.Dir, "repos", "stable"))
		if err != nil {
			h.t.Fatal(err)
		}
		native, err := deltas.OpenEngine(deltas.EngineNative)
		if err != nil {
			h.t.Fatal(err)
		}
		if _, err := native.Make(h.t.Context(), source, name, dir); err != nil {
			h.t.Fatal(err)
		}
	}
	var parts []part
	for _, entry := range entries(h.t, dir) {
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			h.t.Fatal(err)
		}
		parts = append(parts, part{name.String() + "." + entry.Name() + ".delta", data})
	}
	return h.upload("/api/v1/delta/upload/"+request.RequestDelta.Repo, h.token(deltaClaims()), "form-data", parts...)
}

// A worker of flat-manager makes deltas: they are verified, failures are given to
// others, and so is what a worker had whose connection broke.
func TestDeltaSocket(t *testing.T) {
	peertest.Require(t, "xz")
	h := remoteHub(t, 2)
	h.publishAll("stable", app(t, "org.test.Hello", "v1"))
	v1 := h.head(helloRef)
	w := h.oldWorker("2")
	first := w.hear()
	if r := first.RequestDelta; r.Repo != "stable" || r.Delta.From != nil || r.Delta.To != v1 || r.URL != h.base+"/repo/stable/" {
		t.Errorf("asked for %+v", first)
	}
	if q := h.queue(); len(q) != 1 || !strings.HasPrefix(q[0].Worker, "farm/") {
		t.Errorf("queue %+v", q)
	}
	// Nothing was uploaded.
	w.say(`{"Finished":{"id":1,"errmsg":null}}`)
	second := w.hear()
	if second.RequestDelta.ID != 2 || second.RequestDelta.Delta.To != v1 {
		t.Errorf("asked for %+v", second)
	}
	if a := w.upload(second, ""); a.status != http.StatusOK {
		t.Fatalf("upload: %d %s", a.status, a.body)
	}
	w.say(`{"Finished":{"id":2,"errmsg":null}}`)
	h.eventually("the delta", func() bool { return h.deltasTo(v1)[""] })
	h.verifyDelta(ostree.DeltaName{To: commitOf(t, v1)})
	if a := w.upload(second, ""); a.status != http.StatusBadRequest || !strings.Contains(string(a.body), "nobody") {
		t.Errorf("uploaded again: %d %s", a.status, a.body)
	}

	h.publishAll("stable", app(t, "org.test.Hello", "v2"))
	v2 := h.head(helloRef)
	one, other := w.hear(), w.hear()
	if one.RequestDelta.Delta.From == nil {
		one, other = other, one
	}
	if one.RequestDelta.Delta.From == nil || *one.RequestDelta.Delta.From != v1 || other.RequestDelta.Delta.From != nil {
		t.Errorf("asked for %+v and %+v", one, other)
	}
	w.say(`"Unregister"`)
	w.say(`{"Finished":{"id":` + string(rune('0'+one.RequestDelta.ID)) + `,"errmsg":"no luck"}}`)
	_ = w.conn.CloseNow() // with the other one
	for range 2 {
		w := h.oldWorker("1")
		request := w.hear()
		if a := w.upload(request, ""); a.status != http.StatusOK {
			t.Fatalf("upload: %d %s", a.status, a.body)
		}
		w.say(`{"Finished":{"id":1,"errmsg":null}}`)
		from := ""
		if f := request.RequestDelta.Delta.From; f != nil {
			from = *f
		}
		h.eventually("the delta from "+from, func() bool {
			for _, q := range h.queue() {
				if q.From == from {
					return false
				}
			}
			return true
		})
		_ = w.conn.CloseNow()
	}
	h.eventually("both deltas", func() bool { return len(h.deltasTo(v2)) == 2 })
	h.verifyDelta(ostree.DeltaName{To: commitOf(t, v2)})
	h.verifyDelta(ostree.DeltaName{From: commitOf(t, v1), To: commitOf(t, v2)})
}

// A worker whose token ends is disconnected, whatever it says, and what it had goes to
// others.
func TestDeltaSocketToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := remoteHub(t, 1)
		h.publishAll("stable", app(t, "org.test.Hello", "v1"))
		claims := deltaClaims()
		claims.Expires = time.Now().Add(10 * time.Second).Unix()
		w := h.oldWorkerWith(claims, "1")
		w.hear()
		if q := h.queue(); len(q) != 1 || !q[0].Making {
			t.Errorf("queue %+v", q)
		}
		_, _, err := w.conn.Read(t.Context())
		if websocket.CloseStatus(err) != websocket.StatusPolicyViolation || !strings.Contains(err.Error(), "expired") {
			t.Errorf("after its end: %v", err)
		}
		h.eventually("the delta is free again", func() bool { q := h.queue(); return len(q) == 1 && !q[0].Making })
		_ = w.conn.CloseNow()
		h.stop()
	})
}

// One worker after the other takes a place, which it gives back when it goes.
func TestDeltaSocketPlaces(t *testing.T) {
	h := remoteHub(t, 1)
	var all []*oldWorker
	const places = 64
	for range places {
		all = append(all, h.oldWorker("1"))
	}
	full := func() bool {
		conn, response, err := websocket.Dial(t.Context(), strings.Replace(h.base, "http", "ws", 1)+"/api/v1/delta/worker", &websocket.DialOptions{
			HTTPClient: h.client, HTTPHeader: http.Header{"Authorization": {"Bearer " + h.token(deltaClaims())}},
		})
		if err == nil {
			_ = conn.CloseNow()
			return false
		}
		if response == nil || response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
			t.Fatalf("one more: %v, %+v", err, response)
		}
		return true
	}
	if !full() {
		t.Error("there is a place for one more")
	}
	_ = all[0].conn.CloseNow()
	h.eventually("a place", func() bool { return !full() })
}

// Only workers get the socket.
func TestDeltaSocketRights(t *testing.T) {
	h := remoteHub(t, 1)
	a := h.get("/api/v1/delta/worker", "Authorization", "Bearer "+h.token(everything()))
	if a.status != http.StatusForbidden {
		t.Errorf("without the scope: %d %s", a.status, a.body)
	}
	a = h.get("/api/v1/delta/worker", "Authorization", "Bearer "+h.token(deltaClaims()))
	if a.status != http.StatusBadRequest {
		t.Errorf("without a websocket: %d %s", a.status, a.body)
	}
	if a := h.upload("/api/v1/delta/upload/beta", h.token(deltaClaims()), "form-data", part{"x", nil}); a.status != http.StatusForbidden {
		t.Errorf("another repository: %d %s", a.status, a.body)
	}
	w := h.oldWorker("1")
	w.say("nonsense")
	if _, _, err := w.conn.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusUnsupportedData {
		t.Errorf("after nonsense: %v", err)
	}
}
