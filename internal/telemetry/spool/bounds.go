package spool

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"time"

	"freshet/api/watchapi"
)

const (
	// mergeLines is how many lines a merged batch may have, and mergeBatches of how many it
	// is made at once.
	mergeLines   = 40_000
	mergeBatches = 256
)

// Reasons why batches are dropped.
const (
	reasonFull = "spool_full"
	reasonOld  = "too_old"
	// reasonRefused: a watch does not want it, or it cannot be read.
	reasonRefused = "refused"
)

// errEnough ends the reading of a batch.
var errEnough = errors.New("enough")

// idOf reads the ID of a batch.
func idOf(body []byte) (id watchapi.ID, err error) {
	err = Decode(bytes.NewReader(body), func(h watchapi.Head) error { id = h.ID; return errEnough }, nil)
	if errors.Is(err, errEnough) {
		err = nil
	}
	return id, err
}

// doomed is a batch that is to be dropped, and what the next one tells of that.
type doomed struct {
	item
	told []watchapi.Line
}

// gone are the lines that tell that a batch, which counts the sum, is not delivered. What it
// told of others is told again.
func (it item) gone(reason string, sum *Sum) []watchapi.Line {
	requests, bytes := sum.Served()
	return append(sum.droppedLines(), watchapi.Line{Dropped: &watchapi.Dropped{
		Reason: reason, Batches: it.last - it.first + 1, Requests: requests, Bytes: bytes,
	}})
}

// makeRoom makes room in a spool that has come to its bounds, as far as that can be done
// without losing anything, and returns which batches are to be dropped as soon as it is
// durable that they are. The oldest batch is never touched: a watch may have it already.
func (s *Spool) makeRoom(now time.Time) []doomed {
	for len(s.items) > s.o.Files && s.merge(false) {
	}
	room := s.o.Bytes
	if s.bytes > room {
		room -= room / 8 // lest it is done again for each batch
	}
	for s.bytes > room && (s.merge(false) || s.merge(true)) {
	}
	var list []doomed
	over := s.bytes - room
	for _, it := range s.items[min(1, len(s.items)):] {
		// Reading is spared while the whole epoch is young.
		if over <= 0 && now.Sub(it.made()) <= s.o.Age || len(list) == mergeBatches {
			break
		}
		var sum Sum
		head, err := s.read(it, &sum)
		reason := reasonFull
		if err == nil && now.Sub(time.UnixMilli(head.Ended)) > s.o.Age {
			reason = reasonOld
		} else if over <= 0 {
			break
		}
		over -= it.size
		list = append(list, doomed{it, it.gone(reason, &sum)})
	}
	return list
}

// drop removes batches of which the newest one tells that they are gone.
func (s *Spool) drop(list []doomed) {
	for _, d := range list {
		i := slices.Index(s.items, d.item)
		if i < 0 {
			continue
		}
		if err := s.dir.Remove(d.name()); err != nil {
			s.o.Log.Error("a batch of telemetry cannot be dropped", slog.Any("error", err))
		}
		s.forget(i)
		last := d.told[len(d.told)-1].Dropped // the batch itself
		s.dropped.Batches++
		s.dropped.Requests += last.Requests
		s.dropped.Bytes += last.Bytes
	}
}

// read adds a batch to a sum.
func (s *Spool) read(it item, to *Sum) (h watchapi.Head, err error) {
	f, err := s.dir.Root.Open(it.name())
	if err != nil {
		return h, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	err = Decode(f, func(head watchapi.Head) error { h = head; return nil }, func(l watchapi.Line) error { to.Add(l); return nil })
	return h, err
}

// merge makes one batch of the oldest that follow one another but the very oldest, or, if
// coarse, makes the minutes of one hours. It reports whether there is less than before.
func (s *Spool) merge(coarse bool) bool {
	for i := 1; i < len(s.items); i++ {
		if coarse && s.items[i].coarse || !coarse && s.items[i].full {
			continue
		}
		var sum Sum
		head, err := s.read(s.items[i], &sum)
		if err != nil {
			s.items[i].full, s.items[i].coarse = true, true // it is set aside when its time comes
			continue
		}
		n := 1
		for !coarse && n < mergeBatches && i+n < len(s.items) && s.items[i+n].follows(s.items[i+n-1]) && !s.items[i+n].full {
			if sum.Len() > mergeLines {
				break
			}
			next, err := s.read(s.items[i+n], &sum)
			if err != nil || next.Node != head.Node {
				n = 0 // what was read of it is in the sum
				break
			}
			head.Last, head.Ended = next.Last, next.Ended
			n++
		}
		if !coarse && n < 2 {
			s.items[i].full = true
			continue
		}
		if coarse {
			sum.Coarsen()
		}
		if s.replace(i, n, head, &sum, coarse) {
			return true
		}
	}
	return false
}

func (it item) follows(other item) bool { return it.epoch == other.epoch && it.first == other.last+1 }

// replace puts one batch into the place of n others, from the i-th on.
func (s *Spool) replace(i, n int, head watchapi.Head, sum *Sum, coarse bool) bool {
	old := s.items[i : i+n]
	it := item{epoch: head.Epoch, first: head.First, last: head.Last, coarse: coarse, full: sum.Len() > mergeLines}
	body, err := Encode(head, sum.Lines())
	if err == nil {
		err = s.dir.WriteFile(it.name(), body, 0o600)
	}
	if err != nil {
		s.o.Log.Error("batches of telemetry cannot be merged", slog.Any("error", err))
		for j := range old {
			old[j].full, old[j].coarse = true, true
		}
		return false
	}
	it.size = int64(len(body))
	for _, o := range old {
		s.bytes -= o.size
		if o.name() == it.name() {
			continue // it was replaced
		}
		if err := s.dir.Remove(o.name()); err != nil {
			s.o.Log.Warn("a batch of telemetry that was merged cannot be removed", slog.Any("error", err))
		}
	}
	s.bytes += it.size
	s.items = append(s.items[:i+1], s.items[i+n:]...)
	s.items[i] = it
	return true
}
