package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// soakEnv is how long TestSoak takes, "30m".
const soakEnv = "FRESHET_SOAK"

// Many clients ask for everything there is, while the edge is killed, its disk
// is full from time to time and its origin comes and goes, answers late, with
// errors, or half: whatever a client gets whole is right, to the last byte.
func TestSoak(t *testing.T) {
	parallel(t)
	length := 15 * time.Second
	if s := os.Getenv(soakEnv); s != "" {
		var err error
		if length, err = time.ParseDuration(s); err != nil {
			t.Fatalf("%s: %v", soakEnv, err)
		}
	}
	disk := smallDisk(t)
	world := &soak{t: t, disk: disk, origin: &flappingOrigin{begun: time.Now()}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: world.origin, ReadHeaderTimeout: time.Minute}
	go func() { _ = srv.Serve(ln) }() // ends with Close
	defer func() { _ = srv.Close() }()
	world.addr = freeAddr(t)
	world.originURL = "http://" + ln.Addr().String()
	world.startEdge()

	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() { world.client(ctx, uint64(i)) })
	}
	wg.Go(func() { world.trouble(ctx) })
	wg.Wait()

	world.origin.mood.Store(moodGood)
	t.Logf("%d answers whole and right, %d errors told, %d cut; %d kills; %d requests at the origin; outcomes %v",
		world.right.Load(), world.refused.Load(), world.cut.Load(), world.kills, world.origin.requests.Load(), world.outcomes())
	if world.right.Load() < 100 {
		t.Error("hardly anything was answered")
	}
	// When all is well again, everything is there.
	random := rand.New(rand.NewPCG(1, 1))
	eventually(t, "everything is answered again", patience, func() error {
		for range 50 {
			if err := world.ask(t.Context(), random); err != nil {
				return err
			}
		}
		return nil
	})
}

// smallDisk returns a folder on a disk of its own that is soon full; without
// the right to mount one, just a folder.
func smallDisk(t *testing.T) string {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=96m"); err != nil {
		t.Logf("no disk of its own: %v", err)
		return dir
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

type soak struct {
	t               *testing.T
	disk            string
	addr, originURL string
	origin          *flappingOrigin
	edge            *edgeServer
	kills           int

	right, refused, cut atomic.Int64
	mu                  sync.Mutex
	seen                map[string]int
}

func (s *soak) startEdge() {
	s.edge = startEdge(s.t, filepath.Join(s.disk, "store"), s.addr, s.originURL, "--size", "150MB")
}

// trouble does to the edge and its origin what the world does.
func (s *soak) trouble(ctx context.Context) {
	random := rand.New(rand.NewPCG(2, 2))
	hog := filepath.Join(s.disk, "hog")
	for {
		select {
		case <-ctx.Done():
			_ = os.Remove(hog) // it may not be there
			return
		case <-time.After(time.Duration(300+random.IntN(1200)) * time.Millisecond):
		}
		switch random.IntN(8) {
		case 0:
			s.edge.kill()
			s.kills++
			s.startEdge()
		case 1: // somebody else fills the disk
			_ = os.WriteFile(hog, make([]byte, 96<<20), 0o600) // as much as fits
		case 2:
			_ = os.Remove(hog) // it may not be there
		case 3, 4, 5:
			s.origin.mood.Store(int32(random.IntN(moods)))
		default:
			s.origin.mood.Store(moodGood)
			_ = os.Remove(hog) // it may not be there
		}
	}
}

func (s *soak) client(ctx context.Context, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 3))
	for ctx.Err() == nil {
		if err := s.ask(ctx, random); err != nil && ctx.Err() == nil {
			if _, wrong := errors.AsType[*wrongBody](err); wrong {
				s.t.Error(err)
				return
			}
			<-time.After(10 * time.Millisecond)
		}
	}
}

// wrongBody says that a client was told something that is not true.
type wrongBody struct{ what string }

func (w *wrongBody) Error() string { return w.what }

// ask makes one request and compares what comes.
func (s *soak) ask(ctx context.Context, random *rand.Rand) error {
	path := soakPath(random)
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+path, nil)
	if err != nil {
		return err
	}
	ranged := random.IntN(3) == 0
	if ranged {
		from := random.IntN(40 << 20)
		if !strings.HasSuffix(path, ".iso") {
			from = random.IntN(4096)
		}
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, from+random.IntN(1<<20)))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.refused.Add(1)
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	limit := int64(64 << 20)
	leaves := random.IntN(10) == 0
	if leaves { // some go before they have it all
		limit = int64(random.IntN(256 << 10))
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit))
	if err != nil {
		s.cut.Add(1)
		return err
	}
	s.note(resp)
	switch resp.StatusCode {
	case http.StatusOK, http.StatusPartialContent:
	case http.StatusRequestedRangeNotSatisfiable:
		return nil
	case http.StatusNotFound:
		return &wrongBody{path + " is not there, it says"}
	default:
		s.refused.Add(1)
		return fmt.Errorf("%s: %s", path, resp.Status)
	}
	tag, err := strconv.Unquote(resp.Header.Get("Etag"))
	if err != nil {
		return &wrongBody{fmt.Sprintf("%s: Etag %q", path, resp.Header.Get("Etag"))}
	}
	begin, end := 0, soakSize(path)
	if resp.StatusCode == http.StatusPartialContent {
		var total int
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &begin, &end, &total); err != nil || total != soakSize(path) {
			return &wrongBody{fmt.Sprintf("%s: Content-Range %q", path, resp.Header.Get("Content-Range"))}
		}
		end++
	}
	if !leaves && len(body) != end-begin {
		return &wrongBody{fmt.Sprintf("%s: %d bytes of %d, as if that were all", path, len(body), end-begin)}
	}
	if want := soakContent(tag, begin, begin+len(body)); !bytes.Equal(body, want) {
		got, wanted := sha256.Sum256(body), sha256.Sum256(want)
		return &wrongBody{fmt.Sprintf("%s %s, bytes %d to %d: SHA-256 %x, want %x; %v", path, tag, begin, begin+len(body), got, wanted, resp.Header)}
	}
	if strings.HasPrefix(tag, "moving") && !strings.HasPrefix(tag, "moving"+path) || !strings.HasPrefix(tag, "moving") && tag != path {
		return &wrongBody{fmt.Sprintf("%s has the tag %q of another file", path, tag)}
	}
	s.right.Add(1)
	return nil
}

func (s *soak) note(resp *http.Response) {
	outcome := fmt.Sprint(resp.StatusCode)
	if strings.Contains(resp.Header.Get("Cache-Status"), "hit") {
		outcome += " hit"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = make(map[string]int)
	}
	s.seen[outcome]++
}

func (s *soak) outcomes() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

// soakPath chooses what to ask for: mostly packages, and some of each of what
// else there is.
func soakPath(random *rand.Rand) string {
	switch n := random.IntN(20); {
	case n == 0:
		return fmt.Sprintf("/images/%d.iso", random.IntN(3))
	case n < 4:
		return fmt.Sprintf("/moving/%d.bin", random.IntN(5))
	case n < 6:
		return fmt.Sprintf("/dists/%d/InRelease", random.IntN(5))
	case n < 8: // named by its content
		i := random.IntN(40)
		return fmt.Sprintf("/fedora/repodata/%s-primary.xml.gz", soakDigest(i))
	}
	return fmt.Sprintf("/pool/a/package_%d_all.deb", int(random.ExpFloat64()*40))
}

// soakDigest is the name of a file whose content is its tag's.
func soakDigest(i int) string {
	sum := sha256.Sum256(noise(uint64(i), addressedSize))
	return hex.EncodeToString(sum[:])
}

const addressedSize = 30_000

func soakSize(path string) int {
	switch {
	case strings.HasSuffix(path, ".iso"):
		return 40 << 20
	case strings.HasPrefix(path, "/moving/"):
		return 300_000
	case strings.Contains(path, "/repodata/"):
		return addressedSize
	}
	sum := sha256.Sum256([]byte(path))
	return 500 + int(sum[0])*int(sum[1])*4
}

// addressedFiles are the contents of the files named by them.
var addressedFiles = sync.OnceValue(func() map[string][]byte {
	files := make(map[string][]byte)
	for i := range 40 {
		files["/fedora/repodata/"+soakDigest(i)+"-primary.xml.gz"] = noise(uint64(i), addressedSize)
	}
	return files
})

// soakContent is a part of the content that a tag names: blocks of which each
// is determined by the tag and its place.
func soakContent(tag string, begin, end int) []byte {
	if content, ok := addressedFiles()[tag]; ok {
		return content[begin:end]
	}
	const block = 4096
	seed := sha256.Sum256([]byte(tag))
	base := uint64(seed[0]) | uint64(seed[1])<<8 | uint64(seed[2])<<16 | uint64(seed[3])<<24
	var b []byte
	for i := begin / block; i*block < end; i++ {
		b = append(b, noise(base+uint64(i)*7919, block)...)
	}
	skip := begin % block
	return b[skip : skip+end-begin]
}

// flappingOrigin serves every path of soakPath, in changing moods.
type flappingOrigin struct {
	begun    time.Time
	mood     atomic.Int32
	requests atomic.Int64
}

// The moods of an origin.
const (
	moodGood = iota
	moodErrors
	moodCuts
	moodSlow
	moodRefuses
	moodSilent
	moods
)

func (o *flappingOrigin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.requests.Add(1)
	mood := o.mood.Load()
	switch mood {
	case moodErrors:
		http.Error(w, "not today", http.StatusServiceUnavailable)
		return
	case moodRefuses:
		panic(http.ErrAbortHandler)
	case moodSilent:
		select {
		case <-r.Context().Done():
		case <-time.After(2 * time.Second):
		}
		panic(http.ErrAbortHandler)
	}
	path := r.URL.Path
	tag := path
	switch {
	case strings.HasPrefix(path, "/moving/"): // another file every two seconds
		tag = fmt.Sprintf("moving%s-%d", path, int(time.Since(o.begun)/(2*time.Second)))
		w.Header().Set("Cache-Control", "max-age=1")
	case strings.HasSuffix(path, "InRelease"):
		tag = fmt.Sprintf("moving%s-%d", path, int(time.Since(o.begun)/(3*time.Second)))
		w.Header().Set("Cache-Control", "max-age=1")
	default:
		w.Header().Set("Cache-Control", "max-age=3600")
	}
	w.Header().Set("Etag", strconv.Quote(tag))
	content := &soakReader{tag: tag, size: int64(soakSize(path)), mood: mood}
	http.ServeContent(w, r, "", time.Time{}, content)
}

// soakReader reads the content of a tag, in a mood.
type soakReader struct {
	tag       string
	size, off int64
	mood      int32
	read      int64
}

func (s *soakReader) Read(p []byte) (int, error) {
	if s.off >= s.size {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), s.size-s.off, 32<<10)]
	if s.mood == moodCuts && s.read > 200_000 || s.mood == moodCuts && s.size < 400_000 && s.read > s.size/2 {
		panic(http.ErrAbortHandler)
	}
	if s.mood == moodSlow {
		<-time.After(2 * time.Millisecond)
	}
	n := copy(p, soakContent(s.tag, int(s.off), int(s.off)+len(p)))
	s.off += int64(n)
	s.read += int64(n)
	return n, nil
}

func (s *soakReader) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		off += s.off
	case io.SeekEnd:
		off += s.size
	}
	s.off = off
	return off, nil
}
