package serve

import (
	"bytes"
	"cmp"
	"hash/maphash"
	"net/http"
	"os"
	"sync"
	"sync/atomic"

	"freshet/internal/h2"
	"freshet/internal/mirror/generation"
)

// openFile is a file that is kept open, with what is told of it.
type openFile struct {
	project *generation.Project
	current *generation.Generation // that was current when it was opened, which has the file
	file    *os.File
	size    int64
	path    string // of the URL, decoded
	h1, h2  []byte // the fields that tell of it, as the protocols have them
	bodies  *bodies

	uses atomic.Int32 // one of them is the table's; the last one closes the file
	used atomic.Bool  // since the hand of the clock came by

	body  atomic.Pointer[[]byte] // what is in it, if that is at hand
	asked atomic.Uint32          // how often that was wanted and not at hand
}

// release gives a use back.
func (o *openFile) release() {
	if o.uses.Add(-1) == 0 {
		o.bodies.drop(o)
		_ = o.file.Close() // opened for reading
	}
}

// take adds a use, unless the last one has gone.
func (o *openFile) take() bool {
	for {
		n := o.uses.Load()
		if n == 0 {
			return false
		}
		if o.uses.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// stale says whether the project has switched since the file was opened.
func (o *openFile) stale() bool { return o.project.Current() != o.current }

const (
	defaultMaxOpen = 4096
	shards         = 16
)

// openFiles keeps files open that were asked for, by the target of the request. Files
// that are not used go first: each shard is a clock.
type openFiles struct {
	seed   maphash.Seed
	shards [shards]struct {
		mu    sync.RWMutex
		files map[string]*openFile
		ring  []string // keys of files, in the order of the clock
		hand  int
	}
	perShard int
	bodies   bodies
}

func newOpenFiles(most int, memory int64) *openFiles {
	if most <= 0 {
		most = defaultMaxOpen
	}
	t := &openFiles{seed: maphash.MakeSeed(), perShard: max(1, most/shards), bodies: bodies{most: cmp.Or(memory, defaultMemory)}}
	for i := range t.shards {
		t.shards[i].files = make(map[string]*openFile)
	}
	return t
}

// get returns the file of a target, if it is open and of the current generation. It
// must be released.
func (t *openFiles) get(target []byte) *openFile {
	s := &t.shards[maphash.Bytes(t.seed, target)%shards]
	s.mu.RLock()
	o := s.files[string(target)]
	held := o != nil && o.take()
	s.mu.RUnlock()
	if !held {
		return nil
	}
	if o.stale() {
		t.drop(o, string(target))
		o.release()
		return nil
	}
	if !o.used.Load() {
		o.used.Store(true)
	}
	return o
}

// body is what is in a file that is in use; nil: it is to be read from the file.
func (t *openFiles) body(o *openFile) []byte {
	if b := o.body.Load(); b != nil {
		return *b
	}
	b, full := t.bodies.read(o)
	if full {
		t.forgetBodies()
	}
	return b
}

// forgetBodies makes room for what is asked for now: what is still asked for comes back.
func (t *openFiles) forgetBodies() {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		for _, o := range s.files {
			t.bodies.drop(o)
		}
		s.mu.RUnlock()
	}
}

// put keeps a file that was just opened, and takes its use.
func (t *openFiles) put(target string, o *openFile) {
	s := &t.shards[maphash.String(t.seed, target)%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if former := s.files[target]; former != nil {
		s.files[target] = o
		former.release()
		return
	}
	s.files[target] = o
	if len(s.ring) < t.perShard {
		s.ring = append(s.ring, target)
		return
	}
	for range 2 * len(s.ring) {
		s.hand = (s.hand + 1) % len(s.ring)
		if old := s.files[s.ring[s.hand]]; old == nil || !old.used.Swap(false) {
			break
		}
	}
	if old := s.files[s.ring[s.hand]]; old != nil {
		delete(s.files, s.ring[s.hand])
		old.release()
	}
	s.ring[s.hand] = target
}

// drop forgets a file. Its place in the ring is taken by a later one.
func (t *openFiles) drop(o *openFile, target string) {
	s := &t.shards[maphash.String(t.seed, target)%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files[target] != o {
		return
	}
	delete(s.files, target)
	for i, key := range s.ring {
		if key == target {
			s.ring[i] = s.ring[len(s.ring)-1]
			s.ring = s.ring[:len(s.ring)-1]
			s.hand = min(s.hand, max(0, len(s.ring)-1))
			break
		}
	}
	o.release()
}

// clear closes all that nobody uses.
func (t *openFiles) clear() {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for _, o := range s.files {
			o.release()
		}
		s.files, s.ring, s.hand = make(map[string]*openFile), nil, 0
		s.mu.Unlock()
	}
}

// closeStale closes those of generations that are not current any more.
func (t *openFiles) closeStale() {
	for i := range t.shards {
		s := &t.shards[i]
		stale := make(map[string]*openFile)
		s.mu.RLock()
		for target, o := range s.files {
			if o.stale() {
				stale[target] = o
			}
		}
		s.mu.RUnlock()
		for target, o := range stale {
			t.drop(o, target)
		}
	}
}

// has says whether a file is at hand for a target.
func (t *openFiles) has(target string) bool {
	o := t.get([]byte(target))
	if o == nil {
		return false
	}
	o.release()
	return true
}

// render notes the fields as the protocols have them.
func (o *openFile) render(h http.Header) {
	var lines bytes.Buffer
	_ = h.Write(&lines) // memory
	o.h1, o.h2 = lines.Bytes(), h2.AppendHeader(nil, h)
}
