package edge

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unsafe"
)

func hotOf(key string, body []byte) *hot {
	h := &hot{body: body, size: int64(len(body)), weight: int64(len(body))}
	h.h1, key = newRendered(key, []byte(status200), nil, nil, nil, nil)
	h.key = key[:len(key)-len(status200)]
	return h
}

// What is entered is found by its key and no other, while others enter more, and
// what was entered last under a key is what is found.
func TestHotsFind(t *testing.T) {
	t.Parallel()
	const writers, each = 4, 2000
	hots := newHots()
	key := func(w, i int) string { return fmt.Sprintf("/files/%d/%d", w, i) }
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				hots.put(hotOf(key(w, i), []byte("old")))
				h := hotOf(key(w, i), []byte("new"))
				hots.put(h)
				for _, j := range [...]int{i, i / 2, 0} {
					if got := hots.get([]byte(key(w, j))); got == nil || got.key != key(w, j) || string(got.body) != "new" {
						t.Errorf("%s: found %+v", key(w, j), got)
						return
					}
				}
				if got := hots.get([]byte(key(w, i+1))); got != nil {
					t.Errorf("%s: found %s before it was entered", key(w, i+1), got.key)
					return
				}
			}
		})
	}
	wg.Wait()
	if table := hots.new.Load(); table.used != writers*each || len(table.slots) < hotSpread*table.used {
		t.Errorf("%d of %d slots are used for %d", table.used, len(table.slots), writers*each)
	}
}

// The memory for what is hot is bounded, and what is used stays.
func TestHotsAreBounded(t *testing.T) {
	t.Parallel()
	hots := newHots()
	const weight = 32 << 10
	const total = 3 * hotBytes / weight
	for i := range total {
		hots.put(&hot{key: fmt.Sprint(i), weight: weight})
		if hots.get([]byte("0")) == nil {
			t.Fatalf("what is used again and again was forgotten after %d", i)
		}
	}
	n := hots.new.Load().used + hots.old.Load().used
	if bytes := n * weight; bytes > hotBytes || bytes < hotBytes/4 {
		t.Errorf("%d bodies are kept, %d bytes", n, bytes)
	}
}

// Huge pages change nothing but how memory is found, and the kernel makes them
// where it is asked to.
func TestHugePages(t *testing.T) {
	hots := newHots()
	const objects, size = 1000, 16 << 10
	bodies := make([]byte, objects*size) // of which most are in huge pages as a whole
	for i := range objects {
		body := bodies[i*size:][:size]
		copy(body, fmt.Sprint(i))
		hots.put(hotOf(fmt.Sprint("/", i), body))
	}
	pages := hots.pages()
	var sum uintptr
	for page, used := range pages {
		if sum += used; page%hugePage != 0 {
			t.Errorf("%x is no address of a huge page", page)
		}
	}
	if most := uintptr(objects * (size + 1024)); sum < objects*size || sum > most {
		t.Errorf("%d bytes are hot, want %d to %d", sum, objects*size, most)
	}
	if whole := uintptr(unsafe.Pointer(&bodies[hugePage])) &^ (hugePage - 1); pages[whole] < hugePage-size {
		t.Errorf("%d bytes are hot where all are", pages[whole])
	}
	before := anonHuge(t)
	hots.collapse()
	for i := range objects {
		if want := fmt.Sprint(i); string(bodies[i*size:][:len(want)]) != want {
			t.Fatalf("body %d begins with %q", i, bodies[i*size:][:len(want)])
		}
	}
	if after := anonHuge(t); after <= before {
		t.Skipf("the kernel made no huge pages: %d kB before, %d kB after", before, after)
	}
}

// anonHuge is how many kB of this process are in huge pages.
func anonHuge(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "AnonHugePages:"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	return 0
}
