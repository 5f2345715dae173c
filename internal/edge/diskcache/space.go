package diskcache

import (
	"errors"
	"sync"
)

// Pools have shares of the store; queues are those of S3-FIFO.
const (
	poolFixed = iota
	poolChangeable
	pools

	queueNew  = 0 // seen once
	queueMain = 1 // used again, or come back
	queues    = 2
)

func poolOf(m *Meta) uint8 {
	if m.Fixed && !m.Index {
		return poolFixed
	}
	return poolChangeable
}

// ErrFull says that there is no room even after evicting everything that may
// be evicted.
var ErrFull = errors.New("store is full")

// space counts what the store takes on the disk: what is there, and what was
// promised to writers. It never exceeds the limit.
type space struct {
	mu    sync.Mutex
	size  int64 // as configured
	limit int64 // less than size while the disk has less
	used  int64
	own   int64 // part of used: the files of the index
	// promised is what writers have reserved.
	promised int64
	pools    [pools]int64
	// share is what a pool may take however much the other wants.
	share [pools]int64
	// queues is what lies in each queue, files included.
	queues [pools][queues]int64
	// margin is kept free for what eviction copies.
	margin int64
}

// take counts n more bytes if there is room for them.
func (sp *space) take(pool uint8, n int64) bool {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.used+n > sp.limit-sp.margin {
		return false
	}
	sp.used += n
	sp.pools[pool] += n
	return true
}

// promise counts what a writer has, of what was taken for it.
func (sp *space) promise(n int64) {
	sp.mu.Lock()
	sp.promised += n
	sp.mu.Unlock()
}

// hopeless reports whether n more bytes do not fit beside what the other
// writers have, whatever is evicted.
func (sp *space) hopeless(n int64) bool {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.promised+sp.own+n > sp.limit-sp.margin
}

// add counts what is there already, or is copied by an eviction.
func (sp *space) add(pool uint8, n int64) {
	sp.mu.Lock()
	sp.used += n
	sp.pools[pool] += n
	sp.mu.Unlock()
}

// free counts what is gone, or was not needed.
func (sp *space) free(pool uint8, n int64) { sp.add(pool, -n) }

// overhead counts bytes of the store's own files.
func (sp *space) overhead(n int64) {
	sp.mu.Lock()
	sp.used += n
	sp.own += n
	sp.mu.Unlock()
}

// move counts what enters and leaves queues.
func (sp *space) move(pool, queue uint8, n int64) {
	sp.mu.Lock()
	sp.queues[pool][queue] += n
	sp.mu.Unlock()
}

// lacks says how far n more bytes of a pool are above what may be used.
func (sp *space) lacks(n int64) int64 {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.used + n - (sp.limit - sp.margin)
}

// victim chooses the queue that gives way to n bytes of a pool: the pool itself
// once it has its share, else the other, which then has more than its own. Of
// the pool, the new ones go while they are more than a tenth.
func (sp *space) victim(pool uint8, n int64, empty [pools][queues]bool) (p, q uint8, ok bool) {
	none := func(p uint8) bool { return empty[p][queueNew] && empty[p][queueMain] }
	other := 1 - pool
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if p = pool; sp.pools[pool]+n <= sp.shareLocked(pool) && !none(other) || none(pool) {
		p = other
	}
	if none(p) {
		return 0, 0, false
	}
	fresh, main := sp.queues[p][queueNew], sp.queues[p][queueMain]
	if empty[p][queueMain] || fresh*10 >= fresh+main && !empty[p][queueNew] {
		return p, queueNew, true
	}
	return p, queueMain, true
}

// shareLocked is a pool's share of what there is at present.
func (sp *space) shareLocked(pool uint8) int64 {
	return int64(float64(sp.share[pool]) * (float64(sp.limit) / float64(sp.size)))
}

// larger is the pool that has more than its share.
func (sp *space) larger() uint8 {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.pools[poolChangeable] > sp.shareLocked(poolChangeable) {
		return poolChangeable
	}
	return poolFixed
}

// stat returns what is used, and the limit.
func (sp *space) stat() (used, limit int64) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.used, sp.limit
}

// statPools returns what each pool has.
func (sp *space) statPools() (out [pools]Pool) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	for p, name := range [pools]string{poolFixed: "payload", poolChangeable: "metadata"} {
		out[p] = Pool{name, sp.pools[p], sp.shareLocked(uint8(p))}
	}
	return out
}

// setLimit changes the limit, within the size.
func (sp *space) setLimit(n int64) {
	sp.mu.Lock()
	sp.limit = min(max(n, 0), sp.size)
	sp.mu.Unlock()
}
