package edge

import (
	"bytes"
	"context"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// hugePage is how much memory a processor can find by one entry of its tables;
	// otherwise that is 4 kB.
	hugePage = 2 << 20
	// hugeEvery is how often it is looked whether there is more for huge pages.
	hugeEvery = 10 * time.Second
)

// hugePages puts the memory of what is hot into huge pages, now and then until
// ctx ends. A hit needs some pages out of thousands, and to look up where a page
// is costs more than to fetch a line of it, most of all in a virtual machine.
//
// The kernel is asked to do this to memory as it is now, and not told to use huge
// pages there from then on: it would make them again of what the runtime gives
// back. Where it cannot, or the administrator does not want it, all stays as it
// is.
func (t *hots) hugePages(ctx context.Context) {
	setting, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled")
	if err != nil || bytes.Contains(setting, []byte("[never]")) {
		return
	}
	tick := time.NewTicker(hugeEvery)
	defer tick.Stop()
	for last := int64(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		entered := t.entered.Load()
		if entered == last {
			continue
		}
		last = entered
		t.collapse()
	}
}

// collapse puts into a huge page what fills a good part of it.
func (t *hots) collapse() {
	for page, used := range t.pages() {
		if used >= hugePage/4 {
			// An error says that it cannot be done for this one.
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, page, hugePage, unix.MADV_COLLAPSE)
		}
	}
}

// pages is how many bytes of what is hot begin in each huge page, by its address.
func (t *hots) pages() map[uintptr]uintptr {
	pages := make(map[uintptr]uintptr)
	note := func(p unsafe.Pointer, n int) { pages[uintptr(p)&^(hugePage-1)] += uintptr(n) }
	for _, table := range [...]*hotTable{t.new.Load(), t.old.Load()} {
		for i := range table.slots {
			if h := table.slots[i].Load(); h != nil {
				note(unsafe.Pointer(h), int(unsafe.Sizeof(*h)))                            //nolint:gosec // only its address is used
				note(unsafe.Pointer(unsafe.StringData(h.key)), len(h.key)+len(h.h1.whole)) //nolint:gosec // as above
				note(unsafe.Pointer(unsafe.SliceData(h.body)), len(h.body))                //nolint:gosec // as above
				if whole := h.ready.memory(); whole != nil {
					note(unsafe.Pointer(unsafe.SliceData(whole)), len(whole)) //nolint:gosec // as above
				}
			}
		}
	}
	return pages
}
