package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"freshet/internal/ostree"
	"freshet/internal/ostree/delta"
	"freshet/internal/xzrun"
)

// made is what generating a delta took. The process tells it of itself, so that
// what prepares a measurement does not count.
type made struct {
	CPU   time.Duration // of the process and of the compressors
	Wall  time.Duration // from the beginning to the last file
	RSS   int64         // bytes: peak of the process and, for each that runs at once, of a compressor
	Size  int64         // bytes: parts and superblock, and what is fetched singly
	Stats delta.Stats
}

// generateCommand is the argument that makes this program the process of
// generateDelta.
const generateCommand = "generate-delta"

// generateDelta is the process that generates a delta from REPO FROM TO WORKERS
// FALLBACK, where FROM may be empty; it writes a made.
func generateDelta(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 5 {
		return fmt.Errorf("generate-delta: %d arguments", len(args))
	}
	repo, err := ostree.OpenRepo(os.DirFS(args[0]))
	if err != nil {
		return err
	}
	var req delta.Request
	if args[1] != "" {
		if req.From, err = ostree.ParseChecksum(args[1]); err != nil {
			return err
		}
	}
	if req.To, err = ostree.ParseChecksum(args[2]); err != nil {
		return err
	}
	workers, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	fallback, err := strconv.Atoi(args[4])
	if err != nil {
		return err
	}
	xz, err := xzrun.Find(xzrun.Balanced())
	if err != nil {
		return err
	}
	compressor, err := compressorMemory(ctx, xz)
	if err != nil {
		return err
	}
	name := ostree.DeltaName{From: req.From, To: req.To}
	dir := filepath.Join(args[0], filepath.FromSlash(name.Dir()))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	before, err := cpuSoFar()
	if err != nil {
		return err
	}
	begin := time.Now()
	block, stats, err := delta.Generate(ctx, repo, req, parts(dir), delta.Options{Compress: xz.Method, Workers: workers, Fallback: fallback})
	if err != nil {
		return err
	}
	head := block.Encode()
	if err := os.WriteFile(filepath.Join(dir, "superblock"), head, 0o644); err != nil {
		return err
	}
	m := made{Stats: stats, Wall: time.Since(begin), Size: int64(stats.Parts+stats.FallbackBytes) + int64(len(head))}
	after, err := cpuSoFar()
	if err != nil {
		return err
	}
	m.CPU = after - before
	own, err := peakMemory()
	if err != nil {
		return err
	}
	m.RSS = own + int64(min(workers, len(block.Parts)))*compressor
	return json.NewEncoder(out).Encode(m)
}

// cpuSoFar is the processor time of this process and of its children that have
// ended.
func cpuSoFar() (total time.Duration, err error) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		err = errors.Join(err, syscall.Getrusage(who, &u))
		total += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return total, err
}

// compressorMemory is the largest resident set of a compressor, found with one
// that has much to do. It is asked first: what the system tells of a child begins
// with that of the parent, before the child is another program.
func compressorMemory(ctx context.Context, xz *xzrun.Program) (int64, error) {
	const enough = 16 << 20
	w, err := xz.Method(ctx, enough, false).New(io.Discard)
	if err != nil {
		return 0, err
	}
	_, err = io.CopyN(w, rand.Reader, enough)
	var usage syscall.Rusage
	err = errors.Join(err, w.Close(), syscall.Getrusage(syscall.RUSAGE_CHILDREN, &usage))
	return usage.Maxrss * 1024, err
}

// peakMemory is the largest resident set that this process had: unlike
// ru_maxrss, without what it had before it became this program.
func peakMemory() (int64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	line, _, _ := strings.Cut(rest, "kB")
	kb, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	return kb * 1024, err
}

// parts is the folder of a delta.
type parts string

// Create implements [delta.Files].
func (p parts) Create(part int) (io.WriteCloser, error) {
	return os.Create(filepath.Join(string(p), strconv.Itoa(part)))
}
