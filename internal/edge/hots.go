package edge

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

const (
	// hotBytes bounds the memory for what is hot.
	hotBytes = 64 << 20
	// hotBody is about the longest body that is kept with its entry.
	hotBody = 64 << 10
	// hotCost is what one costs besides its strings and body.
	hotCost = 1 << 10
)

// hots finds what is hot by host and target. It forgets by halves: when the new
// half is full it becomes the old one, and what is used in the old one goes
// over to the new one. Safe for concurrent use.
//
// Every hit looks here, on all processors, and most of its time it waits for
// memory. So to find takes no lock and writes nothing: a processor need not wait
// for another one, and goes on to fetch what it finds before it is sure of it.
type hots struct {
	seed     maphash.Seed
	new, old atomic.Pointer[hotTable]
	entered  atomic.Int64 // how often something was

	mu    sync.Mutex // held by who changes anything
	bytes int64      // of new
}

func newHots() *hots {
	t := &hots{seed: maphash.MakeSeed()}
	t.new.Store(newHotTable(hotSlots))
	t.old.Store(newHotTable(hotSlots))
	return t
}

func (t *hots) get(key []byte) *hot {
	sum := maphash.Bytes(t.seed, key)
	if h := t.new.Load().find(sum, key); h != nil {
		return h
	}
	h := t.old.Load().find(sum, key)
	if h != nil {
		t.enter(h)
	}
	return h
}

// put enters h, which nobody else knows yet, in place of the one with its key.
func (t *hots) put(h *hot) {
	h.sum = maphash.String(t.seed, h.key)
	t.enter(h)
}

func (t *hots) enter(h *hot) {
	// A short body is in memory with its entry.
	cost := int64(hotCost+2*len(h.key)) + h.weight
	t.mu.Lock()
	defer t.mu.Unlock()
	table := t.new.Load()
	if t.bytes+cost > hotBytes/2 {
		t.old.Store(table)
		table, t.bytes = newHotTable(hotSlots), 0
		t.new.Store(table)
	}
	if table.used*hotSpread >= len(table.slots) {
		table = table.grown()
		t.new.Store(table)
	}
	table.enter(h)
	t.bytes += cost
	t.entered.Add(1)
}

const (
	// hotSlots is the size of the smallest table, a power of two.
	hotSlots = 256
	// hotSpread is how many slots there are, at least, for each that is used: so
	// many that the first one looked at is the right one most of the time.
	hotSpread = 4
)

// hotTable is a hash table with open addressing, to which [hots.mu] lets one
// enter at a time while others look. A slot that is used stays so.
type hotTable struct {
	slots []atomic.Pointer[hot]
	used  int
}

func newHotTable(slots int) *hotTable { return &hotTable{slots: make([]atomic.Pointer[hot], slots)} }

// find returns the one with the key, and its hash; nil if there is none.
func (t *hotTable) find(sum uint64, key []byte) *hot {
	for i := sum; ; i++ {
		h := t.slots[i&uint64(len(t.slots)-1)].Load()
		if h == nil || h.sum == sum && h.key == string(key) {
			return h
		}
	}
}

func (t *hotTable) enter(h *hot) {
	for i := h.sum; ; i++ {
		slot := &t.slots[i&uint64(len(t.slots)-1)]
		was := slot.Load()
		if was == nil {
			t.used++
		}
		if was == nil || was.key == h.key {
			slot.Store(h)
			return
		}
	}
}

// grown returns a table of twice the size with the same in it.
func (t *hotTable) grown() *hotTable {
	g := newHotTable(2 * len(t.slots))
	for i := range t.slots {
		if h := t.slots[i].Load(); h != nil {
			g.enter(h)
		}
	}
	return g
}
