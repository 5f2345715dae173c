package diskcache

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"
)

// Ban raises flags of all entries that are there now and match. It costs the
// same for one as for ten million: an entry is compared with the bans that are
// younger than its state when it is used.
type Ban struct {
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

func (b *Ban) matches(m *Meta) bool {
	return (b.All || b.Site == m.Site) && (b.Fixed || !m.Fixed) && strings.HasPrefix(m.Path, b.Prefix)
}

// covers reports whether everything that other does, b does.
func (b *Ban) covers(other *Ban) bool {
	return (b.All || b.Site == other.Site && !other.All) && (b.Fixed || !other.Fixed) &&
		strings.HasPrefix(other.Prefix, b.Prefix) && other.Flags&^b.Flags == 0 && (b.Drop || !other.Drop)
}

// bans are those that may still matter, oldest first.
type bans struct {
	latest atomic.Uint64 // epoch of states that are written now
	newest atomic.Uint64 // epoch of the last in the list

	mu   sync.RWMutex
	list []Ban
}

const (
	// maxBans bounds the list; beyond it, the older half becomes one that does
	// more than was asked for.
	maxBans = 256
	// maxBan bounds one on the disk.
	maxBan = 64 << 10
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
	return st, drop
}

// addLocked takes a ban into the list, unless it is there.
func (b *bans) addLocked(ban Ban) {
	if n := len(b.list); n > 0 && b.list[n-1].Epoch >= ban.Epoch {
		return
	}
	b.list = append(slices.DeleteFunc(b.list, func(old Ban) bool { return ban.covers(&old) }), ban)
	if len(b.list) > maxBans {
		b.list = append(merged(b.list[:maxBans/2]), b.list[maxBans/2:]...)
	}
	b.newest.Store(ban.Epoch)
	if ban.Epoch > b.latest.Load() {
		b.latest.Store(ban.Epoch)
	}
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

// Ban bans at once for everybody; like a Mark it is durable after
// [Store.Sync].
func (s *Store) Ban(ban Ban) {
	// A shorter prefix bans more; one that is no UTF-8 cannot be written.
	ban.Prefix = ban.Prefix[:min(len(ban.Prefix), maxBan/8)]
	for i, r := range ban.Prefix {
		if r == utf8.RuneError {
			ban.Prefix = ban.Prefix[:i]
			break
		}
	}
	s.bans.mu.Lock()
	defer s.bans.mu.Unlock()
	ban.Epoch = s.bans.latest.Load() + 1
	text, err := json.Marshal(ban)
	if err != nil || len(text) > maxBan { // by a very long site
		ban = Ban{All: true, Fixed: ban.Fixed, Flags: ban.Flags, Drop: ban.Drop, Epoch: ban.Epoch}
		text, _ = json.Marshal(ban) // booleans and numbers
	}
	s.bans.addLocked(ban)
	var b [logEntry]byte
	b[0] = kindBan
	binary.LittleEndian.PutUint32(b[8:], uint32(len(text)))
	binary.LittleEndian.PutUint32(b[12:], checksum(text))
	s.log.record(b, text...)
}

// snapshot returns the present list.
func (b *bans) snapshot() []Ban {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return slices.Clone(b.list)
}
