package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

// steps are the commands of a publish, as flat-manager runs them: the commit of the
// upload into a repository of the build, that into the published one, and the
// update of its metadata.
func (p *peer) steps(changed string) [][]string {
	build := filepath.Join(filepath.Dir(p.repo), "build")
	sign := []string{"--gpg-sign=" + p.key, "--gpg-homedir=" + p.gpg}
	from := func(args ...string) []string {
		return append([]string{"flatpak", "build-commit-from", "--no-update-summary", "--force"}, args...)
	}
	return [][]string{
		{"ostree", "init", "--repo=" + build, "--mode=archive-z2"},
		from("--untrusted", "--disable-fsync", "--src-repo="+changed, build),
		from(append(sign, "--src-repo="+build, p.repo)...),
		append([]string{"flatpak"}, p.updateArgs()...),
	}
}

// prepare removes the build before.
func (p *peer) prepare() error { return os.RemoveAll(filepath.Join(filepath.Dir(p.repo), "build")) }

// publish publishes the changed app and measures what all steps take.
func (p *peer) publish(ctx context.Context, changed string) (total cost, err error) {
	if err := p.prepare(); err != nil {
		return cost{}, err
	}
	for _, step := range p.steps(changed) {
		u, err := runUsage(exec.CommandContext(ctx, step[0], step[1:]...))
		if err != nil {
			return cost{}, err
		}
		total.Wall += u.Wall
		total.CPU += u.CPU
	}
	return total, nil
}

// count publishes the changed app and counts the calls of all steps.
func (p *peer) count(ctx context.Context, changed string) (total int, err error) {
	if err := p.prepare(); err != nil {
		return 0, err
	}
	for _, step := range p.steps(changed) {
		n, err := countCalls(ctx, p.gpg, step[0], step[1:]...)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

func (p *peer) run(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}
