package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/pause"
	"freshet/internal/push"
)

// ours is a running hub with the repository in it.
type ours struct {
	dir, url, token string
	cmd             *exec.Cmd
	started         cost // until it was ready
	log             bytes.Buffer
}

// startOurs starts a hub in dir with a copy of the repository source.
func startOurs(ctx context.Context, binary, dir, source string, subsets []string) (*ours, error) {
	if err := copyTree(source, filepath.Join(dir, "repos", "stable")); err != nil {
		return nil, err
	}
	return runOurs(ctx, binary, dir, fmt.Sprintf("subsets = [%s]", quoted(subsets)))
}

// runOurs starts a hub in dir with what is there, and waits until it is ready.
// settings are those of its repository.
func runOurs(ctx context.Context, binary, dir, settings string) (*ours, error) {
	addr, err := freeAddr(ctx)
	if err != nil {
		return nil, err
	}
	admin, err := freeAddr(ctx)
	if err != nil {
		return nil, err
	}
	o := &ours{dir: dir, url: "http://" + addr}
	file := filepath.Join(dir, "hub.toml")
	if err := os.WriteFile(file, []byte("[hub.repos.stable]\n"+settings+"\n"), 0o600); err != nil {
		return nil, err
	}
	o.cmd = exec.CommandContext(ctx, binary, "hub", "--config", file, "--dir", dir, "--listen", addr, "--base-url", o.url, "--admin", admin, "--log-level", "warn")
	o.cmd.Stderr = &o.log
	begin := time.Now()
	if err := o.cmd.Start(); err != nil {
		return nil, err
	}
	if err := waitReady(ctx, "http://"+admin+"/-/ready"); err != nil {
		return nil, errors.Join(err, o.stop())
	}
	o.started.Wall = time.Since(begin)
	if o.started.CPU, err = processCPU(o.cmd.Process.Pid); err != nil {
		return nil, errors.Join(err, o.stop())
	}
	token, err := exec.CommandContext(ctx, binary, "token", "create", "--dir", dir, "--name", "bench",
		"--scope", "build,upload,publish,jobs,tokenmanagement").Output()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make token: %w", err), o.stop())
	}
	o.token = strings.TrimSpace(string(token))
	return o, nil
}

func (o *ours) signingKey() string { return filepath.Join(o.dir, "signing-key.asc") }

// publish uploads the changed app, then measures its commit and publish.
func (o *ours) publish(ctx context.Context, changed string) (cost, error) {
	build, err := o.upload(ctx, changed)
	if err != nil {
		return cost{}, err
	}
	return o.measure(func() error { return o.finish(ctx, build) })
}

// measure measures what the hub takes while do runs.
func (o *ours) measure(do func() error) (cost, error) {
	before, err := processCPU(o.cmd.Process.Pid)
	if err != nil {
		return cost{}, err
	}
	begin := time.Now()
	if err := do(); err != nil {
		return cost{}, err
	}
	wall := time.Since(begin)
	after, err := processCPU(o.cmd.Process.Pid)
	return cost{CPU: after - before, Wall: wall}, err
}

// prune removes what the repository does not need any more.
func (o *ours) prune(ctx context.Context) (cost, error) {
	client := o.client()
	return o.measure(func() error {
		job, err := client.Prune(ctx, hubapi.PruneRequest{Repo: "stable"})
		for err == nil && job.Status != hubapi.JobEnded && job.Status != hubapi.JobBroken {
			job, err = client.Job(ctx, job.ID, hubapi.JobRequest{LogOffset: int64(len(job.Log)), Wait: "3s"})
		}
		if err == nil && job.Status == hubapi.JobBroken {
			err = fmt.Errorf("prune: %s", job.Log)
		}
		return err
	})
}

func (o *ours) client() *hubapi.Client { return &hubapi.Client{Base: o.url, Token: o.token} }

// count uploads the changed app, then counts the calls of its commit and publish.
func (o *ours) count(ctx context.Context, changed string) (int, error) {
	build, err := o.upload(ctx, changed)
	if err != nil {
		return 0, err
	}
	stop, err := watchCalls(ctx, o.dir, o.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	err = o.finish(ctx, build)
	n, stopErr := stop()
	return n, errors.Join(err, stopErr)
}

func (o *ours) config(changed string) push.Config {
	return push.Config{Client: o.client(), Dir: changed, Kind: push.OSTree, Name: "stable", StateFile: "-"}
}

func (o *ours) upload(ctx context.Context, changed string) (build int64, err error) {
	cfg := o.config(changed)
	cfg.Until = push.Uploaded
	uploaded, err := push.Run(ctx, cfg)
	if err != nil {
		return 0, err
	}
	return uploaded.Build.ID, nil
}

// finish commits and publishes a build, with the requests of a push after its upload.
func (o *ours) finish(ctx context.Context, build int64) error {
	client := o.client()
	_, err := client.Commit(ctx, build, hubapi.CommitRequest{})
	if err == nil {
		err = o.wait(ctx, build, client.CommitJob)
	}
	if err == nil {
		_, err = client.Publish(ctx, build)
	}
	if err == nil {
		err = o.wait(ctx, build, client.PublishJob)
	}
	if err != nil {
		return fmt.Errorf("publish: %w\n%s", err, o.log.String())
	}
	return nil
}

// wait waits for a job of a build as a push does.
func (o *ours) wait(ctx context.Context, build int64, read func(context.Context, int64, hubapi.JobRequest) (hubapi.Job, error)) error {
	_, err := push.WaitJob(ctx, push.NewLines(io.Discard, time.Minute), func(ctx context.Context, req hubapi.JobRequest) (hubapi.Job, error) {
		return read(ctx, build, req)
	})
	return err
}

// settle waits until the hub has removed its builds, which it does after a publish.
func (o *ours) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("the hub does not remove its builds"))
	defer cancel()
	for {
		builds, err := filepath.Glob(filepath.Join(o.dir, "builds", "*", "*"))
		if err != nil || len(builds) == 0 {
			return err
		}
		if !pause.For(ctx, 5*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
}

func quoted(words []string) string {
	all := make([]string, len(words))
	for i, word := range words {
		all[i] = strconv.Quote(word)
	}
	return strings.Join(all, ", ")
}

func (o *ours) stop() error {
	if err := o.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return o.cmd.Wait()
}

func freeAddr(ctx context.Context) (string, error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

func waitReady(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("hub not ready: %w", ctx.Err())
		}
	}
}
