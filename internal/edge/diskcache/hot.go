package diskcache

import "sync"

// hot keeps entries in memory that were used more than once. It is asked
// before the index, and the index says whether what it has is still right.
type hot struct {
	max    int64 // bytes of one shard
	shards [64]hotShard
}

type hotShard struct {
	mu    sync.RWMutex
	m     map[ID]*Entry
	bytes int64
}

func (h *hot) init(size int64) {
	h.max = size / int64(len(h.shards))
	for i := range h.shards {
		h.shards[i].m = make(map[ID]*Entry)
	}
}

func (h *hot) shard(id ID) *hotShard { return &h.shards[id[15]%64] }

func (h *hot) get(id ID) *Entry {
	if h.max <= 0 {
		return nil
	}
	s := h.shard(id)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.m[id]
}

// weight is about what an entry takes in memory.
func (e *Entry) weight() int64 { return 2048 + 2*int64(e.metaLen) + int64(len(e.body)+len(e.sums)) }

func (h *hot) put(e *Entry) {
	if h.max <= 0 || e.weight() > h.max/2 {
		return
	}
	s := h.shard(e.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.m[e.id]; old != nil {
		s.bytes -= old.weight()
	}
	s.m[e.id] = e
	s.bytes += e.weight()
	for id, other := range s.m { // in random order
		if s.bytes <= h.max {
			break
		}
		if other != e {
			delete(s.m, id)
			s.bytes -= other.weight()
		}
	}
}

func (h *hot) clear() {
	for i := range h.shards {
		s := &h.shards[i]
		s.mu.Lock()
		clear(s.m)
		s.bytes = 0
		s.mu.Unlock()
	}
}
