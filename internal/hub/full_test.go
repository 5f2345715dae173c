package hub_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"freshet/api/hubapi"
	"freshet/internal/hub"
	"freshet/internal/peertest"
)

// smallDisk mounts a file system of its own.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "hub")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		peertest.Missing(t, "mount")
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fillDisk leaves not a byte, until makeRoom is called.
func fillDisk(t *testing.T, dir string) (makeRoom func()) {
	t.Helper()
	filler := filepath.Join(dir, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1 << 20, 64 << 10, 4 << 10, 1} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
	}
}

// A full disk is told as such, harms nothing, and does not outlast itself.
func TestDiskFull(t *testing.T) {
	dir := smallDisk(t)
	h := startHub(t, hub.Config{Dir: dir})
	t.Cleanup(h.stop) // before the file system goes
	h.publishAll("stable", app(t, "org.test.First", "v1"))
	token := h.token(everything())
	c := app(t, "org.test.Hello", "v1")
	build := decode[hubapi.Build](t, h.json(http.MethodPost, "/api/v1/build", token, map[string]any{"repo": "stable"}))

	makeRoom := fillDisk(t, dir)
	path := hubapi.BuildPath(build.ID)
	h.upload(path+"/upload", token, "mixed", c.parts...).problem(t, 507, hubapi.ErrNoSpace)
	h.json(http.MethodPost, "/api/v1/build", token, map[string]any{"repo": "stable"}).problem(t, 507, hubapi.ErrNoSpace)
	if a := h.get("/repo/stable/summary"); a.status != 200 {
		t.Errorf("what is published is not served: %d %s", a.status, a.body)
	}
	makeRoom()
	if a := h.upload(path+"/upload", token, "mixed", c.parts...); a.status != 200 {
		t.Fatalf("upload with room: %d %s", a.status, a.body)
	}
	ref, commit := c.ref()
	h.json(http.MethodPost, path+"/build_ref", token, map[string]any{"ref": ref, "commit": commit})
	h.commit(build)
	h.publish(build)
}

// started asks for a job and returns when it is being worked on.
func (h *runningHub) started(path string) {
	h.t.Helper()
	token := h.token(everything())
	if a := h.json(http.MethodPost, path, token, struct{}{}); a.status != http.StatusOK {
		h.t.Fatalf("%s: %d %s", path, a.status, a.body)
	}
	// No sleep: a job that waits for a mutex would hold up the clock of a test.
	for range 10_000 {
		if decode[hubapi.Job](h.t, h.do(http.MethodGet, path, token, nil)).Status == hubapi.JobStarted {
			return
		}
	}
	h.t.Fatalf("%s does not start", path)
}

// A publish for which the disk is full waits, and is done when there is room.
func TestDiskFullDuringPublish(t *testing.T) {
	dir := smallDisk(t)
	synctest.Test(t, func(t *testing.T) {
		h := startHub(t, hub.Config{Dir: dir})
		token := h.token(everything())
		build, second := h.push("stable", app(t, "org.test.Hello", "v1")), h.push("stable", app(t, "org.test.Second", "v1"))
		h.commit(build)
		h.commit(second)
		path := hubapi.BuildPath(build.ID, "publish")

		// The publish waits for another program that has locked the repository.
		lock, err := os.OpenFile(filepath.Join(dir, "repos", "stable", ".lock"), os.O_RDWR|os.O_CREATE, 0o660)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.FcntlFlock(lock.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
			t.Fatal(err)
		}
		h.started(path)
		makeRoom := fillDisk(t, dir)
		if err := lock.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if job := decode[hubapi.Job](t, h.do(http.MethodGet, path, token, nil)); job.Status != hubapi.JobStarted {
			t.Errorf("without room the job is %+v", job)
		}
		makeRoom()
		h.publish(second)
		if job := h.wait(path); job.Status != hubapi.JobEnded || !strings.Contains(job.Log, "Waiting for space: ") {
			t.Errorf("job %+v results %s", job, *job.Results)
		}
		if status := h.get("/status", "Accept", "application/json"); strings.Contains(string(status.body), "waits_for") {
			t.Errorf("status %s", status.body)
		}
		h.stop()
	})
}
