package inventory

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// ErrTooMany is wrapped by errors of what is more than an inventory takes.
var ErrTooMany = errors.New("too many for an inventory")

const maxHolders = 1<<16 - 1

// Inventory is what is known of all projects. The zero value is empty and ready for
// use, by any number of goroutines.
type Inventory struct {
	serial  atomic.Uint64
	waiting atomic.Pointer[chan struct{}] // closed by the next change; nil: nobody waits
	mu      sync.RWMutex
	names   []string // of holder i+1
	holders map[string]Holder
	trees   map[string]*Tree
}

// Holder returns the number of the mirror with this name, which is given one if it has
// none. The empty name is the Origin.
func (v *Inventory) Holder(name string) (Holder, error) {
	if h, ok := v.Lookup(name); ok {
		return h, nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if h, ok := v.holders[name]; ok {
		return h, nil
	}
	if len(v.names) == maxHolders {
		return 0, fmt.Errorf("mirror %q: more than %d mirrors: %w", name, maxHolders, ErrTooMany)
	}
	if v.holders == nil {
		v.holders = make(map[string]Holder)
	}
	v.names = append(v.names, name)
	h := Holder(len(v.names))
	v.holders[name] = h
	return h, nil
}

// Lookup is Holder for names that must have a number already.
func (v *Inventory) Lookup(name string) (Holder, bool) {
	if name == "" {
		return Origin, true
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	h, ok := v.holders[name]
	return h, ok
}

// Name returns the name of a holder: "" for the Origin and for numbers that nobody has.
func (v *Inventory) Name(h Holder) string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if h == Origin || int(h) > len(v.names) {
		return ""
	}
	return v.names[h-1]
}

// Project returns the tree of a project, which is made when it is first asked for.
func (v *Inventory) Project(name string) *Tree {
	v.mu.RLock()
	t := v.trees[name]
	v.mu.RUnlock()
	if t != nil {
		return t
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if t = v.trees[name]; t == nil {
		if v.trees == nil {
			v.trees = make(map[string]*Tree)
		}
		t = &Tree{inventory: v}
		v.trees[name] = t
	}
	return t
}

// Projects returns the names of the projects that have been asked for, sorted.
func (v *Inventory) Projects() []string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return slices.Sorted(maps.Keys(v.trees))
}

// DropProject forgets a project. Whoever still has its tree changes nothing by it.
func (v *Inventory) DropProject(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.trees[name]; ok {
		delete(v.trees, name)
		v.changed()
	}
}

// Serial rises with every change of what is known, and is what to compare to know
// whether it has to be saved again.
func (v *Inventory) Serial() uint64 { return v.serial.Load() }

// Changed returns a channel that is closed by the next change. Take it before Serial or
// Edition, then wait.
func (v *Inventory) Changed() <-chan struct{} {
	for {
		if c := v.waiting.Load(); c != nil {
			return *c
		}
		c := make(chan struct{})
		if v.waiting.CompareAndSwap(nil, &c) {
			return c
		}
	}
}

// changed notes a change.
func (v *Inventory) changed() {
	v.serial.Add(1)
	if c := v.waiting.Swap(nil); c != nil {
		close(*c)
	}
}
