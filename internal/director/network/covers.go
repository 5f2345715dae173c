package network

import (
	"sync"

	"freshet/internal/inventory"
)

// covers remembers who has all of a folder, for as long as the tree stays as it is: to
// find it out takes longer the more is in the folder. The zero value is ready for use.
type covers struct {
	mu     sync.Mutex
	serial uint64
	sets   map[string]inventory.Set
}

// maxCovers is how many folders are remembered.
const maxCovers = 4096

// of finds out who has all that counts in a folder.
func (c *covers) of(view inventory.View, folder string, counts func(path string) bool) inventory.Set {
	c.mu.Lock()
	if c.serial != view.Serial() || c.sets == nil || len(c.sets) >= maxCovers {
		c.serial, c.sets = view.Serial(), make(map[string]inventory.Set)
	}
	set, ok := c.sets[folder]
	c.mu.Unlock()
	if ok {
		return set
	}
	set = view.Covers(folder, counts)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.serial == view.Serial() {
		c.sets[folder] = set
	}
	return set
}
