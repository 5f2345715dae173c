package diskcache

import "container/list"

// s3fifo decides what is evicted (S3-FIFO, Yang et al., SOSP 2023): new
// entries pass through a small queue of a tenth of the bytes; those used again
// there go on to the main queue, the others leave, and are remembered for a
// while so that a second coming goes to the main queue at once.
//
// All methods need Store.mu, only Entry.touch does not.
type s3fifo struct {
	fresh, main           list.List // of *Entry, newest first
	freshBytes, mainBytes int64
	ghosts                map[ID]*list.Element
	ghostOrder            list.List // of ID, newest first
}

func (q *s3fifo) init() { q.ghosts = make(map[ID]*list.Element) }

func (q *s3fifo) insert(e *Entry) {
	if g, known := q.ghosts[e.id]; known {
		q.ghostOrder.Remove(g)
		delete(q.ghosts, e.id)
		q.toMain(e)
		return
	}
	e.inNew = true
	e.elem = q.fresh.PushFront(e)
	q.freshBytes += e.cost
}

func (q *s3fifo) toMain(e *Entry) {
	e.inNew = false
	e.elem = q.main.PushFront(e)
	q.mainBytes += e.cost
}

func (q *s3fifo) remove(e *Entry) {
	if e.elem == nil {
		return
	}
	if e.inNew {
		q.fresh.Remove(e.elem)
		q.freshBytes -= e.cost
	} else {
		q.main.Remove(e.elem)
		q.mainBytes -= e.cost
	}
	e.elem = nil
}

// evict removes and returns the next entry to go, nil if there is none.
func (q *s3fifo) evict() *Entry {
	for {
		last := q.fresh.Back()
		if last == nil || q.main.Len() > 0 && q.freshBytes*10 < q.freshBytes+q.mainBytes {
			return q.evictMain()
		}
		e := last.Value.(*Entry)
		q.remove(e)
		if e.freq.Swap(0) > 0 {
			q.toMain(e)
			continue
		}
		q.ghosts[e.id] = q.ghostOrder.PushFront(e.id)
		for q.ghostOrder.Len() > q.fresh.Len()+q.main.Len()+16 {
			delete(q.ghosts, q.ghostOrder.Remove(q.ghostOrder.Back()).(ID))
		}
		return e
	}
}

// evictMain gives each entry as many further rounds as it was used, at most
// three, so it ends.
func (q *s3fifo) evictMain() *Entry {
	for last := q.main.Back(); last != nil; last = q.main.Back() {
		e := last.Value.(*Entry)
		if n := e.freq.Load(); n > 0 {
			e.freq.Store(n - 1)
			q.main.MoveToFront(last)
			continue
		}
		q.remove(e)
		return e
	}
	return nil
}
