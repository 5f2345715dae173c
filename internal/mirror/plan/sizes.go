package plan

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"iter"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"freshet/internal/mirror/fetch"
	"freshet/internal/mirror/kind"
)

// Bounds of what is done to find out sizes that no index tells.
const (
	maxSample   = 256       // files that are asked for one by one
	maxUnsized  = 4_000_000 // files that are looked for in a listing
	maxListed   = 8_000_000 // entries of listings
	measureTime = 2 * time.Minute
	askers      = 4
	maxVain     = 8 // files in a row of which a server does not tell it
)

// unsized are the files of which no index tells the size.
type unsized struct {
	seed maphash.Seed
	// of has, for the hash of a path, the number of the repository that it was counted in,
	// -1 for none; more is how many others there are.
	of   map[uint64]int32
	more int64
	// sample are some of them, each as likely as any other; folder is the one that all are in.
	sample []string
	seen   int64
	folder string
	// optional are those that an upstream need not have, by the hash of the path; they are not counted
	// until it is seen that it has them. named are their paths, if there are no more than a sample.
	optional map[uint64]int32
	named    []string
	// listed are sizes that a listing has told on the way, by the hash of the path.
	listed map[uint64]int64
}

func (u *unsized) hash(name string) uint64 { return maphash.String(u.seed, name) }

// note takes note of a file that was counted in this repository.
func (u *unsized) note(name string, repository int32) {
	u.seen++
	if len(u.of) < maxUnsized {
		u.of[u.hash(name)] = repository
	} else {
		u.more++
	}
	u.widen(name)
	if len(u.sample) < maxSample {
		u.sample = append(u.sample, name)
	} else if i := rand.Int64N(u.seen); i < maxSample {
		u.sample[i] = name
	}
}

// noteOptional takes note of a file that this repository may have.
func (u *unsized) noteOptional(name string, repository int32) {
	if len(u.optional) >= maxUnsized {
		return
	}
	u.optional[u.hash(name)] = repository
	u.widen(name)
	if len(u.optional) <= maxSample {
		u.named = append(u.named, name)
	} else {
		u.named = nil
	}
}

// widen has the folder that is listed include a file.
func (u *unsized) widen(name string) {
	if u.folder == "" {
		u.folder = path.Dir(name)
	}
	for u.folder != "." && !strings.HasPrefix(name, u.folder+"/") {
		u.folder = path.Dir(u.folder)
	}
}

// isWorthwhile reports whether sizes are to be looked for; a few files that may be there are not.
func (u *unsized) isWorthwhile() bool { return u.left() > 0 || len(u.optional) > maxVain }

// left is how many have no size yet, of those that there must be.
func (u *unsized) left() int64 { return int64(len(u.of)) + u.more }

// watch passes a listing on, and remembers the sizes in it.
func (m *maker) watch(list iter.Seq2[kind.File, error]) iter.Seq2[kind.File, error] {
	return func(yield func(kind.File, error) bool) {
		for f, err := range list {
			if err == nil && f.Size >= 0 && f.Link == "" && len(m.unsized.listed) < maxListed {
				m.unsized.listed[m.unsized.hash(f.Path)] = f.Size
			}
			if !yield(f, err) {
				return
			}
		}
	}
}

// measure finds out the sizes that no index tells, as far as that costs little: by what was listed
// on the way, by a listing of the folder that has the files, or by asking for a few of them.
func (m *maker) measure(ctx context.Context) {
	u := &m.unsized
	for _, ids := range []map[uint64]int32{u.of, u.optional} {
		for id := range ids {
			if size, ok := u.listed[id]; ok {
				m.sized(id, size)
			}
		}
	}
	u.listed = nil
	if !u.isWorthwhile() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, measureTime)
	defer cancel()
	var said fetch.Each
	for _, s := range m.sources {
		if !u.isWorthwhile() || ctx.Err() != nil {
			break
		}
		var err error
		if sizer, ok := s.(fetch.Sizer); ok {
			err = m.ask(ctx, sizer)
		} else {
			err = m.list(ctx, s)
		}
		said = said.Said(s.URL(), err)
	}
	if err := said.Err(); err != nil && u.left() > 0 {
		m.plan.Notes = append(m.plan.Notes, "sizes were looked for in vain: "+err.Error())
	}
}

// sized takes note of the size of a file.
func (m *maker) sized(id uint64, size int64) {
	repository, counted := m.unsized.of[id]
	if counted {
		delete(m.unsized.of, id)
	} else {
		repository = m.unsized.optional[id]
		delete(m.unsized.optional, id)
		m.plan.Files++
		m.plan.Fetch.Files++
	}
	m.plan.Bytes += size
	m.plan.Fetch.Bytes += size
	if repository >= 0 {
		r := &m.plan.Repositories[repository]
		r.Bytes += size
		if counted {
			r.Unsized--
		} else {
			r.Files++
		}
	}
}

// list lists the folder that all files without a size are in.
func (m *maker) list(ctx context.Context, s fetch.Source) error {
	n, linked := 0, make(map[uint64]bool)
	for e, err := range s.List(ctx, m.unsized.folder) {
		if err != nil {
			return err
		}
		if n++; n > maxListed {
			return fmt.Errorf("the listing has more than %d entries", maxListed)
		}
		id := m.unsized.hash(e.Path)
		switch {
		case !m.unsized.has(id):
		case e.Type == 'f' && e.Size >= 0:
			m.sized(id, e.Size)
			if m.unsized.left() == 0 && len(m.unsized.optional) == 0 {
				return nil
			}
		default: // a link: it is there
			linked[id] = true
		}
	}
	// This upstream has no others.
	maps.DeleteFunc(m.unsized.optional, func(id uint64, _ int32) bool { return !linked[id] })
	return nil
}

// has reports whether a file has no size yet.
func (u *unsized) has(id uint64) bool {
	_, ok := u.of[id]
	if !ok {
		_, ok = u.optional[id]
	}
	return ok
}

// ask asks for the sizes of a sample. What is in it has a size then, and the others are about
// as large.
func (m *maker) ask(ctx context.Context, s fetch.Sizer) error {
	names := make(chan string)
	var (
		mu     sync.Mutex
		failed error
		sum, n int64
		vain   int // how often in a row there was no size
		asking sync.WaitGroup
	)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for range askers {
		asking.Go(func() {
			for name := range names {
				size, err := s.Size(ctx, name)
				mu.Lock()
				id := m.unsized.hash(name)
				_, must := m.unsized.of[id]
				switch {
				case err == nil:
					if must {
						sum += size
						n++
					}
					vain = 0
					if m.unsized.has(id) {
						m.sized(id, size)
					}
				case errors.Is(err, fs.ErrNotExist):
					delete(m.unsized.optional, id)
				case ctx.Err() == nil:
					failed = err
					if vain++; vain == maxVain {
						cancel()
					}
				}
				mu.Unlock()
			}
		})
	}
	for _, name := range slices.Concat(m.unsized.sample, m.unsized.named) {
		select {
		case names <- name:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(names)
	asking.Wait()
	m.plan.Sampled = n
	if n > 0 {
		m.plan.Guess = int64(float64(sum) / float64(n) * float64(m.unsized.left()))
		return nil
	}
	return failed
}
