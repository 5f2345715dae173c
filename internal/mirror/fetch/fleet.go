package fetch

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"freshet/internal/pause"
)

const (
	// patience is how long a sibling may bring nothing of its share.
	patience = 20 * time.Second
	// maxHops is how often what a sibling did not bring is shared anew, with half the
	// patience each time.
	maxHops = 3
	// firstPoll is the time between two questions to a sibling, which grows to lastPoll
	// while it brings nothing.
	firstPoll = time.Second
	lastPoll  = 3 * time.Second
	// pollMisses is how many files in a row a sibling lacks that is still fetching its
	// share: it does so in the order in which it is asked.
	pollMisses = 4
	// leastMisses is how many it lacks that has nothing yet.
	leastMisses = 8
	// shortRest is how long a sibling is left alone that brought nothing, and twice as
	// long each time up to longRest.
	shortRest = time.Minute
	longRest  = 5 * time.Minute
)

// Fleet are mirrors that fetch the same files from the same upstream, and spare it: each
// file is the share of one of them, which fetches it from there, and the others get it
// from that one. Whose it is follows from its SHA-256 and the base URLs of all (highest
// random weight), so that nobody has to be asked; mirrors that do not agree on who is in
// the fleet cost the upstream some more files, and nothing else.
//
// Nobody is trusted, and nobody is waited for without end: what a sibling does not bring in
// time is shared among the others, and comes from upstream in the end.
//
// A fleet may be used by several jobs at once. Nil is one without siblings.
type Fleet struct {
	self    *member // nil: there are no shares
	members []*member
}

// member is one mirror of a fleet.
type member struct {
	seed   uint64
	source Source // nil: that is this mirror

	mu    sync.Mutex
	until time.Time // it is left alone
	rest  time.Duration
}

// NewFleet returns the fleet of a mirror and its siblings, see [OpenSibling]. Self is the
// base URL of the mirror as the others have it; one of the siblings may be the mirror
// itself. Without self, siblings are asked for what they have already, and not waited for.
func NewFleet(self string, siblings ...Source) *Fleet {
	f := new(Fleet)
	if self != "" {
		f.self = newMember(self, nil)
	}
	for _, s := range siblings {
		if m := newMember(s.URL(), s); !f.has(m) {
			f.members = append(f.members, m)
		}
	}
	return f
}

func (f *Fleet) has(m *member) bool {
	same := func(other *member) bool { return other.seed == m.seed }
	return f.self != nil && same(f.self) || slices.ContainsFunc(f.members, same)
}

func newMember(base string, s Source) *member {
	sum := sha256.Sum256([]byte(strings.TrimRight(strings.ToLower(base), "/")))
	return &member{seed: binary.BigEndian.Uint64(sum[:]), source: s}
}

// weight is that of a file for a member: the one with the highest has it.
func (m *member) weight(w Want) uint64 {
	sum, _ := w.Sum.SHA256()
	// The finalizer of SplitMix64, by which each bit changes half of the others.
	x := m.seed ^ binary.BigEndian.Uint64(sum[:])
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// deal parts files among members.
func deal(wants []Want, members []*member) map[*member][]Want {
	shares := make(map[*member][]Want)
	for _, w := range wants {
		m := slices.MaxFunc(members, func(a, b *member) int { return cmp.Compare(a.weight(w), b.weight(w)) })
		shares[m] = append(shares[m], w)
	}
	return shares
}

// awake are the siblings that are to be asked.
func (f *Fleet) awake() (members []*member) {
	now := time.Now()
	for _, m := range f.members {
		if m.isAwake(now) {
			members = append(members, m)
		}
	}
	return members
}

func (m *member) isAwake(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !now.Before(m.until)
}

// judge leaves a member alone for a while if it was of no use.
func (m *member) judge(useful bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if useful {
		m.rest = 0
		return
	}
	m.rest = min(max(shortRest, 2*m.rest), longRest)
	m.until = time.Now().Add(m.rest)
}

// fetch gets files of which the SHA-256 is known from siblings, and those that are the
// share of this mirror from the sources. It returns what did not come.
func (f *Fleet) fetch(ctx context.Context, r *round, wants []Want) (left []Want) {
	if f == nil || len(f.members) == 0 {
		return wants
	}
	hashed, others := split(wants, func(w Want) bool { _, ok := w.Sum.SHA256(); return ok })
	hashed, left = f.collect(ctx, r, hashed)
	if f.self == nil {
		return slices.Concat(others, left, hashed)
	}
	for hop := 0; hop < maxHops && len(hashed) > 0 && !r.over(ctx); hop++ {
		shares := deal(inOrder(hashed), append(f.awake(), f.self))
		mine := append(shares[f.self], others...)
		if delete(shares, f.self); len(shares) == 0 {
			return append(left, mine...)
		}
		done := make(chan haul)
		go func() {
			done <- together(shares, func(m *member, w []Want) haul { return r.await(ctx, m, w, patience>>hop) })
		}()
		left = append(left, r.sources(ctx, mine)...)
		came := <-done
		left = append(left, came.refused...)
		hashed, others = came.late, nil
	}
	return slices.Concat(others, left, hashed)
}

// inOrder sorts files as every mirror fetches them.
func inOrder(wants []Want) []Want {
	slices.SortFunc(wants, func(a, b Want) int { return strings.Compare(a.Path, b.Path) })
	return wants
}

// collect gets what siblings have already. Each is asked for a part of the files, and one
// that has some of these for all that is missing then. Refused is what nobody is to be
// asked for by its hash any more.
func (f *Fleet) collect(ctx context.Context, r *round, wants []Want) (late, refused []Want) {
	members := f.awake()
	if len(members) == 0 || len(wants) == 0 {
		return wants, nil
	}
	misses := max(leastMisses, defaultMisses/len(members))
	var mu sync.Mutex
	var rich []*member
	h := together(deal(wants, members), func(m *member, w []Want) haul {
		h := r.pass(ctx, m, w, misses)
		m.judge(!h.lost)
		if h.came > 0 && !h.lost {
			mu.Lock()
			defer mu.Unlock()
			rich = append(rich, m)
		}
		return h
	})
	for _, m := range rich {
		more := r.pass(ctx, m, inOrder(h.late), defaultMisses)
		h.late, h.refused = more.late, append(h.refused, more.refused...)
	}
	return h.late, h.refused
}

// together has several siblings bring files, each its own, and adds up what comes.
func together(shares map[*member][]Want, bring func(*member, []Want) haul) (sum haul) {
	var mu sync.Mutex
	var working sync.WaitGroup
	for m, share := range shares {
		working.Go(func() {
			h := bring(m, share)
			mu.Lock()
			defer mu.Unlock()
			sum.came += h.came
			sum.late, sum.refused = append(sum.late, h.late...), append(sum.refused, h.refused...)
		})
	}
	working.Wait()
	return sum
}

// haul is what a sibling has brought.
type haul struct {
	came    int    // files, which are reported
	late    []Want // it may have later, or another one
	refused []Want // it gave something else, or nothing for us
	lost    bool   // there is no sense in asking it again
}

// await gets the share of a sibling, as that comes to have it. Late is what it did not
// bring within the patience since it brought something.
func (r *round) await(ctx context.Context, m *member, wants []Want, patience time.Duration) (all haul) {
	all.late = wants
	last, wait := time.Now(), firstPoll
	for {
		h := r.pass(ctx, m, all.late, pollMisses)
		all.came += h.came
		all.late, all.refused = h.late, append(all.refused, h.refused...)
		if h.came > 0 {
			last, wait = time.Now(), firstPoll
		}
		if len(all.late) == 0 || r.over(ctx) {
			m.judge(all.came > 0 || r.over(ctx))
			return all
		}
		left := patience - time.Since(last)
		if h.lost || left <= 0 {
			m.judge(false)
			return all
		}
		if !pause.For(ctx, min(wait, left)) {
			return all
		}
		wait = min(wait*3/2, lastPoll)
	}
}

// pass asks a sibling for files once.
func (r *round) pass(ctx context.Context, m *member, wants []Want, misses int) (h haul) {
	if len(wants) == 0 || r.over(ctx) {
		return haul{late: wants}
	}
	bad := false
	err := r.order(ctx, m.source, Order{Wants: wants, Least: r.job.least(), Misses: misses}, func(res Result) {
		busy, _ := errors.AsType[*busyError](res.Err)
		switch {
		case res.Outcome == Wrong, res.Outcome == Denied:
			h.refused = append(h.refused, res.Want)
			bad = true
			return
		case res.Outcome == Failed && busy == nil && !errors.Is(res.Err, errEnough):
			bad = true
		}
		h.late = append(h.late, res.Want)
	})
	busy, _ := errors.AsType[*busyError](err)
	h.came = len(wants) - len(h.late) - len(h.refused)
	h.lost = err != nil && busy == nil || bad && h.came == 0
	return h
}
