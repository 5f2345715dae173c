package edge

import (
	"sync"
	"time"

	"freshet/internal/edge/diskcache"
)

// memo remembers small things for a short time. Its bound is hard: when it is
// full, it forgets something else. Safe for concurrent use.
type memo[V any] struct {
	max int

	mu sync.Mutex
	m  map[diskcache.ID]memoItem[V]
}

type memoItem[V any] struct {
	value V
	until time.Time
}

func (m *memo[V]) get(id diskcache.ID, now time.Time) (V, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	item, ok := m.m[id]
	if ok && !now.Before(item.until) {
		delete(m.m, id)
		ok = false
	}
	if !ok {
		var zero V
		return zero, false
	}
	return item.value, true
}

func (m *memo[V]) put(id diskcache.ID, v V, now time.Time, d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.m == nil {
		m.m = make(map[diskcache.ID]memoItem[V])
	}
	if _, known := m.m[id]; !known && len(m.m) >= m.max {
		m.shrink(now)
	}
	m.m[id] = memoItem[V]{v, now.Add(d)}
}

// shrink drops what is over, and at least an eighth: maps are walked in random
// order.
func (m *memo[V]) shrink(now time.Time) {
	drop := m.max/8 + 1
	for id, item := range m.m {
		if drop > 0 || !now.Before(item.until) {
			delete(m.m, id)
			drop--
		}
	}
}

func (m *memo[V]) drop(id diskcache.ID) {
	m.mu.Lock()
	delete(m.m, id)
	m.mu.Unlock()
}

func (m *memo[V]) clear() {
	m.mu.Lock()
	clear(m.m)
	m.mu.Unlock()
}
