package hub

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/hub/deltas"
	"freshet/internal/ostree"
	"freshet/internal/pause"
	"freshet/internal/role"
)

// The protocol of flat-manager's own workers, versions 0.3 and 0.4: the worker opens
// a websocket and says how many deltas it makes at once; the hub asks for deltas; the
// worker pulls both commits with ostree, makes the delta with flatpak, uploads it
// in one request, and says that it has finished. It pings every 30 seconds.
// docs/formats/flat-manager-worker.md has the messages.

const (
	// socketSilence is how long a worker may say nothing, not even ping.
	socketSilence = time.Minute
	// socketPatience is how long a worker may make a delta without uploading any of it:
	// from pings nobody can tell whether it makes one.
	socketPatience = 6 * time.Hour
	// socketTokenCheck is how often the token of a worker is looked at again.
	socketTokenCheck = time.Minute
	// maxSocketCapacity bounds the deltas that one worker is given at once.
	maxSocketCapacity = 64
)

var errDisconnected = errors.New("the worker is disconnected")

// socketMessage is what a worker says: "Unregister", or an object with one of the
// keys.
type socketMessage struct {
	Register *struct {
		Capacity int `json:"capacity"`
	}
	Finished *struct {
		ID     uint32  `json:"id"`
		Errmsg *string `json:"errmsg"`
	}
	unregister bool
}

// UnmarshalJSON implements [json.Unmarshaler].
func (m *socketMessage) UnmarshalJSON(data []byte) error {
	var word string
	if json.Unmarshal(data, &word) == nil {
		m.unregister = word == "Unregister"
		return nil
	}
	type plain socketMessage
	return json.Unmarshal(data, (*plain)(m))
}

// socketRequest asks a worker for a delta.
type socketRequest struct {
	RequestDelta socketTask
}

type socketTask struct {
	ID    uint32      `json:"id"`
	URL   string      `json:"url"`
	Repo  string      `json:"repo"`
	Delta socketDelta `json:"delta"`
}

type socketDelta struct {
	From *string `json:"from"`
	To   string  `json:"to"`
}

// deltaSocket is the connection of a worker.
type deltaSocket struct {
	*server
	conn   *websocket.Conn
	worker deltas.Worker

	mu    sync.Mutex
	last  uint32
	tasks map[uint32]*socketWork
}

// socketWork is a delta that a worker was asked for.
type socketWork struct {
	lease *deltas.Lease
	ended chan struct{} // closed when the worker has finished
}

// openDeltaSocket gives the worker at the other end of a websocket deltas to make.
func (s *server) openDeltaSocket(w http.ResponseWriter, r *http.Request, claims *auth.Claims) error {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return problem(hubapi.ErrGeneric, "this is for flat-manager's delta workers, by websocket")
	}
	leave, ok := s.pollers.enter(pollerKey(r.RemoteAddr), "token "+bearer(claims))
	if !ok {
		w.Header().Set("Retry-After", pollPause)
		return problem(hubapi.ErrUnavailable, "too many workers of this address or token are connected already")
	}
	defer leave()
	silence := time.NewTimer(socketSilence)
	defer silence.Stop()
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		OnPingReceived: func(context.Context, []byte) bool { silence.Reset(socketSilence); return true },
	})
	if err != nil {
		role.SetReason(w, r, string(hubapi.ErrGeneric), err.Error())
		return nil // it is answered
	}
	defer func() { _ = conn.CloseNow() }()
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(r.Context()))
	defer cancel(nil)
	defer context.AfterFunc(s.stopping, func() { cancel(errors.New("the hub stops")) })() //nolint:contextcheck // it ends with the hub, too
	go func() {
		select {
		case <-silence.C:
			cancel(errors.New("the worker says nothing any more"))
		case <-ctx.Done():
		}
	}()
	d := &deltaSocket{server: s, conn: conn, tasks: make(map[uint32]*socketWork)}
	d.worker = s.remoteWorker(claims, workerName(claims, r.RemoteAddr), func(t deltas.Task) bool {
		return t.Build == 0 && s.gates[t.Repo] == nil // it fetches without its token
	})
	d.worker.TTL = socketPatience
	authorization := r.Header.Get("Authorization")
	go func() {
		err := watchToken(ctx, claims.ExpiresAt(), func() error {
			_, err := s.authority.Authenticate(ctx, authorization)
			return err
		})
		if err != nil {
			_ = conn.Close(websocket.StatusPolicyViolation, err.Message)
			cancel(err)
		}
	}()
	err = d.run(ctx, func() { silence.Reset(socketSilence) })
	s.log.InfoContext(ctx, "a delta worker of flat-manager's kind has gone", slog.String("worker", d.worker.Name), slog.Any("error", err))
	return nil
}

// watchToken waits until a token is not good any more, because it has expired or was
// revoked, and returns why; nil when ctx ends before. While that cannot be told, the
// token counts as good.
func watchToken(ctx context.Context, expires time.Time, good func() error) *auth.TokenError {
	for {
		// It is good in the second of its end.
		wait := min(socketTokenCheck, max(time.Second, time.Until(expires.Add(time.Second))))
		if !pause.For(ctx, wait) {
			return nil
		}
		if err, bad := errors.AsType[*auth.TokenError](good()); bad {
			return err
		}
	}
}

// run reads what the worker says until it is gone, and then gives back what it had.
func (d *deltaSocket) run(ctx context.Context, heard func()) error {
	var slots sync.WaitGroup
	connected, disconnect := context.WithCancel(ctx)
	asking, unregister := context.WithCancel(connected)
	defer func() {
		disconnect()
		unregister()
		slots.Wait()
	}()
	registered := false
	for {
		kind, data, err := d.conn.Read(ctx)
		if err != nil {
			return errors.Join(err, context.Cause(ctx))
		}
		heard()
		var message socketMessage
		if kind != websocket.MessageText || json.Unmarshal(data, &message) != nil {
			return d.conn.Close(websocket.StatusUnsupportedData, "this is no message of a delta worker")
		}
		switch {
		case message.Register != nil && !registered:
			registered = true
			capacity := min(max(1, message.Register.Capacity), maxSocketCapacity)
			d.log.InfoContext(ctx, "a delta worker of flat-manager's kind is here", slog.String("worker", d.worker.Name), slog.Int("capacity", capacity))
			for range capacity {
				slots.Go(func() { d.slot(connected, asking) })
			}
		case message.unregister:
			unregister()
		case message.Finished != nil:
			d.finished(message.Finished.ID, message.Finished.Errmsg)
		}
	}
}

// slot asks for one delta after the other.
func (d *deltaSocket) slot(connected, asking context.Context) {
	for {
		lease, err := d.deltas.Take(asking, d.worker)
		if err != nil {
			return
		}
		if _, err := d.makers[lease.Task.Repo].folder(lease); err != nil {
			d.end(lease, err)
			return
		}
		id, work := d.begin(lease)
		if d.request(connected, id, lease.Task) != nil { // it does not know of it
			_ = d.giveBack(lease, "") // or nobody wants it any more
			return
		}
		select {
		case <-work.ended:
		case <-connected.Done():
			d.end(lease, errDisconnected)
			return
		}
	}
}

// end gives a delta to somebody else, unless the worker has handed it in.
func (d *deltaSocket) end(lease *deltas.Lease, why error) {
	if !lease.Judged() {
		_ = d.giveBack(lease, why.Error()) // or nobody wants it any more
	}
}

func (d *deltaSocket) begin(lease *deltas.Lease) (uint32, *socketWork) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last++
	work := &socketWork{lease: lease, ended: make(chan struct{})}
	d.tasks[d.last] = work
	return d.last, work
}

func (d *deltaSocket) request(ctx context.Context, id uint32, t deltas.Task) error {
	task := socketTask{ID: id, URL: d.base + sourcePath(t), Repo: t.Repo, Delta: socketDelta{To: t.Name.To.String()}}
	if from := hexOf(t.Name.From); from != "" {
		task.Delta.From = &from
	}
	data, err := json.Marshal(socketRequest{task})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, socketSilence)
	defer cancel()
	return d.conn.Write(ctx, websocket.MessageText, data)
}

// finished takes the end of a task, and judges what was uploaded.
func (d *deltaSocket) finished(id uint32, failure *string) {
	d.mu.Lock()
	work := d.tasks[id]
	delete(d.tasks, id)
	d.mu.Unlock()
	if work == nil {
		return // it was not asked for
	}
	defer close(work.ended)
	if failure != nil {
		d.end(work.lease, errors.New(*failure))
		return
	}
	// A verdict takes a while, and the worker does not ask for it.
	go func() { _ = d.judge(work.lease, time.Since(work.lease.Since).Seconds()) }()
}

// uploadDeltaFiles stores the files of deltas that workers of flat-manager's kind
// were asked for.
func (s *server) uploadDeltaFiles(w http.ResponseWriter, r *http.Request, claims *auth.Claims, repo string) error {
	sizes, err := s.receiveDelta(w, r, func(name ostree.DeltaName) (*deltas.Lease, error) {
		lease, err := s.deltas.Held(repo, name)
		if err == nil && lease.Owner != bearer(claims) {
			err = deltas.ErrLeaseLost
		}
		if err != nil {
			return nil, refuse("nobody with this token is asked for delta %s", name)
		}
		return lease, nil
	})
	if err != nil {
		return leaseProblem(err)
	}
	if len(sizes) == 0 {
		return problem(hubapi.ErrGeneric, "there is no file of a delta in it")
	}
	writeJSON(w, http.StatusOK, sizes)
	return nil
}
