package diskcache

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"
)

// Key is one of the names by which a ban may mean an entry: a hash of whatever
// [Options].Keys makes of it. Two names with one key share their bans.
type Key uint64

// Ban raises flags of all entries that are there now and match. It costs the
// same for one as for ten million: an entry is compared with the bans that are
// younger than its state when it is used.
type Ban struct {
	// Keys, if there are any: entries that have one of them. Site, Prefix, All
	// and Fixed say nothing then.
	Keys []Key `json:"keys,omitempty"`
	// Site is that of Meta, Prefix begins Meta's path.
	Site   string `json:"site"`
	Prefix string `json:"prefix,omitempty"`
	// All sites, not the one.
	All bool `json:"all,omitempty"`
	// Fixed: fixed entries too.
	Fixed bool `json:"fixed,omitempty"`
	// Flags are raised in the state.
	Flags uint32 `json:"flags"`
	// Drop: the entries are not found any more.
	Drop bool `json:"drop,omitempty"`
	// Epoch is given by the store: the ban is for states written before it.
	Epoch uint64 `json:"epoch"`
}

// matches is for bans without keys.
func (b *Ban) matches(m *Meta) bool {
	return (b.All || b.Site == m.Site) && (b.Fixed || !m.Fixed) && strings.HasPrefix(m.Path, b.Prefix)
}

// covers reports whether everything that other does, b does; neither has keys.
func (b *Ban) covers(other *Ban) bool {
	return (b.All || b.Site == other.Site && !other.All) && (b.Fixed || !other.Fixed) &&
		strings.HasPrefix(other.Prefix, b.Prefix) && other.Flags&^b.Flags == 0 && (b.Drop || !other.Drop)
}

// bans are those that may still matter.
type bans struct {
	keysOf func(*Meta) []Key
	latest atomic.Uint64 // epoch of states that are written now
	newest atomic.Uint64 // epoch of the last that was added

	mu    sync.RWMutex
	list  []Ban // without keys, oldest first
	keyed map[Key]keyedBan
}

// keyedBan is all bans of a key in one.
type keyedBan struct {
	flags           uint32
	raised, dropped uint64 // epochs of the newest that raises flags, that drops
}

const (
	// maxBans bounds the list; beyond it, the older half becomes one that does
	// more than was asked for.
	maxBans = 256
	// maxKeyed bounds the keys that are banned; beyond it, all of them become
	// one ban that does more than was asked for.
	maxKeyed = 1 << 17
	// sweepAt is how many banned keys make it worth to look through the store,
	// after which they can be forgotten.
	sweepAt = 1 << 14
	// maxBan bounds one on the disk; maxBanKeys is how many keys fit.
	maxBan     = 64 << 10
	maxBanKeys = 2048
)

func (b *bans) now() uint64 { return b.latest.Load() }

// apply returns the state of an entry as the bans make it, and whether one
// drops it.
func (b *bans) apply(st State, epoch uint64, m *Meta) (now State, drop bool) {
	if epoch >= b.newest.Load() {
		return st, false
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	for i := len(b.list) - 1; i >= 0 && b.list[i].Epoch > epoch; i-- {
		if b.list[i].matches(m) {
			st.Flags |= b.list[i].Flags
			drop = drop || b.list[i].Drop
		}
	}
	if len(b.keyed) == 0 || b.keysOf == nil {
		return st, drop
	}
	for _, key := range b.keysOf(m) {
		ban, ok := b.keyed[key]
		if ok && ban.raised > epoch {
			st.Flags |= ban.flags
		}
		drop = drop || ok && ban.dropped > epoch
	}
	return st, drop
}

// drops reports whether a ban drops an entry whose state is of the epoch.
func (b *bans) drops(epoch uint64, m *Meta) bool {
	_, drop := b.apply(State{}, epoch, m)
	return drop
}

// addLocked takes a ban in, unless it is there.
func (b *bans) addLocked(ban Ban) {
	if len(ban.Keys) > 0 {
		b.addKeysLocked(ban)
	} else if n := len(b.list); n == 0 || b.list[n-1].Epoch < ban.Epoch {
		b.list = append(slices.DeleteFunc(b.list, func(old Ban) bool { return ban.covers(&old) }), ban)
		if len(b.list) > maxBans {
			b.list = append(merged(b.list[:maxBans/2]), b.list[maxBans/2:]...)
		}
	}
	b.newest.Store(max(b.newest.Load(), ban.Epoch))
	b.latest.Store(max(b.latest.Load(), ban.Epoch))
}

func (b *bans) addKeysLocked(ban Ban) {
	if b.keyed == nil {
		b.keyed = make(map[Key]keyedBan)
	}
	for _, key := range ban.Keys {
		k := b.keyed[key]
		if ban.Drop {
			k.dropped = max(k.dropped, ban.Epoch)
		}
		if ban.Flags != 0 {
			k.flags |= ban.Flags // also those of an older one: that is more than was asked for
			k.raised = max(k.raised, ban.Epoch)
		}
		b.keyed[key] = k
	}
	if len(b.keyed) <= maxKeyed {
		return
	}
	all := Ban{All: true, Fixed: true}
	for _, k := range b.keyed {
		all.Flags |= k.flags
		all.Drop = all.Drop || k.dropped > 0
		all.Epoch = max(all.Epoch, k.raised, k.dropped)
	}
	b.keyed = nil
	if n := len(b.list); n > 0 && b.list[n-1].Epoch >= all.Epoch { // keep the order
		all.Epoch = b.list[n-1].Epoch
		b.list = append(b.list[:n-1], merged([]Ban{b.list[n-1], all})...)
		return
	}
	b.list = append(b.list, all)
}

// merged makes few bans of many, which do what those did, and more. Those that
// drop are few, and stay as they are if others are not.
func merged(list []Ban) []Ban {
	one, few := Ban{All: true}, []Ban(nil)
	for _, ban := range list {
		if ban.Drop {
			few = append(few, ban)
			continue
		}
		one.Fixed = one.Fixed || ban.Fixed
		one.Flags |= ban.Flags
		one.Epoch = ban.Epoch
	}
	if len(few) > len(list)/2 {
		return []Ban{{All: true, Fixed: true, Flags: ^uint32(0), Drop: true, Epoch: list[len(list)-1].Epoch}}
	}
	few = append(few, one)
	slices.SortFunc(few, func(a, b Ban) int { return cmp.Compare(a.Epoch, b.Epoch) })
	return few
}

// Ban bans at once for everybody, all of the list in one step; like a Mark it
// is durable after [Store.Sync].
//
// The caller sees to it that no Commit, Mark or Freshen is under way meanwhile:
// whether it would be met is not known.
func (s *Store) Ban(list ...Ban) {
	if !s.banLater(list) {
		s.banAll(list)
	}
}

func (s *Store) banAll(list []Ban) {
	s.bans.mu.Lock()
	for _, ban := range list {
		s.banLocked(ban)
	}
	many := len(s.bans.keyed) >= sweepAt || len(s.bans.list) >= maxBans/4
	s.bans.mu.Unlock()
	if many {
		s.sweepSoon()
	}
}

func (s *Store) banLocked(ban Ban) {
	ban.Epoch = s.bans.latest.Load() + 1
	if len(ban.Keys) > 0 {
		ban.Site, ban.Prefix, ban.All, ban.Fixed = "", "", false, false
		for keys := range slices.Chunk(ban.Keys, maxBanKeys) {
			part := ban
			part.Keys = keys
			s.recordBan(&part)
		}
		s.bans.addLocked(ban)
		return
	}
	// A shorter prefix bans more; one that is no UTF-8 cannot be written.
	ban.Prefix = ban.Prefix[:min(len(ban.Prefix), maxBan/8)]
	for i, r := range ban.Prefix {
		if r == utf8.RuneError {
			ban.Prefix = ban.Prefix[:i]
			break
		}
	}
	s.recordBan(&ban)
	s.bans.addLocked(ban)
}

// recordBan puts a ban into the log.
func (s *Store) recordBan(ban *Ban) {
	text, err := json.Marshal(ban)
	if err != nil || len(text) > maxBan { // by a very long site
		*ban = Ban{All: true, Fixed: ban.Fixed, Flags: ban.Flags, Drop: ban.Drop, Epoch: ban.Epoch}
		text, _ = json.Marshal(ban) // booleans and numbers
	}
	var b [logEntry]byte
	b[0] = kindBan
	binary.LittleEndian.PutUint32(b[8:], uint32(len(text)))
	binary.LittleEndian.PutUint32(b[12:], checksum(text))
	s.log.record(b, text...)
}

// Epoch is the present moment in the count of bans; see [Store.Since].
func (s *Store) Epoch() uint64 { return s.bans.now() }

// Since returns the state of something that was asked for at the given epoch
// and comes only now, as the bans between make it, and whether one of them
// drops it.
func (s *Store) Since(epoch uint64, st State, m *Meta) (now State, drop bool) {
	if s.away.loading.Load() {
		return st, false
	}
	return s.bans.apply(st, epoch, m)
}

// Bans is the number of bans that are kept, keys counted one by one.
func (s *Store) Bans() int {
	if s.away.loading.Load() {
		return 0
	}
	s.bans.mu.RLock()
	defer s.bans.mu.RUnlock()
	return len(s.bans.list) + len(s.bans.keyed)
}

// snapshot returns what [bans.addLocked] makes the present bans of.
func (b *bans) snapshot() []Ban {
	b.mu.RLock()
	defer b.mu.RUnlock()
	type kind struct {
		flags uint32
		drop  bool
		epoch uint64
	}
	groups := make(map[kind][]Key)
	for key, k := range b.keyed {
		if k.raised > 0 {
			g := kind{flags: k.flags, epoch: k.raised}
			groups[g] = append(groups[g], key)
		}
		if k.dropped > 0 {
			g := kind{drop: true, epoch: k.dropped}
			groups[g] = append(groups[g], key)
		}
	}
	list := slices.Clone(b.list)
	for g, keys := range groups {
		slices.Sort(keys)
		list = append(list, Ban{Keys: keys, Flags: g.flags, Drop: g.drop, Epoch: g.epoch})
	}
	return list
}

// forget drops the bans up to an epoch: there is nothing left that they could
// be for.
func (b *bans) forget(upTo uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.list = slices.DeleteFunc(b.list, func(ban Ban) bool { return ban.Epoch <= upTo })
	maps.DeleteFunc(b.keyed, func(_ Key, k keyedBan) bool { return k.raised <= upTo && k.dropped <= upTo })
}
