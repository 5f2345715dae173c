package fetch_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"freshet/internal/mirror/budget"
	"freshet/internal/mirror/fetch"
	"freshet/internal/mirror/nginxtest"
	"freshet/internal/peertest"
	"freshet/internal/rsync/rsynctest"
)

// manyFiles writes a tree of files of one size, and returns the want list for it.
func manyFiles(b *testing.B, files, bytes int) (folder string, wants []fetch.Want) {
	b.Helper()
	folder = b.TempDir()
	content := []byte(strings.Repeat("0123456789abcdef", bytes/16+1))[:bytes]
	for i := range files {
		dir := fmt.Sprintf("pool/%03d", i*500/files)
		if err := os.MkdirAll(filepath.Join(folder, dir), 0o755); err != nil {
			b.Fatal(err)
		}
		name := fmt.Sprintf("%s/package-name-%06d-1.2.3.rpm", dir, i)
		copy(content, name)
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o644); err != nil {
			b.Fatal(err)
		}
		wants = append(wants, fetch.Want{Path: name, Size: int64(bytes), Sum: sumOf(string(content))})
	}
	return folder, wants
}

// job fetches all of a want list to a new folder.
func job(b *testing.B, wants []fetch.Want, source fetch.Source) (folder string) {
	b.Helper()
	j := fetch.Job{Folder: b.TempDir(), Sources: []fetch.Source{source}}
	n := 0
	err := j.Fetch(b.Context(), each(wants), func(r fetch.Result) {
		if r.Outcome == fetch.Fetched {
			n++
		}
	})
	if err != nil || n != len(wants) {
		b.Errorf("%d of %d files, %v", n, len(wants), err)
	}
	return j.Folder
}

// remove removes a folder, off the clock.
func remove(b *testing.B, folder string) {
	b.StopTimer()
	_ = os.RemoveAll(folder)
	b.StartTimer()
}

// BenchmarkMany fetches a tree of many files: by rsync as mirrors run it, by a job that
// runs rsync, and by one that speaks HTTP.
func BenchmarkMany(b *testing.B) {
	for _, size := range []struct {
		name         string
		files, bytes int
	}{{"20000x26k", 20_000, 26 << 10}, {"300000x100", 300_000, 100}} {
		folder, wants := manyFiles(b, size.files, size.bytes)
		url := rsynctest.Serve(b, folder)
		b.Run(size.name+"/plain", func(b *testing.B) {
			for b.Loop() {
				to := b.TempDir()
				peertest.Run(b, "", nil, "rsync", "-aH", "--delete-delay", "--delay-updates", url, to)
				remove(b, to)
			}
		})
		b.Run(size.name+"/rsync", func(b *testing.B) {
			for b.Loop() {
				remove(b, job(b, wants, open(b, url, fetch.Options{})))
			}
		})
		b.Run(size.name+"/http", func(b *testing.B) {
			url := nginxtest.Serve(b, folder)
			b.ResetTimer()
			for b.Loop() {
				remove(b, job(b, wants, open(b, url, fetch.Options{})))
			}
		})
		_ = os.RemoveAll(folder)
	}
}

// BenchmarkTenProjects fetches ten projects together under one limit, half of them by
// rsync and half by HTTP, and reports which part of the limit they used.
func BenchmarkTenProjects(b *testing.B) {
	const rate = 25 << 20
	folder, wants := manyFiles(b, 2000, 50_000)
	urls := []string{rsynctest.Serve(b, folder), nginxtest.Serve(b, folder)}
	limit := budget.New(rate)
	for b.Loop() {
		begun := time.Now()
		var shares []*budget.Share
		var wg sync.WaitGroup
		for i := range 10 {
			shares = append(shares, limit.Share(1))
			s := open(b, urls[i%2], fetch.Options{Network: shares[i]})
			wg.Go(func() { job(b, wants, s) })
		}
		wg.Wait()
		var sum int64
		for _, s := range shares {
			sum += s.Taken()
		}
		b.ReportMetric(float64(sum)/time.Since(begun).Seconds()/rate, "of-limit")
	}
}
