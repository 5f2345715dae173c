package main

import (
	"context"
	"encoding/json"
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
	name := ostree.DeltaName{From: req.From, To: req.To}
	dir := filepath.Join(args[0], filepath.FromSlash(name.Dir()))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	block, stats, err := delta.Generate(ctx, repo, req, parts(dir), delta.Options{Compress: xz.Method, Workers: workers, Fallback: fallback})
	if err != nil {
		return err
	}
	head := block.Encode()
	if err := os.WriteFile(filepath.Join(dir, "superblock"), head, 0o644); err != nil {
		return err
	}
	m := made{Stats: stats, Size: int64(stats.Parts+stats.FallbackBytes) + int64(len(head))}
	var self, children syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &self); err != nil {
		return err
	}
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &children); err != nil {
		return err
	}
	for _, u := range []syscall.Rusage{self, children} {
		m.CPU += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	own, err := peakMemory()
	if err != nil {
		return err
	}
	m.RSS = own + int64(min(workers, len(block.Parts)))*children.Maxrss*1024
	return json.NewEncoder(out).Encode(m)
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
