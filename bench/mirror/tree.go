package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"freshet/bench/measure"
)

// packageEnd is how the names of packages end.
const packageEnd = ".pkg"

// stampName is the file that changes with every change of a tree.
const stampName = "lastupdate"

// long ago: what was changed within the second in which it was listed is looked at twice.
func longAgo() time.Time { return time.Now().Add(-24 * time.Hour).Truncate(time.Second) }

// writeTree makes a tree of so many files, in folders of a hundred, whose lengths are
// spread as those of packages are around a mean; the same for the same numbers.
func writeTree(dir string, files int, mean float64) (bytes int64, err error) {
	r := rand.New(rand.NewPCG(1, uint64(files)))
	const sigma = 1.4
	data := make([]byte, 64<<20)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	at := longAgo()
	for i := range files {
		folder := filepath.Join(dir, fmt.Sprintf("pool/%02x/%04d", i/100%256, i/100))
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return 0, err
		}
		size := int(min(math.Exp(r.NormFloat64()*sigma-sigma*sigma/2)*mean, 32<<20))
		begin := r.IntN(len(data) - size)
		name := filepath.Join(folder, "package-"+strconv.Itoa(i)+packageEnd)
		if err := os.WriteFile(name, data[begin:begin+size], 0o644); err != nil {
			return 0, err
		}
		if err := os.Chtimes(name, at, at); err != nil {
			return 0, err
		}
		bytes += int64(size)
	}
	return bytes, stamp(dir, "1")
}

// stamp says that something has changed.
func stamp(dir, text string) error {
	name := filepath.Join(dir, stampName)
	if err := os.WriteFile(name, []byte(text+"\n"), 0o644); err != nil {
		return err
	}
	at := longAgo()
	return os.Chtimes(name, at, at)
}

// writeNew writes one file more, and says so.
func writeNew(tree string, number int) error {
	name := filepath.Join(tree, fmt.Sprintf("new-%d%s", number, packageEnd))
	at := longAgo()
	if err := errors.Join(os.WriteFile(name, []byte(name), 0o644), os.Chtimes(name, at, at)); err != nil {
		return err
	}
	return stamp(tree, fmt.Sprintf("new %d", number))
}

// upstream is an rsync server of a tree.
type upstream struct {
	cmd  *exec.Cmd
	url  string
	tree string
	log  string // a line for each client, with the bytes that went to it
}

func startUpstream(ctx context.Context, dir, tree string) (*upstream, error) {
	ports, err := measure.FreePorts(1)
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "rsyncd.conf")
	u := &upstream{tree: tree, url: fmt.Sprintf("rsync://127.0.0.1:%d/m/", ports[0]), log: filepath.Join(dir, "rsyncd.log")}
	chroot := "yes" // as servers have it, unless they are told otherwise
	if os.Getuid() != 0 {
		chroot = "no"
	}
	text := fmt.Sprintf("port = %d\naddress = 127.0.0.1\nuse chroot = %s\nreverse lookup = no\n[m]\npath = %s\n", ports[0], chroot, tree)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, err
	}
	u.cmd = exec.CommandContext(ctx, "rsync", "--daemon", "--no-detach", "--config="+conf, "--log-file="+u.log)
	return u, measure.Start(ctx, u.cmd, fmt.Sprintf("127.0.0.1:%d", ports[0]), filepath.Join(dir, "upstream.log"))
}
