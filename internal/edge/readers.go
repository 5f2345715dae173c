package edge

import (
	"hash/maphash"
	"slices"
	"sync"
	"time"
)

// readers remember in which generation a connection reads a set, so that who
// has read summary.sig gets the summary that belongs to it, even when another
// generation is shown since. One that asks again for a file it has begins anew,
// with what is shown now. Safe for concurrent use; newReaders makes one.
type readers struct {
	seed   maphash.Seed
	shards [readerShards]readerShard
}

type readerShard struct {
	mu sync.Mutex
	m  map[readerKey]*reading
}

type readerKey struct {
	remote string
	set    *set
}

// reading is how far one is.
type reading struct {
	g    *generation
	at   time.Time
	seen []uint64 // hashes of the paths read
}

const (
	readerShards = 32
	// maxReaders bounds the readings in a shard; the oldest of a few is
	// forgotten.
	maxReaders = 1 << 11
	// readerHolds is how long after its last file a reader is still in the
	// middle.
	readerHolds = 30 * time.Second
	// maxSeen bounds the files of one reading.
	maxSeen = 24
)

func newReaders() *readers { return &readers{seed: maphash.MakeSeed()} }

func (r *readers) shard(remote string) *readerShard {
	return &r.shards[maphash.String(r.seed, remote)%readerShards]
}

// look returns the generation in which a file of the set is to be shown to the
// client: nil if there is none. With middle, it has read others of that
// generation a moment ago, and is to have this one from it even if it is not
// fresh any more.
func (r *readers) look(remote string, s *set, path string, now time.Time) (g *generation, middle bool) {
	current := s.current.Load()
	if remote == "" || current == nil {
		return current, false
	}
	shard := r.shard(remote)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	in := shard.m[readerKey{remote, s}]
	if in == nil || now.Sub(in.at) >= readerHolds || len(in.seen) >= maxSeen || slices.Contains(in.seen, maphash.String(r.seed, path)) {
		return current, false
	}
	return in.g, true
}

// note says that the file is shown to the client in this generation.
func (r *readers) note(remote string, s *set, g *generation, path string, now time.Time) {
	if remote == "" {
		return
	}
	name := maphash.String(r.seed, path)
	shard := r.shard(remote)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	key := readerKey{remote, s}
	in := shard.m[key]
	if in == nil {
		shard.makeRoom()
		in = new(reading)
		shard.m[key] = in
	}
	if in.g != g || len(in.seen) >= maxSeen || slices.Contains(in.seen, name) {
		in.g, in.seen = g, in.seen[:0]
	}
	in.seen, in.at = append(in.seen, name), now
}

// makeRoom forgets the oldest of a few readings if there are too many.
func (s *readerShard) makeRoom() {
	if s.m == nil {
		s.m = make(map[readerKey]*reading)
	}
	if len(s.m) < maxReaders {
		return
	}
	var oldest readerKey
	var at time.Time
	n := 0
	for key, in := range s.m { // maps are walked in random order
		if n == 0 || in.at.Before(at) {
			oldest, at = key, in.at
		}
		if n++; n == 8 {
			break
		}
	}
	delete(s.m, oldest)
}
