package catalog_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"freshet/api/hubapi"
	"freshet/internal/hub/catalog"
	"freshet/internal/sqldb/sqldbtest"
)

// childDSN is the environment variable that makes TestPublishForEver work.
const childDSN = "FRESHET_TEST_CATALOG"

// TestPublishForEver is the hub that TestKill kills: it publishes builds and
// prints the serial of each event that it was promised.
func TestPublishForEver(t *testing.T) {
	dsn := os.Getenv(childDSN)
	if dsn == "" {
		t.Skip("is run by TestKill")
	}
	ctx := t.Context()
	c := value(catalog.Open(ctx, catalog.Config{DSN: dsn, Instance: "hub"}))(t)
	value(c.Recover(ctx))(t)
	for {
		job := value(c.NextJob(ctx, catalog.JobFilter{}))(t)
		if job == nil {
			build := value(c.CreateBuild(ctx, catalog.NewBuild{Repo: "stable"}))(t)
			value(c.StartCommit(ctx, build.ID, nil))(t)
			continue
		}
		must(t, c.AppendLog(ctx, job.ID, "working\n"))
		if job.Kind == hubapi.JobCommit {
			must(t, c.FinishCommit(ctx, job.Claim(), map[string]string{"ref": "01"}))
			value(c.StartPublish(ctx, job.Build, nil))(t)
			continue
		}
		event := value(c.FinishPublish(ctx, catalog.Publish{
			Key: fmt.Sprint("build-", job.Build), Repo: "stable", Changed: []string{"summary"},
			Jobs:  []catalog.PublishedJob{{Claim: job.Claim(), Refs: map[string]string{"ref": "02"}}},
			Infos: []catalog.RefInfo{{Ref: "ref", Commit: fmt.Sprint(job.Build), Info: []byte("info")}},
		}))(t)
		fmt.Println("promised", event.Serial)
	}
}

// A hub that is killed at any moment keeps what it promised, and its next
// start takes up what it was doing.
func TestKill(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, newDSN func() string) {
		t.Helper()
		ctx := t.Context()
		dsn := newDSN()
		self := value(os.Executable())(t)
		promised := int64(0)
		for range 8 {
			cmd := exec.CommandContext(ctx, self, "-test.run=^TestPublishForEver$", "-test.count=1")
			cmd.Env = append(os.Environ(), childDSN+"="+dsn)
			cmd.Stderr = os.Stderr
			out := value(cmd.StdoutPipe())(t)
			must(t, cmd.Start())
			lines := bufio.NewScanner(out)
			for more := 1 + rand.IntN(8); more > 0 && lines.Scan(); {
				var serial int64
				if _, err := fmt.Sscanf(lines.Text(), "promised %d", &serial); err != nil {
					t.Log(lines.Text())
					continue
				}
				promised = serial
				more--
			}
			must(t, cmd.Process.Kill())
			for lines.Scan() { // what it still promised before it died
				_, _ = fmt.Sscanf(lines.Text(), "promised %d", &promised)
			}
			if err := cmd.Wait(); err == nil {
				t.Fatal("the hub ended by itself")
			}
			check(t, dsn, promised)
		}
	})
}

// check looks for what no crash may leave behind.
func check(tb testing.TB, dsn string, promised int64) {
	tb.Helper()
	ctx := tb.Context()
	c := value(catalog.Open(ctx, catalog.Config{DSN: dsn, Instance: "check"}))(tb)
	defer c.Close()
	page := value(c.Events(ctx, 0, 1000))(tb)
	if page.Head < promised || int64(len(page.Events)) != page.Head {
		tb.Fatalf("%d events, head %d, promised %d", len(page.Events), page.Head, promised)
	}
	published := map[int64]bool{}
	for i, event := range page.Events {
		if event.Serial != int64(i+1) || published[event.Build] {
			tb.Errorf("event %d is %+v", i+1, event)
		}
		published[event.Build] = true
	}
	builds := value(c.Builds(ctx, nil))(tb)
	for _, b := range builds {
		if (b.PublishedState == hubapi.Published) != published[b.ID] {
			tb.Errorf("build %d is %s, its event is there: %v", b.ID, b.PublishedState, published[b.ID])
		}
		job := b.CommitJobID
		done := b.RepoState == hubapi.RepoReady
		if b.PublishedState != hubapi.Unpublished {
			job, done = b.PublishJobID, b.PublishedState == hubapi.Published
		}
		if job == nil {
			continue
		}
		if j := value(c.Job(ctx, *job))(tb); (j.Status == hubapi.JobEnded) != done {
			tb.Errorf("build %d is %s and %s, its job %s", b.ID, b.RepoState, b.PublishedState, j.Status)
		}
	}
	if n := len(page.Events); n > 0 {
		if got, want := refs(tb, c, "stable")["ref"].Commit, strconv.FormatInt(page.Events[n-1].Build, 10); got != want {
			tb.Errorf("the ref is at %s, the last event at %s", got, want)
		}
	}
}
