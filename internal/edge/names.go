package edge

import (
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"freshet/internal/edge/diskcache"
	"freshet/internal/httpcache"
	"freshet/internal/layout"
)

// names knows which entries belong together: the variants of a URI, and the
// members of a set. Evicted entries may still be listed. The zero value is
// empty; safe for concurrent use.
type names struct {
	varied   atomic.Int64 // length of variants, for those who need no more
	mu       sync.RWMutex
	variants map[diskcache.ID]*variants
	sets     map[setKey][]diskcache.ID
	// lost says that all variants of some URI were forgotten.
	lost bool
}

// variants are the entries of a URI whose answers depend on request fields.
type variants struct {
	fields []string // as the newest answer says
	ids    []diskcache.ID
	lost   bool // there were more
}

type setKey struct {
	site string
	set  layout.Set
}

const (
	// maxVariants bounds the variants of one URI; the oldest is forgotten, and
	// with it the way to find the entry but for a ban.
	maxVariants = 64
	// maxVaried bounds the URIs with variants.
	maxVaried = 1 << 17
	// maxMembers bounds the members of a set.
	maxMembers = 4096
)

// variant returns the ID under which the answer to a request is looked for.
func (n *names) variant(c *call, h http.Header) diskcache.ID {
	if c.policy.Ruled() {
		return c.id
	}
	n.mu.RLock()
	v := n.variants[c.id]
	var fields []string
	if v != nil {
		fields = v.fields
	}
	n.mu.RUnlock()
	if len(fields) == 0 {
		return c.id
	}
	return keyID(c.site.name, c.uri, httpcache.VaryKey(fields, h))
}

// varies reports whether answers of the URI depend on request fields. Few do
// anywhere: then the ID is not even read.
func (n *names) varies(id *diskcache.ID) bool { return n.varied.Load() != 0 && n.hasVariants(*id) }

func (n *names) hasVariants(id diskcache.ID) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	v := n.variants[id]
	return v != nil && len(v.fields) > 0
}

// add notes a new entry.
func (n *names) add(c *call, id diskcache.ID, vary []string) {
	set := c.policy.Set
	if c.policy.Ruled() && set == (layout.Set{}) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if set != (layout.Set{}) {
		key := setKey{c.site.name, set}
		if n.sets == nil {
			n.sets = make(map[setKey][]diskcache.ID)
		}
		ids, known := n.sets[key]
		if !known && len(n.sets) >= maxSets {
			for other := range n.sets { // its members are had anew when they are too old
				delete(n.sets, other)
				break
			}
		}
		if !slices.Contains(ids, id) && len(ids) < maxMembers {
			n.sets[key] = append(ids, id)
		}
		return
	}
	n.varyLocked(c, vary, id)
}

// vary notes on which request fields the answers of a URI depend, and the ID
// of one of them, whose entry may come later.
func (n *names) vary(c *call, fields []string, id diskcache.ID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.varyLocked(c, fields, id)
}

func (n *names) varyLocked(c *call, fields []string, id diskcache.ID) {
	v := n.variants[c.id]
	if len(fields) == 0 {
		if v != nil {
			v.fields = nil // the newest answer does not vary
		}
		return
	}
	if v == nil {
		if n.variants == nil {
			n.variants = make(map[diskcache.ID]*variants)
		}
		if len(n.variants) >= maxVaried {
			for other := range n.variants {
				delete(n.variants, other)
				n.lost = true
				break
			}
		}
		v = new(variants)
		n.variants[c.id] = v
		n.varied.Store(int64(len(n.variants)))
	}
	v.fields = fields
	if !slices.Contains(v.ids, id) {
		if len(v.ids) >= maxVariants {
			v.ids, v.lost = slices.Delete(v.ids, 0, 1), true
		}
		v.ids = append(v.ids, id)
	}
}

// complete reports whether of lists all that are stored.
func (n *names) complete(id diskcache.ID) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if v := n.variants[id]; v != nil {
		return !v.lost
	}
	return !n.lost
}

// of lists the IDs under which a URI has entries, as far as they are known; see
// [names.complete].
func (n *names) of(id diskcache.ID) []diskcache.ID {
	n.mu.RLock()
	defer n.mu.RUnlock()
	ids := []diskcache.ID{id}
	if v := n.variants[id]; v != nil {
		ids = append(ids, v.ids...)
	}
	return ids
}

// members lists the entries of a set.
func (n *names) members(site string, set layout.Set) []diskcache.ID {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return slices.Clone(n.sets[setKey{site, set}])
}
