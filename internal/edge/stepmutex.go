package edge

import (
	"sync"
	"sync/atomic"
)

// stepMutex makes a change of several things one step for who holds it shared.
// Who only wants to know whether such a change is going on need not write to
// memory that all processors share.
type stepMutex struct {
	sync.RWMutex
	held atomic.Bool // alone; set before anything is changed
}

// Lock waits until nobody holds the mutex.
func (m *stepMutex) Lock() {
	m.RWMutex.Lock()
	m.held.Store(true)
}

// Unlock ends the step.
func (m *stepMutex) Unlock() {
	m.held.Store(false)
	m.RWMutex.Unlock()
}
