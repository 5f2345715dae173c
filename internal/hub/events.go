package hub

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/pause"
)

const (
	// maxWait bounds how long a long poll waits.
	maxWait = time.Minute
	// maxEvents bounds the events of one answer.
	maxEvents = 1000
	// pollPause is after how many seconds a client for which there was no place
	// to wait may ask again, for Retry-After.
	pollPause = "5"
	// firstVain and lastVain bound the pauses between looks in vain.
	firstVain = 5 * time.Millisecond
	lastVain  = 320 * time.Millisecond
)

// getEvents answers with the events after a serial. While there is none and
// the client wants to wait, it waits: for an event, the time asked for, or the
// end of the hub. When too many wait already, it is answered at once and asked
// to come back later: following then costs more requests, but goes on.
func (s *server) getEvents(w http.ResponseWriter, r *http.Request) error {
	after, limit, wait, err := eventsQuery(r.URL.Query())
	if err != nil {
		return err
	}
	report := s.reported(r, after)
	var page hubapi.EventPage
	if err := s.longPoll(w, r, wait, s.catalog.EventsChanged, func(ctx context.Context) (done bool, err error) {
		page, err = s.catalog.Events(ctx, after, limit)
		// A cursor beyond the head is of another log: there is nothing to wait for.
		return len(page.Events) > 0 || after > page.Head, err
	}); err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	page.Report = report
	writeJSON(w, http.StatusOK, page)
	return nil
}

// longPoll calls look, and again after each change, until it is done. It ends without
// that when the client has waited for so long, at once when there is no place to wait,
// and at the end of the hub. Looks in vain come with pauses that grow: there may be many
// changes, and clients that wait for others are not to be a load.
func (s *server) longPoll(w http.ResponseWriter, r *http.Request, wait time.Duration, next func() <-chan struct{}, look func(context.Context) (done bool, err error)) error {
	var timeout <-chan time.Time
	var vain time.Duration
	for {
		changed := next()
		if done, err := look(r.Context()); done || wait == 0 || err != nil {
			return err
		}
		if timeout == nil {
			leave, ok := s.pollers.enter(pollerKey(r.RemoteAddr))
			if !ok {
				w.Header().Set("Retry-After", pollPause)
				wait = 0
				continue
			}
			defer leave()
			timer := time.NewTimer(wait)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-changed:
			if vain > 0 {
				pause.For(r.Context(), vain)
			}
			vain = min(max(firstVain, 2*vain), lastVain)
		case <-timeout:
			wait = 0
		case <-s.stopping.Done():
			w.Header().Set("Connection", "close")
			wait = 0
		case <-r.Context().Done():
			return r.Context().Err()
		}
	}
}

func eventsQuery(query url.Values) (after int64, limit int, wait time.Duration, err error) {
	limit = hubapi.EventPageSize
	number := func(name string, to func(string) error) {
		if text := query.Get(name); err == nil && text != "" && to(text) != nil {
			err = problem(hubapi.ErrGeneric, "%s: %.40q makes no sense", name, text)
		}
	}
	number("after", func(s string) (err error) {
		if after, err = strconv.ParseInt(s, 10, 64); after < 0 {
			err = strconv.ErrRange
		}
		return err
	})
	number("limit", func(s string) (err error) {
		if limit, err = strconv.Atoi(s); limit < 1 {
			err = strconv.ErrRange
		}
		return err
	})
	number("wait", func(s string) (err error) {
		if wait, err = time.ParseDuration(s); wait < 0 {
			err = strconv.ErrRange
		}
		return err
	})
	return after, min(limit, maxEvents), min(wait, maxWait), err
}

// getEventPage answers with a page of the event log. A full page is the same
// for ever, byte for byte, and may be kept by every cache.
func (s *server) getEventPage(w http.ResponseWriter, r *http.Request) error {
	text := r.PathValue("n")
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != text {
		return notFound("event page", strconv.Quote(text))
	}
	page, full, err := s.catalog.EventPage(r.Context(), n)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Cache-Control", "no-cache")
	if full {
		h.Set("Cache-Control", immutable)
		etag := fmt.Sprintf(`"%s-%d"`, page.Log, n)
		h.Set("Etag", etag)
		if r.Header.Get("If-None-Match") == etag {
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
	}
	writeJSON(w, http.StatusOK, page)
	return nil
}
