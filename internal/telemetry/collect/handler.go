package collect

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"freshet/api/watchapi"
)

// maxBody is how long a compressed batch may be.
const maxBody = 32 << 20

// Handler takes batches over HTTP at [watchapi.BatchesPath].
type Handler struct {
	Ledger Ledger
	// Node returns the node whose token a request has; false: it has none that is good.
	Node func(*http.Request) (string, bool)
	// Log is told what cannot be kept. Nil: nothing.
	Log *slog.Logger
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.URL.Path != watchapi.BatchesPath {
		refuse(w, http.StatusNotFound, "not_found", errors.New("batches are posted to "+watchapi.BatchesPath))
		return
	}
	node, ok := h.Node(r)
	if !ok {
		refuse(w, http.StatusUnauthorized, watchapi.ReasonUnauthorized, errors.New("the token is missing or not good"))
		return
	}
	id, err := parseID(r.Header.Get(watchapi.BatchHeader))
	if err != nil {
		refuse(w, http.StatusBadRequest, watchapi.ReasonMalformed, err)
		return
	}
	if id.Node != node {
		refuse(w, http.StatusForbidden, watchapi.ReasonForbidden, fmt.Errorf("the token is that of %q", node))
		return
	}
	ack, err := h.Ledger.Apply(r.Context(), id, http.MaxBytesReader(w, r.Body, maxBody), time.Now())
	if err != nil {
		h.fail(w, r, err)
		return
	}
	if ms, err := strconv.ParseInt(r.Header.Get(watchapi.SentHeader), 10, 64); err == nil && !ack.Known {
		if err := h.Ledger.Clock(r.Context(), node, time.UnixMilli(ms), time.Now()); err != nil && h.Log != nil {
			h.Log.WarnContext(r.Context(), "the clock of a node is not noted", slog.Any("error", err)) // the batch is
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(ack) // who has left sends it again
}

func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	status, reason := http.StatusInternalServerError, watchapi.ReasonInternal
	_, long := errors.AsType[*http.MaxBytesError](err)
	switch {
	case long || errors.Is(err, watchapi.ErrTooLarge):
		status, reason = http.StatusRequestEntityTooLarge, watchapi.ReasonTooLarge
	case errors.Is(err, watchapi.ErrVersion):
		status, reason = http.StatusBadRequest, watchapi.ReasonVersion
	case errors.Is(err, watchapi.ErrMalformed), errors.Is(err, ErrOther):
		status, reason = http.StatusBadRequest, watchapi.ReasonMalformed
	case errors.Is(err, ErrFuture):
		status, reason = http.StatusUnprocessableEntity, watchapi.ReasonFuture
	case errors.Is(err, ErrOverlap):
		status, reason = http.StatusConflict, watchapi.ReasonOverlap
	default:
		if h.Log != nil {
			h.Log.ErrorContext(r.Context(), "a batch of telemetry cannot be kept", slog.Any("error", err))
		}
		err = errors.New("the batch cannot be kept now") // why is for the log
	}
	refuse(w, status, reason, err)
}

func refuse(w http.ResponseWriter, status int, reason string, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(watchapi.Error{Reason: reason, Message: err.Error()}) // the client has left
}

// parseID reads the text of an ID.
func parseID(text string) (id watchapi.ID, err error) {
	parts := strings.Split(text, "/")
	if len(parts) == 3 {
		first, last, ok := strings.Cut(parts[2], "-")
		id.Node, id.Epoch = parts[0], parts[1]
		var errFirst, errLast error
		id.First, errFirst = strconv.ParseInt(first, 10, 64)
		id.Last, errLast = strconv.ParseInt(last, 10, 64)
		if ok && errFirst == nil && errLast == nil {
			return id, nil
		}
	}
	return id, fmt.Errorf("%s: want NODE/EPOCH/FIRST-LAST, got %.200q", watchapi.BatchHeader, text)
}
