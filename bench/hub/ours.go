package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/push"
)

// ours is a running hub with the repository in it.
type ours struct {
	dir, url, token string
	cmd             *exec.Cmd
	log             bytes.Buffer
}

func startOurs(ctx context.Context, binary, dir, source string) (*ours, error) {
	if err := copyTree(source, filepath.Join(dir, "repos", "stable")); err != nil {
		return nil, err
	}
	addr, err := freeAddr(ctx)
	if err != nil {
		return nil, err
	}
	admin, err := freeAddr(ctx)
	if err != nil {
		return nil, err
	}
	o := &ours{dir: dir, url: "http://" + addr}
	o.cmd = exec.CommandContext(ctx, binary, "hub", "--dir", dir, "--listen", addr, "--base-url", o.url, "--admin", admin, "--log-level", "warn")
	o.cmd.Stderr = &o.log
	if err := o.cmd.Start(); err != nil {
		return nil, err
	}
	if err := waitReady(ctx, "http://"+admin+"/-/ready"); err != nil {
		return nil, errors.Join(err, o.stop())
	}
	token, err := exec.CommandContext(ctx, binary, "token", "create", "--dir", dir, "--name", "bench").Output()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make token: %w", err), o.stop())
	}
	o.token = strings.TrimSpace(string(token))
	return o, nil
}

func (o *ours) signingKey() string { return filepath.Join(o.dir, "signing-key.asc") }

// publish uploads the changed app, then measures its commit and publish.
func (o *ours) publish(ctx context.Context, changed string) (cost, error) {
	client := &hubapi.Client{Base: o.url, Token: o.token}
	uploaded, err := push.Run(ctx, push.Config{Client: client, Dir: changed, Kind: push.OSTree, Name: "stable", Until: push.Uploaded, StateFile: "-"})
	if err != nil {
		return cost{}, err
	}
	before, err := processCPU(o.cmd.Process.Pid)
	if err != nil {
		return cost{}, err
	}
	begin := time.Now()
	if _, err := push.Run(ctx, push.Config{Client: client, Dir: changed, Kind: push.OSTree, Name: "stable", Build: uploaded.Build.ID, StateFile: "-"}); err != nil {
		return cost{}, fmt.Errorf("publish: %w\n%s", err, o.log.String())
	}
	wall := time.Since(begin)
	after, err := processCPU(o.cmd.Process.Pid)
	return cost{cpu: after - before, wall: wall}, err
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
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("hub not ready: %w", ctx.Err())
		}
	}
}
