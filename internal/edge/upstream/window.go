package upstream

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// windowSize is how many times are looked at, windowMin how many there must
	// be.
	windowSize = 128
	windowMin  = 32
	// windowEvery is after how many new ones the percentile is worked out anew.
	windowEvery = 16
)

// window knows the 99th percentile of the last times. The zero value is empty.
type window struct {
	mu    sync.Mutex
	times [windowSize]time.Duration
	n     int
	p99   atomic.Int64
}

func (w *window) add(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.times[w.n%windowSize] = d
	w.n++
	if w.n < windowMin || w.n%windowEvery != 0 {
		return
	}
	// Of up to 128 times, the percentile is the longest or the second longest.
	known := w.times[:min(w.n, windowSize)]
	var first, second time.Duration
	for _, d := range known {
		if d > first {
			first, second = d, first
		} else if d > second {
			second = d
		}
	}
	if len(known)*99/100 < len(known)-1 {
		first = second
	}
	w.p99.Store(int64(first))
}

// high returns the percentile, 0 if too little is known.
func (w *window) high() time.Duration { return time.Duration(w.p99.Load()) }
