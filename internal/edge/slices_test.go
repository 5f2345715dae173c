package edge

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/edgeapi"
	"freshet/internal/httpcache"
)

// huge is a file that is made while it is read: every eight bytes tell where
// they are and which version they are of.
type huge struct {
	size    int64
	version byte
}

func (h huge) ReadAt(p []byte, off int64) (int, error) {
	var line [64]byte // several words of it at once: tests read gigabytes
	n := 0
	for n < len(p) && off+int64(n) < h.size {
		at := off + int64(n)
		for i := 0; i < len(line); i += 8 {
			binary.BigEndian.PutUint64(line[i:], uint64(at/8)+uint64(i/8))
			line[i] = h.version
		}
		n += copy(p[n:min(int64(len(p)), h.size-off)], line[at%8:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h huge) part(off, n int64) string {
	b := make([]byte, n)
	_, _ = h.ReadAt(b, off)
	return string(b)
}

// hugeOrigin serves a huge file in parts, and counts what it sends.
type hugeOrigin struct {
	mu     sync.Mutex
	file   huge
	header http.Header
	asked  []string // Range fields
	spans  []httpcache.Range
	sent   atomic.Int64
	// answer, if not nil, may answer in its place.
	answer func(w http.ResponseWriter, r *http.Request) bool
	pause  time.Duration // after the header, and after every 256 kB
}

func newHuge(size int64) *hugeOrigin {
	return &hugeOrigin{file: huge{size, 1}, header: http.Header{"Etag": {`"v1"`}, "Content-Type": {"application/octet-stream"}, "Last-Modified": {"Mon, 03 Jan 2000 00:00:00 GMT"}}}
}

func (o *hugeOrigin) replace(file huge, tag string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.file, o.header = file, o.header.Clone()
	o.header.Set("Etag", tag)
}

func (o *hugeOrigin) serve(w http.ResponseWriter, r *http.Request) {
	if o.answer != nil && o.answer(w, r) {
		return
	}
	o.mu.Lock()
	file, header := o.file, o.header
	o.asked = append(o.asked, r.Header.Get("Range"))
	o.mu.Unlock()
	maps.Copy(w.Header(), header)
	if httpcache.Evaluate(r.Header, header) == httpcache.NotModified {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	span, status := httpcache.Range{Length: file.size}, http.StatusOK
	if field := r.Header.Get("Range"); field != "" && (r.Header.Get("If-Range") == "" || r.Header.Get("If-Range") == header.Get("Etag")) {
		ranges, ok := httpcache.ParseRange(field, file.size)
		if !ok {
			w.Header().Set("Content-Range", httpcache.Unsatisfied(file.size))
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		span, status = ranges[0], http.StatusPartialContent
		w.Header().Set("Content-Range", span.ContentRange(file.size))
	}
	o.mu.Lock()
	o.spans = append(o.spans, span)
	o.mu.Unlock()
	w.Header().Set("Content-Length", strconv.FormatInt(span.Length, 10))
	w.WriteHeader(status)
	buf := make([]byte, 256<<10)
	for off := span.Start; off < span.Start+span.Length; {
		if o.pause > 0 {
			_ = http.NewResponseController(w).Flush()
			time.Sleep(o.pause)
		}
		n, _ := file.ReadAt(buf[:min(int64(len(buf)), span.Start+span.Length-off)], off)
		m, err := w.Write(buf[:n])
		o.sent.Add(int64(m))
		if off += int64(n); err != nil {
			return
		}
	}
}

const hugePath = "/pool/main/h/huge/huge_1.0_amd64.deb"

func rangeOf(off, n int64) string { return fmt.Sprintf("Range: bytes=%d-%d", off, off+n-1) }

// wantPart fails unless the answer is this part.
func (w *world) wantPart(a answer, file huge, off, n int64) {
	w.t.Helper()
	if a.err != nil || a.status != http.StatusPartialContent || a.body != file.part(off, n) {
		w.t.Errorf("got %d, %d bytes, %v for bytes %d+%d", a.status, len(a.body), a.err, off, n)
	}
	if want := (httpcache.Range{Start: off, Length: n}).ContentRange(file.size); a.header.Get("Content-Range") != want {
		w.t.Errorf("Content-Range is %q, want %q", a.header.Get("Content-Range"), want)
	}
}

// The last kilobyte of a cold 256 MB file costs a slice, and nothing the second
// time, nor after a restart.
func TestSliceOfHuge(t *testing.T) {
	for _, field := range []string{rangeOf(256<<20-1024, 1024), "Range: bytes=-1024"} {
		bubble(t, func(t *testing.T) {
			o := newHuge(256 << 20)
			w := newWorld(t, Config{}, o.serve)
			for i := range 4 {
				a := w.get(hugePath, field)
				w.wantPart(a, o.file, 256<<20-1024, 1024)
				if i > 0 && !strings.HasPrefix(a.cacheStatus(), "freshet; hit") {
					t.Errorf("Cache-Status is %q", a.cacheStatus())
				}
				w.wantFetches(1)
				synctest.Wait()
				if i == 1 {
					w.restart()
				}
			}
			if sent := o.sent.Load(); sent > 1<<20+1024 {
				t.Errorf("the origin sent %d bytes", sent)
			}
			if a := w.do("HEAD", hugePath); a.status != 200 || a.header.Get("Content-Length") != "268435456" {
				t.Errorf("HEAD: %d, %v", a.status, a.header)
			}
			if a := w.get(hugePath, "If-None-Match: \"v1\""); a.status != 304 {
				t.Errorf("a condition that holds: %d", a.status)
			}
			w.wantFetches(1)
			if n := w.metric("freshet_edge_store_bytes", ""); n > 4<<20 {
				t.Errorf("the store counts %v bytes", n)
			}
		})
	}
}

// Where HTTP alone decides, a file is fetched in slices if its origin says how
// long it is fresh, for everybody.
func TestSlicesByHTTP(t *testing.T) {
	for field, sliced := range map[string]bool{
		"Cache-Control: max-age=3600": true, "X: y": false, "Cache-Control: no-store": false, "Cache-Control: private, max-age=60": false,
	} {
		bubble(t, func(t *testing.T) {
			o := newHuge(16 << 20)
			name, value, _ := strings.Cut(field, ": ")
			o.header.Set(name, value)
			w := newWorld(t, Config{Rules: "none"}, o.serve)
			for range 2 {
				w.wantPart(w.get("/huge.iso", rangeOf(3<<20, 1000)), o.file, 3<<20, 1000)
			}
			if got := o.sent.Load() <= 1<<20 && w.fetches.Load() == 1; got != sliced {
				t.Errorf("%s: %d fetches, %d bytes", field, w.fetches.Load(), o.sent.Load())
			}
		})
	}
}

// Overlapping ranges by many clients fetch each byte once, and the whole is
// right in the end.
func TestOverlappingRanges(t *testing.T) {
	bubble(t, func(t *testing.T) {
		size := int64(64<<20 + 12345)
		o := newHuge(size)
		o.pause = time.Millisecond
		w := newWorld(t, Config{Size: 1 << 30}, o.serve)
		random := rand.New(rand.NewPCG(1, 2))
		var clients sync.WaitGroup
		for range 50 {
			off := random.Int64N(size)
			n := 1 + random.Int64N(min(size-off, 8<<20))
			clients.Go(func() { w.wantPart(w.get(hugePath, rangeOf(off, n)), o.file, off, n) })
		}
		clients.Wait()
		a := w.get(hugePath)
		want := sha256.Sum256([]byte(o.file.part(0, size)))
		if a.status != 200 || sha256.Sum256([]byte(a.body)) != want {
			t.Errorf("the whole: %d, %d bytes, %v", a.status, len(a.body), a.err)
		}
		synctest.Wait()
		o.once(t)
		n := w.fetches.Load()
		w.want(w.get(hugePath), a.body, "hit")
		w.restart()
		w.want(w.get(hugePath), a.body, "hit")
		w.wantFetches(n)
	})
}

// On a cold file of a gigabyte, the bytes that 50 clients want are fetched once.
func TestOverlappingRangesOfGigabyte(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newHuge(1 << 30)
		o.pause = time.Millisecond
		w := newWorld(t, Config{Size: 4 << 30}, o.serve)
		var clients sync.WaitGroup
		for i := range int64(50) {
			off, n := 900<<20+i*700_001, int64(3<<20)
			clients.Go(func() { w.wantPart(w.get(hugePath, rangeOf(off, n)), o.file, off, n) })
		}
		clients.Wait()
		synctest.Wait()
		o.once(t)
		if sent := o.sent.Load(); sent > 40<<20 {
			t.Errorf("the origin sent %d bytes", sent)
		}
	})
}

// once fails if the origin sent a byte twice.
func (o *hugeOrigin) once(t *testing.T) {
	t.Helper()
	slices.SortFunc(o.spans, func(a, b httpcache.Range) int { return int(a.Start - b.Start) })
	for i := range o.spans[1:] {
		if a, b := o.spans[i], o.spans[i+1]; a.Start+a.Length > b.Start {
			t.Errorf("%d+%d and %d+%d were fetched", a.Start, a.Length, b.Start, b.Length)
		}
	}
}

// A file that is replaced while it is read is old, new, or cut.
func TestChangedWhileRead(t *testing.T) {
	for _, other := range []huge{{96 << 20, 2}, {1 << 20, 2}} {
		bubble(t, func(t *testing.T) {
			o := newHuge(96 << 20)
			old := o.file
			o.pause = time.Millisecond
			w := newWorld(t, Config{Size: 1 << 30}, o.serve)
			w.wantPart(w.get(hugePath, rangeOf(100, 1000)), old, 100, 1000)
			var clients sync.WaitGroup
			var cut atomic.Int64
			for i := range 6 {
				clients.Go(func() {
					fields := []string{"X: y"}
					off, end := int64(0), int64(96<<20)
					if i > 0 {
						off, end = int64(i)*15<<20, int64(i)*15<<20+10<<20
						fields[0] = rangeOf(off, end-off)
					}
					time.Sleep(time.Duration(i) * 10 * time.Millisecond)
					a := w.get(hugePath, fields...)
					if a.err != nil {
						cut.Add(1)
					}
					isOld := strings.HasPrefix(old.part(off, end-off), a.body)
					isNew := off < other.size && strings.HasPrefix(other.part(off, min(end, other.size)-off), a.body)
					if a.status < 300 && !isOld && !isNew {
						t.Errorf("%d, %d bytes, %v are neither old nor new", a.status, len(a.body), a.err)
					}
					if a.err == nil && a.status < 300 && isOld && int64(len(a.body)) != end-off {
						t.Errorf("%d of %d old bytes look complete", len(a.body), end-off)
					}
				})
			}
			time.Sleep(30 * time.Millisecond)
			o.replace(other, `"v2"`)
			clients.Wait()
			if cut.Load() == 0 {
				t.Error("nobody was cut: the file did not change in the middle")
			}
			if !strings.Contains(w.log.String(), "changed") {
				t.Error("the log does not tell the reason")
			}
			w.want(w.get(hugePath), other.part(0, other.size), "")
		})
	}
}

// What was replaced before the answer's header is begun again in silence.
func TestChangedBeforeHeader(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newHuge(64 << 20)
		w := newWorld(t, Config{}, o.serve)
		w.wantPart(w.get(hugePath, rangeOf(0, 10)), o.file, 0, 10)
		o.replace(huge{32 << 20, 2}, `"v2"`)
		w.wantPart(w.get(hugePath, rangeOf(30<<20, 100)), o.file, 30<<20, 100)
		w.wantPart(w.get(hugePath, rangeOf(5, 10)), o.file, 5, 10)
		if sent := o.sent.Load(); sent > 8<<20 {
			t.Errorf("the origin sent %d bytes", sent)
		}
	})
}

// Origins whose parts are of no use are asked for the whole, and nobody gets a
// wrong byte.
func TestUnfitForSlices(t *testing.T) {
	ignore := func(_ http.ResponseWriter, r *http.Request) { delete(r.Header, "Range") }
	cases := map[string]struct {
		header http.Header
		change func(w http.ResponseWriter, r *http.Request)
		most   int64
	}{
		"ignores Range": {change: ignore, most: 1},
		"weak tag":      {header: http.Header{"Etag": {`W/"1"`}}, most: 2},
		"no validator":  {header: http.Header{}, most: 2},
		"another part": {change: func(_ http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				r.Header.Set("Range", "bytes=1048577-2097152")
			}
		}, most: 2},
		"small": {most: 2},
		"ignores If-Range": {change: func(_ http.ResponseWriter, r *http.Request) {
			if r.Header.Get("If-Range") != "" {
				delete(r.Header, "Range")
			}
		}, most: 5},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				o := newHuge(12 << 20)
				if name == "small" {
					o.file.size = 7 << 20
				}
				if test.header != nil {
					o.header = test.header
				}
				o.answer = func(w http.ResponseWriter, r *http.Request) bool {
					if test.change != nil {
						test.change(w, r)
					}
					return false
				}
				w := newWorld(t, Config{}, o.serve)
				w.wantPart(w.get(hugePath, rangeOf(1<<20, 500)), o.file, 1<<20, 500)
				synctest.Wait()
				w.wantPart(w.get(hugePath, rangeOf(2<<20, 500)), o.file, 2<<20, 500)
				for off := int64(4 << 20); off < o.file.size; off += 2 << 20 {
					w.wantPart(w.get(hugePath, rangeOf(off, 500)), o.file, off, 500)
				}
				if w.fetches.Load() > test.most {
					t.Errorf("%d fetches", w.fetches.Load())
				}
			})
		})
	}
}

// Who leaves takes nobody along, and a broken part is fetched again.
func TestRunsBreak(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newHuge(64 << 20)
		o.pause = time.Millisecond
		w := newWorld(t, Config{Size: 1 << 30}, o.serve)
		w.wantPart(w.get(hugePath, rangeOf(0, 10)), o.file, 0, 10)
		var broken atomic.Bool
		o.answer = func(rw http.ResponseWriter, r *http.Request) bool {
			if !broken.CompareAndSwap(false, true) {
				return false
			}
			span, _ := httpcache.ParseRange(r.Header.Get("Range"), o.file.size)
			rw.Header()["Etag"] = o.header["Etag"]
			rw.Header().Set("Content-Range", span[0].ContentRange(o.file.size))
			rw.Header().Set("Content-Length", strconv.FormatInt(span[0].Length, 10))
			rw.WriteHeader(http.StatusPartialContent)
			_, _ = io.WriteString(rw, o.file.part(span[0].Start, 2<<20+5000))
			panic(http.ErrAbortHandler)
		}
		a := w.get(hugePath, rangeOf(10<<20, 8<<20))
		if a.body != o.file.part(10<<20, int64(len(a.body))) || a.err == nil && len(a.body) != 8<<20 || len(a.body) < 2<<20 {
			t.Errorf("got %d bytes, %v", len(a.body), a.err)
		}
		w.wantPart(w.get(hugePath, rangeOf(10<<20, 8<<20)), o.file, 10<<20, 8<<20)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _, _ = w.try(ctx, "GET", hugePath, rangeOf(30<<20, 8<<20)) }()
		time.Sleep(3 * time.Millisecond)
		var follower sync.WaitGroup
		follower.Go(func() { w.wantPart(w.get(hugePath, rangeOf(33<<20, 5<<20)), o.file, 33<<20, 5<<20) })
		time.Sleep(time.Millisecond)
		cancel()
		<-done
		follower.Wait()
		if sent := o.sent.Load(); sent > 1<<20+6<<20+8<<20+1<<19 {
			t.Errorf("the origin sent %d bytes", sent)
		}
	})
}

// A file that the store cannot take is passed on, every byte of it.
func TestSlicesDoNotFit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newHuge(48 << 20)
		w := newWorld(t, Config{Size: 16 << 20}, o.serve)
		w.wantPart(w.get(hugePath, rangeOf(3, 1000)), o.file, 3, 1000)
		a := w.get(hugePath)
		if a.status != 200 || a.body != o.file.part(0, o.file.size) {
			t.Errorf("the whole: %d, %d bytes, %v", a.status, len(a.body), a.err)
		}
		w.wantPart(w.get(hugePath, rangeOf(40<<20, 1<<20)), o.file, 40<<20, 1<<20)
	})
}

// A purge meets what is there in part: soft, it is validated and the slices
// stay, if the file did not change; hard, it is gone.
func TestPurgedInParts(t *testing.T) {
	for _, hard := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			o := newHuge(64 << 20)
			cfg, boss, _ := clients(t)
			w := newWorld(t, Config{Control: cfg}, o.serve)
			w.wantPart(w.get(hugePath, rangeOf(0, 10)), o.file, 0, 10)
			w.wantPart(w.get(hugePath, rangeOf(5<<20, 10)), o.file, 5<<20, 10)
			synctest.Wait() // the rest of what was asked for comes behind the answer
			before := o.sent.Load()
			w.purge(boss, edgeapi.PurgeRequest{Paths: []string{hugePath}, Hard: hard})
			w.wantPart(w.get(hugePath, rangeOf(5, 10)), o.file, 5, 10)
			w.wantPart(w.get(hugePath, rangeOf(5<<20, 10)), o.file, 5<<20, 10)
			if sent := o.sent.Load() - before; hard != (sent > 0) {
				t.Errorf("hard %v: the origin sent %d bytes", hard, sent)
			}
			o.replace(huge{80 << 20, 2}, `"v2"`)
			w.purge(boss, edgeapi.PurgeRequest{Paths: []string{hugePath}, Hard: hard})
			w.wantPart(w.get(hugePath, rangeOf(5, 10)), o.file, 5, 10)
			w.wantPart(w.get(hugePath, rangeOf(70<<20, 10)), o.file, 70<<20, 10)
			if sent := o.sent.Load() - before; sent > 6<<20 {
				t.Errorf("the origin sent %d bytes", sent)
			}
		})
	}
}

// The same path on two sites, and in two folders, is different files.
func TestSlicesOfTwoSites(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one, other := newHuge(64<<20), newHuge(70<<20)
		other.file.version = 2
		w := newWorld(t, Config{Sites: map[string]SiteConfig{
			"other": {Hosts: []string{"other.example"}, Origin: "http://other.mem"},
		}}, one.serve)
		w.serve("other", other.serve)
		for i := range int64(6) {
			off := i * 2 << 20
			w.wantPart(w.get(hugePath, rangeOf(off, 1000)), one.file, off, 1000)
			w.wantPart(w.get(hugePath, rangeOf(off, 1000), "Host: other.example"), other.file, off, 1000)
			w.wantPart(w.get("/beta"+hugePath, rangeOf(off, 1000)), one.file, off, 1000)
		}
	})
}

// On a disk that is full in the middle, everybody gets every byte.
func TestSlicesOnFullDisk(t *testing.T) {
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=7m"); err != nil {
		t.Skipf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	bubble(t, func(t *testing.T) {
		o := newHuge(32 << 20)
		w := newWorld(t, Config{Store: filepath.Join(disk, "store"), Size: 128 << 20}, o.serve)
		var clients sync.WaitGroup
		for i := range int64(4) {
			clients.Go(func() {
				off := 1 + i*3<<20
				w.wantPart(w.get(hugePath, rangeOf(off, 14<<20)), o.file, off, 14<<20)
			})
		}
		clients.Wait()
		w.wantPart(w.get(hugePath, rangeOf(20<<20, 100)), o.file, 20<<20, 100)
		if w.metric("freshet_edge_store_failing", "") != 1 {
			t.Error("no alert: the disk was not full")
		}
	})
}

// Several parts of a partial file come in one answer, and a range behind its
// end is refused without asking.
func TestMultipartOfHuge(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newHuge(64 << 20)
		w := newWorld(t, Config{}, o.serve)
		a := w.get(hugePath, "Range: bytes=0-9,20000000-20000009,-5")
		if a.status != 206 || !bytes.Contains([]byte(a.body), []byte(o.file.part(20000000, 10))) || !strings.Contains(a.body, o.file.part(64<<20-5, 5)) {
			t.Errorf("%d, %d bytes, %v", a.status, len(a.body), a.err)
		}
		if sent := o.sent.Load(); sent > 3<<20 {
			t.Errorf("the origin sent %d bytes", sent)
		}
		n := w.fetches.Load()
		if a := w.get(hugePath, rangeOf(70<<20, 5)); a.status != 416 || a.header.Get("Content-Range") != "bytes */67108864" {
			t.Errorf("behind the end: %d, %v", a.status, a.header)
		}
		w.wantFetches(n)
		o.replace(huge{20 << 20, 3}, `"v3"`)
		if a := w.get("/pool/main/o/other.deb", rangeOf(70<<20, 5)); a.status != 416 {
			t.Errorf("behind the end of a cold file: %d", a.status)
		}
	})
}
