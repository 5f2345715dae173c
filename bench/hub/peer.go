package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// peer is the same repository in the hands of flatpak's own tools.
type peer struct {
	repo string
	gpg  string // GNUPGHOME
	key  string // fingerprint
}

func newPeer(ctx context.Context, dir, source, secretKey string) (*peer, error) {
	p := &peer{repo: filepath.Join(dir, "repo"), gpg: filepath.Join(dir, "gpg")}
	if err := copyTree(source, p.repo); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(p.gpg, 0o700); err != nil {
		return nil, err
	}
	if _, err := p.run(ctx, "gpg", "--homedir", p.gpg, "--batch", "--quiet", "--import", secretKey); err != nil {
		return nil, err
	}
	list, err := p.run(ctx, "gpg", "--homedir", p.gpg, "--batch", "--list-secret-keys", "--with-colons")
	if err != nil {
		return nil, err
	}
	for line := range strings.SplitSeq(list, "\n") {
		if fields := strings.Split(line, ":"); p.key == "" && fields[0] == "fpr" && len(fields) > 9 {
			p.key = fields[9]
		}
	}
	if p.key == "" {
		return nil, errors.New("gpg has no key after the import")
	}
	_, err = p.run(ctx, "flatpak", p.updateArgs()...)
	return p, err
}

func (p *peer) updateArgs() []string {
	return []string{"build-update-repo", "--gpg-sign=" + p.key, "--gpg-homedir=" + p.gpg, p.repo}
}

// publish commits the changed app and measures what the update of the
// repository's metadata takes.
func (p *peer) publish(ctx context.Context, changed string) (cost, error) {
	if _, err := p.run(ctx, "flatpak", "build-commit-from", "--no-update-summary", "--force", "--gpg-sign="+p.key, "--gpg-homedir="+p.gpg, "--src-repo="+changed, p.repo); err != nil {
		return cost{}, err
	}
	cmd := exec.CommandContext(ctx, "flatpak", p.updateArgs()...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	begin := time.Now()
	if err := cmd.Run(); err != nil {
		return cost{}, fmt.Errorf("flatpak build-update-repo: %w\n%s", err, out.String())
	}
	wall := time.Since(begin)
	return cost{cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), wall: wall}, nil
}

func (p *peer) run(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}
