package hub

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"freshet/internal/durable"
	"freshet/internal/hub/deltas"
	"freshet/internal/ostree"
)

// readerFunc is a reader that is a function.
type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// What was on its way when a delta was handed in does not get into what is
// verified.
func TestUploadEndsAtVerdict(t *testing.T) {
	t.Parallel()
	dir, err := durable.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := &server{}
	s.cfg.Limits.UploadBody = 1 << 20
	m := &deltaMaker{server: s, repo: "stable", dir: dir}
	s.makers = map[string]*deltaMaker{"stable": m}
	var queue deltas.Queue
	queue.Submit(t.Context(), deltas.Task{Repo: "stable", Delta: deltas.Delta{Name: ostree.DeltaName{To: ostree.Checksum{1}}}}, func(deltas.Outcome) {})
	lease, err := queue.Take(t.Context(), deltas.Worker{})
	if err != nil {
		t.Fatal(err)
	}
	folder, err := m.folder(lease)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "0"), []byte("good"), 0o600); err != nil {
		t.Fatal(err)
	}
	judging, end, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	sent := false
	_, err = s.storeDeltaFile(lease, ostree.DeltaFile{Part: 0}, readerFunc(func(p []byte) (int, error) {
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
