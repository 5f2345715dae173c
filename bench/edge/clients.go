package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"freshet/internal/archive"
	"freshet/internal/flatpak"

	"freshet/bench/measure"
)

const (
	manyFiles = 10000
	appID     = "org.example.Many"
	appRef    = "app/" + appID + "/x86_64/stable"
)

// writeRepository makes an OSTree repository with one app of many small files.
func writeRepository(ctx context.Context, www string) error {
	dir := filepath.Join(www, "repo")
	repo, err := archive.Create(dir)
	if err != nil {
		return err
	}
	meta := flatpak.Metadata{Kind: flatpak.App, Name: appID, Runtime: "org.example.Platform/x86_64/stable", SDK: "org.example.Sdk/x86_64/stable", Command: "app"}
	files := make([]archive.File, 0, manyFiles)
	for i := range manyFiles {
		content := fmt.Appendf(nil, "file %d %s", i, strings.Repeat(fmt.Sprint(i*i), 1+i%200))
		files = append(files, archive.File{Path: fmt.Sprintf("files/share/%02d/%d", i%100, i), Content: content})
	}
	if err := repo.CommitFlatpak(appRef, meta, files, nil, time.Unix(1_700_000_000, 0)); err != nil {
		return err
	}
	return command(ctx, "", "flatpak", "build-update-repo", dir)
}

// measureClients compares what real clients take with the edge, when it has
// everything, with what they take at its origin.
func measureClients(ctx context.Context, cfg config, dir string, servers []*server, out io.Writer) error {
	if err := writeRepository(ctx, filepath.Join(dir, "www")); err != nil {
		return err
	}
	var edge *server
	for _, s := range servers {
		if s.name == ours {
			edge = s
		}
	}
	rounds := max(3, cfg.rounds/2)
	for _, client := range []struct {
		name string
		run  func(ctx context.Context, home, url string) (time.Duration, error)
	}{{"ostree-pull-s", ostreePull}, {"flatpak-install-s", flatpakInstall}} {
		var took [2][]float64
		for round := range rounds + 1 {
			for i, s := range []*server{edge, servers[0]} {
				home, err := os.MkdirTemp(dir, "client-")
				if err != nil {
					return err
				}
				d, err := client.run(ctx, home, "http://"+s.addr+"/repo")
				if err != nil {
					return fmt.Errorf("%s: %w", client.name, err)
				}
				if round > 0 { // the first one fills the cache
					took[i] = append(took[i], d.Seconds())
				}
				if err := os.RemoveAll(home); err != nil {
					return err
				}
			}
		}
		measure.Line(out, client.name+":direct", measure.Median(took[0]), measure.Median(took[1]), 1.1)
	}
	return nil
}

func ostreePull(ctx context.Context, home, url string) (time.Duration, error) {
	repo := filepath.Join(home, "repo")
	if err := command(ctx, home, "ostree", "init", "--repo="+repo, "--mode=bare-user-only"); err != nil {
		return 0, err
	}
	if err := command(ctx, home, "ostree", "remote", "add", "--repo="+repo, "--no-gpg-verify", "bench", url); err != nil {
		return 0, err
	}
	begun := time.Now()
	err := command(ctx, home, "ostree", "pull", "--repo="+repo, "--disable-static-deltas", "bench", appRef)
	return time.Since(begun), err
}

func flatpakInstall(ctx context.Context, home, url string) (time.Duration, error) {
	if err := command(ctx, home, "flatpak", "--user", "remote-add", "--no-gpg-verify", "bench", url); err != nil {
		return 0, err
	}
	begun := time.Now()
	err := command(ctx, home, "flatpak", "--user", "install", "-y", "--noninteractive", "--no-deps", "--no-static-deltas", "bench", appID)
	return time.Since(begun), err
}

// command runs a program in a home of its own.
func command(ctx context.Context, home, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	if home != "" {
		cmd.Env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME="+home+"/data", "XDG_CACHE_HOME="+home+"/cache", "XDG_CONFIG_HOME="+home+"/config",
			"FLATPAK_USER_DIR="+home+"/flatpak", "FLATPAK_SYSTEM_DIR="+home+"/system")
	}
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, text)
	}
	return nil
}
