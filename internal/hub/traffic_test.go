package hub_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/hub"
	"freshet/internal/ostree"
	"freshet/internal/sqldb/sqldbtest"
)

// Whoever reads while publishes go on finds all that an index names.
func TestReadersDuringPublishes(t *testing.T) {
	h := startHub(t, hub.Config{})
	h.publishAll("stable", app(t, "org.test.Hello", "v0"))
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for rounds := 0; ; rounds++ {
				if !readRepo(t, h) {
					return
				}
				select {
				case <-done:
					if rounds > 0 {
						return
					}
				default:
				}
			}
		})
	}
	for i := range 5 {
		h.publishAll("stable", app(t, "org.test.Hello", fmt.Sprint("v", i+1)))
	}
	close(done)
	readers.Wait()
}

// readRepo reads as flatpak does, from the index down to the commits.
func readRepo(t *testing.T, h *runningHub) bool {
	read := func(path string) []byte {
		a := h.get("/repo/stable/" + path)
		if a.status != http.StatusOK {
			t.Errorf("%s: %d", path, a.status)
			return nil
		}
		return a.body
	}
	data := read("summary.idx")
	index, err := ostree.ParseSummaryIndex(data)
	if err != nil {
		t.Errorf("summary.idx: %v", err)
		return false
	}
	read(ostree.SummaryIndexSignaturePath(ostree.ChecksumOf(data)))
	for _, sub := range index.Subsummaries {
		read(ostree.SubsummaryPath(sub.Checksum))
	}
	summary, err := ostree.ParseSummary(read("summary"))
	if err != nil {
		t.Errorf("summary: %v", err)
		return false
	}
	for _, ref := range summary.Refs {
		read(ostree.ObjectName{Checksum: ref.Commit, Type: ostree.TypeCommit}.Path())
		read(ostree.ObjectName{Checksum: ref.Commit, Type: ostree.TypeCommitMeta}.Path())
	}
	return !t.Failed()
}

// Many clients at once, uploading the same objects into the same build and
// others, all succeed.
func TestParallelUploads(t *testing.T) {
	h := startHub(t, hub.Config{})
	token := h.token(everything())
	c := app(t, "org.test.Hello", "v1")
	shared := decode[hubapi.Build](t, h.json(http.MethodPost, "/api/v1/build", token, map[string]any{"repo": "stable"}))
	var clients sync.WaitGroup
	for range 6 {
		clients.Go(func() {
			if a := h.upload(hubapi.BuildPath(shared.ID, "upload"), token, "mixed", c.parts...); a.status != 200 {
				t.Errorf("upload: %d %s", a.status, a.body)
			}
		})
	}
	for i := range 4 {
		clients.Go(func() {
			build := h.push("stable", app(t, fmt.Sprintf("org.test.App%d", i), "v1"))
			h.commit(build)
			h.publish(build)
		})
	}
	clients.Wait()
	ref, commit := c.ref()
	h.json(http.MethodPost, hubapi.BuildPath(shared.ID, "build_ref"), token, map[string]any{"ref": ref, "commit": commit})
	h.commit(shared)
	h.publish(shared)
	readRepo(t, h)
}

// A client that stops in the middle of its upload does not hold a connection
// for ever, and does not disturb others.
func TestStalledUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHub(t, hub.Config{})
		token := h.token(everything())
		build := decode[hubapi.Build](t, h.json(http.MethodPost, "/api/v1/build", token, map[string]any{"repo": "stable"}))
		body, contentType := multipartOf("mixed", app(t, "org.test.Hello", "v1").parts...)
		reader, writer := io.Pipe()
		go func() {
			_, _ = writer.Write(body[:len(body)/2])
			time.Sleep(10 * time.Minute)
			_ = writer.Close()
		}()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.base+hubapi.BuildPath(build.ID, "upload"), reader)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
		request.Header.Set("Content-Type", contentType)
		begin := time.Now()
		response, err := h.client.Do(request)
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode < 400 {
				t.Errorf("a stalled upload: %d", response.StatusCode)
			}
		}
		if took := time.Since(begin); took < 50*time.Second || took > 2*time.Minute {
			t.Errorf("ended after %v", took)
		}
		_ = reader.Close()
		time.Sleep(10 * time.Minute) // the writer's end
		h.stop()
	})
}

// Jobs are for those whose token has the repository; what came of a publish is
// for everybody.
func TestJobsAndPublishedFiles(t *testing.T) {
	h := startHub(t, hub.Config{})
	build := h.publishAll("stable", app(t, "org.test.Hello", "v1"))
	claims := everything()
	claims.Repos = []string{"beta"}
	h.do(http.MethodGet, "/api/v1/job/2", h.token(claims), nil).problem(t, 403, hubapi.ErrInsufficient)
	claims.Repos = []string{"stable"}
	if a := h.do(http.MethodGet, "/api/v1/job/2", h.token(claims), nil); a.status != 200 {
		t.Errorf("job: %d %s", a.status, a.body)
	}
	h.do(http.MethodGet, "/api/v1/job/99", h.token(claims), nil).problem(t, 404, hubapi.ErrNotFound)
	// An offset beyond the log's end gives nothing, a negative one everything.
	for offset, empty := range map[int]bool{1 << 40: true, -5: false} {
		a := h.json(http.MethodGet, hubapi.BuildPath(build.ID, "publish"), h.token(everything()), map[string]any{"log-offset": offset})
		if job := decode[hubapi.Job](t, a); (job.Log == "") != empty {
			t.Errorf("offset %d: %q", offset, job.Log)
		}
	}
	if a := h.get("/repo/stable/stable.flatpakrepo"); a.header.Get("Content-Type") != "application/vnd.flatpak.repo" || !strings.Contains(string(a.body), "GPGKey=") {
		t.Errorf("flatpakrepo: %d %v %s", a.status, a.header, a.body)
	}
	if a := h.get("/repo/stable/appstream/org.test.Hello.flatpakref"); a.status != 200 || !strings.Contains(string(a.body), "Name=org.test.Hello") {
		t.Errorf("flatpakref: %d %s", a.status, a.body)
	}
}

// The control state may live in PostgreSQL.
func TestPostgreSQL(t *testing.T) {
	h := startHub(t, hub.Config{Database: sqldbtest.PostgreSQL(t)})
	h.publishAll("stable", app(t, "org.test.Hello", "v1"))
	h.restart()
	h.publishAll("stable", app(t, "org.test.Hello", "v2"))
	pushTree(t, h, "files", map[string]string{"a": "a"})
	readRepo(t, h)
	page := decode[hubapi.EventPage](t, h.get(hubapi.EventsPath))
	if last := page.Events[len(page.Events)-1]; last.Serial != page.Head || last.Kind != hubapi.EventTree {
		t.Errorf("events %+v", page)
	}
}
