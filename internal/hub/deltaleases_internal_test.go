package hub

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/config"
	"freshet/internal/durable"
	"freshet/internal/hub/deltas"
	"freshet/internal/ostree"
)

// readerFunc is a reader that is a function.
type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// leasing is a maker with one delta in its queue, taken by a worker.
func leasing(ctx context.Context, t *testing.T, limit int64) (*server, *deltas.Queue, *deltas.Lease, string) {
	t.Helper()
	dir, err := durable.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := &server{log: slog.New(slog.DiscardHandler), verifiers: semaphore.NewWeighted(1), metrics: newMetrics(prometheus.NewRegistry())}
	s.cfg.Limits.UploadBody = config.Size(limit)
	m := &deltaMaker{server: s, repo: "stable", dir: dir}
	s.makers = map[string]*deltaMaker{"stable": m}
	s.deltas.Submit(ctx, deltas.Task{Repo: "stable", Delta: deltas.Delta{Name: ostree.DeltaName{To: ostree.Checksum{1}}}}, func(deltas.Outcome) {})
	everything := func(deltas.Task) bool { return true }
	lease, err := s.deltas.Take(t.Context(), s.remoteWorker(&auth.Claims{Name: "farm", Repos: []string{""}}, "farm/1", everything))
	if err != nil {
		t.Fatal(err)
	}
	folder, err := m.folder(lease)
	if err != nil {
		t.Fatal(err)
	}
	return s, &s.deltas, lease, folder
}

// However many uploads come at once, a delta takes no more than its room; what was
// not stored, and what was replaced, takes none.
func TestDeltaRoom(t *testing.T) {
	t.Parallel()
	const limit = 1000
	s, _, lease, folder := leasing(t.Context(), t, limit)
	upload := func(part int, content string) error {
		_, err := s.storeDeltaFile(lease, ostree.DeltaFile{Part: part}, strings.NewReader(content))
		return err
	}
	// All are open before the first byte comes.
	const uploads = 8
	var begun, group sync.WaitGroup
	begun.Add(uploads)
	var refused atomic.Int32
	for part := range uploads {
		group.Go(func() {
			content := strings.NewReader(strings.Repeat("x", limit/2))
			var once sync.Once
			_, err := s.storeDeltaFile(lease, ostree.DeltaFile{Part: part}, readerFunc(func(p []byte) (int, error) {
				once.Do(func() { begun.Done(); begun.Wait() })
				return content.Read(p)
			}))
			if e, ok := errors.AsType[*hubapi.Error](err); ok && e.Kind == hubapi.ErrTooLarge {
				refused.Add(1)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) != 2 || refused.Load() != uploads-2 {
		t.Fatalf("%d files are stored, %d were refused, %v", len(entries), refused.Load(), err)
	}
	there, _ := strconv.Atoi(entries[0].Name())
	if err := upload(there, strings.Repeat("y", limit/2+1)); err == nil {
		t.Error("there is room for more than the limit")
	}
	// While one is replaced there are both.
	if err := upload(there, ""); err != nil {
		t.Errorf("nothing: %v", err)
	}
	for range 3 {
		if err := upload(there, strings.Repeat("y", limit/4)); err != nil {
			t.Errorf("in the place of another: %v", err)
		}
	}
}

// A lease that is lost while its delta is verified ends once.
func TestLeaseEndsOnce(t *testing.T) {
	t.Parallel()
	ctx, withdraw := context.WithCancel(t.Context())
	s, queue, lease, folder := leasing(ctx, t, 1000)
	path := filepath.Join(folder, "superblock")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	judged := make(chan error)
	go func() { judged <- s.judge(lease, 1) }()
	f, err := os.OpenFile(path, os.O_WRONLY, 0) // waits for the reader
	if err != nil {
		t.Fatal(err)
	}
	withdraw()
	<-lease.Context().Done()
	if _, err := f.WriteString("no superblock"); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err := <-judged; !errors.Is(err, deltas.ErrLeaseLost) {
		t.Errorf("judged: %v", err)
	}
	if n := len(queue.Status()); n != 0 {
		t.Errorf("%d tasks in the queue", n)
	}
	// Who withdraws it counts it, beside the judge.
	for counted := ends(t, s); !maps.Equal(counted, map[string]float64{leaseLost: 1}); counted = ends(t, s) {
		if len(counted) > 0 || t.Context().Err() != nil {
			t.Fatalf("ends %v", counted)
		}
		runtime.Gosched()
	}
}

// ends are the ends of leases that were counted.
func ends(t *testing.T, s *server) map[string]float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(s.metrics.deltaLeases)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if label.GetName() == "result" && metric.GetCounter().GetValue() > 0 {
					counted[label.GetValue()] = metric.GetCounter().GetValue()
				}
			}
		}
	}
	return counted
}

// What was on its way when a delta was handed in does not get into what is
// verified.
func TestUploadEndsAtVerdict(t *testing.T) {
	t.Parallel()
	s, _, lease, folder := leasing(t.Context(), t, 1<<20)
	if err := os.WriteFile(filepath.Join(folder, "0"), []byte("good"), 0o600); err != nil {
		t.Fatal(err)
	}
	judging, end, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	sent := false
	_, err := s.storeDeltaFile(lease, ostree.DeltaFile{Part: 0}, readerFunc(func(p []byte) (int, error) {
		if sent {
			return 0, io.EOF
		}
		sent = true
		go func() {
			ended <- lease.Judge(func(context.Context) (deltas.Made, error) { close(judging); <-end; return deltas.Made{}, nil })
		}()
		<-judging
		return copy(p, "evil"), nil
	}))
	data, _ := os.ReadFile(filepath.Join(folder, "0"))
	t.Logf("stored: %v; the part is now %q", err, data)
	close(end)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if string(data) != "good" {
		t.Errorf("the part is %q", data)
	}
}
