package edge

import (
	"sync"
	"time"

	"freshet/internal/edge/diskcache"
)

// memo remembers small things for a short time. Its bounds are hard: when it is
// full, it forgets something else. Safe for concurrent use.
type memo[V any] struct {
	max int
	// weigh, if not nil, is what a value takes, maxWeight what all of them may.
	weigh     func(V) int64
	maxWeight int64

	mu     sync.Mutex
	m      map[diskcache.ID]memoItem[V]
	weight int64
}

type memoItem[V any] struct {
	value  V
	until  time.Time
	weight int64
}

func (m *memo[V]) get(id diskcache.ID, now time.Time) (V, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	item, ok := m.m[id]
	if ok && !now.Before(item.until) {
		m.dropLocked(id)
		ok = false
	}
	if !ok {
		var zero V
		return zero, false
	}
	return item.value, true
}

func (m *memo[V]) put(id diskcache.ID, v V, now time.Time, d time.Duration) {
	item := memoItem[V]{value: v, until: now.Add(d)}
	if m.weigh != nil {
		item.weight = m.weigh(v)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.m == nil {
		m.m = make(map[diskcache.ID]memoItem[V])
	}
	m.dropLocked(id)
	if m.weigh != nil && item.weight > m.maxWeight/8 {
		return // it would cost too many others
	}
	if len(m.m) >= m.max || m.weigh != nil && m.weight+item.weight > m.maxWeight {
		m.shrink(now)
	}
	m.m[id] = item
	m.weight += item.weight
}

// shrink drops what is over, and at least an eighth of the number and the
// weight: maps are walked in random order.
func (m *memo[V]) shrink(now time.Time) {
	count, weight := m.max-m.max/8-1, m.maxWeight-m.maxWeight/8
	for id, item := range m.m {
		if len(m.m) > count || m.weigh != nil && m.weight > weight || !now.Before(item.until) {
			m.dropLocked(id)
		}
	}
}

func (m *memo[V]) dropLocked(id diskcache.ID) {
	m.weight -= m.m[id].weight
	delete(m.m, id)
}

func (m *memo[V]) drop(ids ...diskcache.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		m.dropLocked(id)
	}
}

func (m *memo[V]) clear() {
	m.mu.Lock()
	clear(m.m)
	m.weight = 0
	m.mu.Unlock()
}
