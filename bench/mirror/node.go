package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"freshet/api/mirrorapi"
	"freshet/bench/measure"
	"freshet/internal/control"
)

// node is a mirror that runs.
type node struct {
	cmd     *exec.Cmd
	dir     string
	client  mirrorapi.Client
	public  string // address
	secure  string // address with TLS
	verbose bool
}

// project is the one that is mirrored.
const project = "demo"

// plainOf are the settings of a project of any files that come from an URL.
func plainOf(url string) string {
	return fmt.Sprintf("kind = \"plain\"\nprobe = [%q]\nupstreams = [%q]", stampName, url)
}

// nodePorts is how many ports a mirror needs.
const nodePorts = 3

// startNode starts a mirror with a folder of its own. Settings are those of its project:
// cert and key make it serve with TLS as well.
func startNode(ctx context.Context, cfg config, dir, settings, cert, key string) (*node, error) {
	ports, err := measure.FreePorts(nodePorts)
	if err != nil {
		return nil, err
	}
	return startNodeAt(ctx, cfg, ports, dir, settings, cert, key)
}

// startNodeAt is startNode with ports that others know before.
func startNodeAt(ctx context.Context, cfg config, ports []int, dir, settings, cert, key string) (*node, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	token, hash := control.NewToken("bench_")
	n := &node{dir: dir, verbose: cfg.verbose, public: local(ports[0]), client: mirrorapi.Client{Base: "http://" + local(ports[1]), Token: token}}
	secure := ""
	if cert != "" {
		n.secure = local(ports[2])
		secure = fmt.Sprintf("listen-tls = %q\n[[mirror.tls.certificates]]\ncert = %q\nkey = %q\n", n.secure, cert, key)
	}
	text := fmt.Sprintf("[mirror]\ndirectory = %q\nlisten = %q\nurl = %q\n%s[mirror.rsync]\nany-version = true\n[mirror.control.clients.bench]\ntoken = %q\nallow = [\"read\", \"sync\", \"write\"]\n"+
		"[mirror.projects.%s]\nschedule = \"never\"\n%s\n",
		filepath.Join(dir, "srv"), n.public, "http://"+n.public, secure, hash, project, settings)
	file := filepath.Join(dir, "mirror.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	n.cmd = exec.CommandContext(ctx, cfg.binary, "mirror", "--config", file, "--admin", local(ports[1]), "--access-log", filepath.Join(dir, "access.log"))
	return n, measure.Start(ctx, n.cmd, n.public, filepath.Join(dir, "log")) // its orders are taken before it listens
}

// sync orders a sync, and returns how long it took until that had ended.
func (n *node) sync(ctx context.Context, force bool) (time.Duration, error) {
	begun := time.Now()
	var report mirrorapi.Report
	for e, err := range n.client.SyncWaiting(ctx, project, mirrorapi.SyncRequest{Force: force}) {
		if err != nil {
			return 0, err
		}
		if e.Report != nil {
			report = *e.Report
		}
	}
	if report.Result != mirrorapi.Published && report.Result != mirrorapi.Unchanged {
		return 0, fmt.Errorf("the sync ended as %q: %s", report.Result, report.Message)
	}
	took := time.Since(begun)
	if n.verbose {
		tellSteps(&report, took)
	}
	return took, nil
}

// tellSteps tells how long the steps of a sync took.
func tellSteps(report *mirrorapi.Report, took time.Duration) {
	steps := make([]string, 0, len(report.Steps))
	for _, s := range report.Steps {
		steps = append(steps, fmt.Sprintf("%s %.2f", s.Step, s.Took.Seconds()))
	}
	fmt.Fprintf(os.Stderr, "  %s in %.2f s: %s\n", report.Result, took.Seconds(), strings.Join(steps, ", "))
}

// stop ends it, and removes what it has.
func (n *node) stop() error {
	measure.Stop(n.cmd)
	return os.RemoveAll(n.dir)
}

func stopAll(nodes []*node) error {
	var err error
	for _, n := range nodes {
		err = errors.Join(err, n.stop())
	}
	return err
}

func local(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
