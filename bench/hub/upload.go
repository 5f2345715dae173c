package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"freshet/internal/archive"
	"freshet/internal/flatpak"
)

// Goals of uploads: the time in proportion to that of the slower one of the disk and
// the hash, and what the hub has in memory of its own, in bytes.
const (
	goalUploadTime = 1 / 0.8
	goalUploadRSS  = 128 << 20
)

// uploadCase is an app of so many files, all different and incompressible.
type uploadCase struct {
	name        string
	files, size int
	rounds      int
}

// uploadTimes are those of one round.
type uploadTimes struct {
	hash time.Duration // of the objects' bytes, in memory
	disk time.Duration // to write each object and give it its name then, and force all to the disk
	hub  cost          // to take them by HTTP, verify, write and force them to the disk; with the client's wall time
	rss  int64         // the most the hub had in memory of its own, in bytes
}

// measureUploads compares uploads with what the machine can do at best.
func measureUploads(ctx context.Context, cfg config, out io.Writer) error {
	cases := []uploadCase{{"10000x3kB", 10_000, 3000, 5}, {"1GB", 100, 10_000_000, 3}}
	if cfg.quick {
		cases = []uploadCase{{"2000x3kB", 2000, 3000, 2}, {"50MB", 5, 10_000_000, 2}}
	}
	for _, c := range cases {
		if len(cfg.cases) > 0 && !slices.Contains(cfg.cases, c.name) {
			continue
		}
		rounds, err := c.measure(ctx, cfg)
		if err != nil {
			return fmt.Errorf("upload %s: %w", c.name, err)
		}
		best, rss := fastest(rounds), int64(0)
		for _, r := range rounds {
			rss = max(rss, r.rss)
		}
		name := "upload-" + c.name
		printLine(out, name+"-hash", seconds(best.hub.Wall), seconds(best.hash), ratio(best.hub.Wall, max(best.hash, best.disk)), goalUploadTime)
		printLine(out, name+"-disk", seconds(best.hub.Wall), seconds(best.disk), ratio(best.hub.Wall, max(best.hash, best.disk)), goalUploadTime)
		_, _ = fmt.Fprintf(out, "%s-cpu %s\n", name, seconds(best.hub.CPU))
		printLine(out, name+"-rss", megabytes(rss), megabytes(goalUploadRSS), float64(rss)/goalUploadRSS, 1)
	}
	return nil
}

// fastest takes of each part its fastest round: whatever else the machine does only
// makes them longer.
func fastest(rounds []uploadTimes) uploadTimes {
	best := rounds[0]
	for _, r := range rounds {
		best.hash, best.disk = min(best.hash, r.hash), min(best.disk, r.disk)
		best.hub.Wall, best.hub.CPU = min(best.hub.Wall, r.hub.Wall), min(best.hub.CPU, r.hub.CPU)
	}
	return best
}

func (c uploadCase) measure(ctx context.Context, cfg config) (rounds []uploadTimes, err error) {
	dir, err := os.MkdirTemp("", "freshet-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	source := filepath.Join(dir, "source")
	if err := c.write(source); err != nil {
		return nil, err
	}
	empty := filepath.Join(dir, "empty")
	if _, err := archive.Create(empty); err != nil {
		return nil, err
	}
	hub, err := startOurs(ctx, cfg.binary, filepath.Join(dir, "hub"), empty, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, hub.stop()) }()
	// All stays until the end: in the seconds after files were removed, ext4 makes new
	// ones slowly.
	for i := range c.rounds {
		var r uploadTimes
		if r.hash, err = hashObjects(source); err != nil {
			return nil, err
		}
		if r.disk, err = writeObjects(source, filepath.Join(dir, fmt.Sprint("plain", i))); err != nil {
			return nil, err
		}
		if err := hub.receive(ctx, source, &r); err != nil {
			return nil, err
		}
		rounds = append(rounds, r)
	}
	return rounds, nil
}

// write writes a repository with the app.
func (c uploadCase) write(dir string) error {
	repo, err := archive.Create(dir)
	if err != nil {
		return err
	}
	random := rand.NewChaCha8([32]byte{1})
	files := make([]archive.File, c.files)
	for i := range files {
		content := make([]byte, c.size)
		_, _ = random.Read(content) // it does not fail
		files[i] = archive.File{Path: fmt.Sprintf("files/share/%03d/%02d", i/100, i%100), Content: content}
	}
	id := appID(0)
	meta := flatpak.Metadata{Kind: flatpak.App, Name: id, Runtime: platform, SDK: platform, Command: "app"}
	return repo.CommitFlatpak("app/"+id+"/x86_64/stable", meta, files, nil, time.Unix(1_700_000_000, 0))
}

// eachFile calls do with the content of each object.
func eachFile(repo string, do func(name string, content []byte) error) error {
	return walkFiles(filepath.Join(repo, "objects"), func(path string, _ fs.FileInfo) error {
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return do(filepath.Join(filepath.Base(filepath.Dir(path)), filepath.Base(path)), content)
	})
}

// hashObjects measures the hash of all objects.
func hashObjects(repo string) (took time.Duration, err error) {
	err = eachFile(repo, func(_ string, content []byte) error {
		begun := time.Now()
		_ = sha256.Sum256(content)
		took += time.Since(begun)
		return nil
	})
	return took, err
}

// writeObjects measures how long a program takes that does nothing but write the
// objects where they belong in a repository, so that nobody ever sees half of one, and
// force all of them to the disk at once.
func writeObjects(repo, dir string) (took time.Duration, err error) {
	for i := range 256 {
		if err := os.MkdirAll(filepath.Join(dir, fmt.Sprintf("%02x", i)), 0o755); err != nil {
			return 0, err
		}
	}
	temp := filepath.Join(dir, "temp")
	if err := syncDisk(repo); err != nil {
		return 0, err
	}
	err = eachFile(repo, func(name string, content []byte) error {
		begun := time.Now()
		err := os.WriteFile(temp, content, 0o644)
		if err == nil {
			err = unix.Rename(temp, filepath.Join(dir, name))
		}
		took += time.Since(begun)
		return err
	})
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	err = syncDisk(dir)
	return took + time.Since(begun), err
}

// syncDisk forces the file system of a folder to the disk, as a hub does when a
// build is committed.
func syncDisk(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}

// receive measures an upload of the repository into a new build.
func (o *ours) receive(ctx context.Context, source string, r *uploadTimes) error {
	sampled := make(chan int64)
	ended := make(chan struct{})
	go func() { sampled <- o.sampleMemory(ended) }()
	var err error
	r.hub, err = o.measure(func() error {
		if _, err := o.upload(ctx, source); err != nil {
			return err
		}
		return syncDisk(o.dir)
	})
	close(ended)
	r.rss = <-sampled
	return err
}

// sampleMemory returns the most that the hub has in memory of its own until ended.
func (o *ours) sampleMemory(ended <-chan struct{}) (most int64) {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		if now, err := memory(o.cmd.Process.Pid, "RssAnon"); err == nil {
			most = max(most, now)
		}
		select {
		case <-ticker.C:
		case <-ended:
			return most
		}
	}
}
