package edge

import (
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"freshet/internal/roots"
)

// readers remember in which generation a connection reads a set, so that who
// has read summary.sig gets the summary that belongs to it, even when another
// generation is shown since. One that asks again for a file it has begins anew,
// with what is shown now. Safe for concurrent use; newReaders makes one.
//
// A connection may carry several requests at the same time, whose answers belong
// together as well: what [readers.look] said holds only if [readers.note] agrees.
type readers struct {
	seed   maphash.Seed
	shards [readerShards]readerShard
}

type readerShard struct {
	mu     sync.Mutex
	m      map[readerKey]*reading
	rounds uint64 // how many readings began
}

type readerKey struct {
	remote string
	set    *set
}

// reading is how far one is.
type reading struct {
	g         *generation
	round     uint64 // no other reading has it
	begun, at time.Time
	seen      []uint64 // hashes of the paths read: of all roots, and of the first members
}

// place is where a client stands in a set.
type place struct {
	// g is the generation in which a file is to be shown: nil if there is none.
	g *generation
	// middle: others of that generation were read a moment ago, and this one is to
	// be from it even if it is not fresh any more.
	middle bool
	round  uint64 // of the reading, 0 if there was none
}

const (
	readerShards = 32
	// maxReaders bounds the readings in a shard; the oldest of a few is
	// forgotten.
	maxReaders = 1 << 11
	// readerHolds is how long after its last file a reader is still in the
	// middle, readerLasts how long after the first.
	readerHolds = 30 * time.Second
	readerLasts = time.Hour
	// maxSeen bounds the members of a set that are noted in a reading.
	maxSeen = 24
)

func newReaders() *readers { return &readers{seed: maphash.MakeSeed()} }

func (r *readers) shard(remote string) *readerShard {
	return &r.shards[maphash.String(r.seed, remote)%readerShards]
}

// look says in which generation a file of the set is to be shown to the client.
func (r *readers) look(remote string, s *set, path string, now time.Time) place {
	if remote == "" {
		return place{g: s.current.Load()}
	}
	name := maphash.String(r.seed, path)
	shard := r.shard(remote)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	in := shard.m[readerKey{remote, s}]
	switch {
	case in == nil:
		return place{g: s.current.Load()}
	case in.isOver(now) || slices.Contains(in.seen, name):
		return place{g: s.current.Load(), round: in.round}
	}
	return place{g: in.g, middle: true, round: in.round}
}

// note says that the file is shown to the client in this generation, as decided
// by what look returned. It reports false if another request of the client, under
// way at the same time, was decided otherwise meanwhile: then the caller looks
// again.
func (r *readers) note(remote string, s *set, g *generation, path string, from place, now time.Time) bool {
	if remote == "" {
		return true
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
	if in.round != from.round && in.g != g && !in.isOver(now) {
		return false
	}
	if in.g != g || in.isOver(now) || slices.Contains(in.seen, name) {
		shard.rounds++
		*in = reading{g: g, round: shard.rounds, begun: now, seen: in.seen[:0]}
	}
	if len(in.seen) < maxSeen || roots.IsRoot(s.key, path) {
		in.seen = append(in.seen, name)
	}
	in.touch(now)
	return true
}

// touch says that a file which took long to send has only now come to its end.
func (r *readers) touch(remote string, s *set, now time.Time) {
	shard := r.shard(remote)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if in := shard.m[readerKey{remote, s}]; in != nil {
		in.touch(now)
	}
}

// isOver reports whether the client, by its pace, reads something else now.
func (in *reading) isOver(now time.Time) bool {
	return now.Sub(in.at) >= readerHolds || now.Sub(in.begun) >= readerLasts
}

// touch never goes back: requests note themselves in any order.
func (in *reading) touch(now time.Time) {
	if now.After(in.at) {
		in.at = now
	}
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
