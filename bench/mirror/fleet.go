package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet/bench/measure"
)

// measureFleet has mirrors that are each other's siblings learn of one change at the same
// moment: new packages upstream, of which an index tells the hashes. It tells what the
// upstream sent, in copies of the change, and how long it took until the last mirror
// served it.
func measureFleet(ctx context.Context, cfg config, dir string, out io.Writer) (err error) {
	tree := filepath.Join(dir, "fleet")
	defer func() { err = errors.Join(err, os.RemoveAll(tree)) }()
	if _, err := writeTree(tree, 200, meanPackage); err != nil {
		return err
	}
	if err := writeIndex(tree, 1); err != nil {
		return err
	}
	u, err := startUpstream(ctx, dir, tree)
	if err != nil {
		return err
	}
	defer measure.Stop(u.cmd)
	var nodes []*node
	defer func() { err = errors.Join(err, stopAll(nodes)) }()
	ports, err := measure.FreePorts(nodePorts * cfg.fleet)
	if err != nil {
		return err
	}
	var siblings []string
	for i := range cfg.fleet {
		siblings = append(siblings, fmt.Sprintf("%q", "http://"+local(ports[nodePorts*i])))
	}
	settings := fmt.Sprintf("kind = \"deb\"\nupstreams = [%q]\nsiblings = [%s]", u.url, strings.Join(siblings, ", "))
	for i := range cfg.fleet {
		n, err := startNodeAt(ctx, cfg, ports[nodePorts*i:], filepath.Join(dir, fmt.Sprintf("node-%d", i)), settings, "", "")
		if n != nil {
			nodes = append(nodes, n)
		}
		if err != nil {
			return err
		}
	}
	if err := syncAll(ctx, nodes); err != nil {
		return err
	}
	change, err := writeTree(filepath.Join(tree, "new"), 300, meanPackage)
	if err != nil {
		return err
	}
	if err := writeIndex(tree, 2); err != nil {
		return err
	}
	begun := time.Now()
	if err := syncAll(ctx, nodes); err != nil {
		return err
	}
	measure.Most(out, fmt.Sprintf("fleet-%d-last-s", cfg.fleet), time.Since(begun).Seconds(), 60)
	var sent int64
	for _, n := range nodes {
		log, err := n.client.Log(ctx, project, 1)
		if err != nil {
			return err
		}
		for _, r := range log.Reports {
			sent += r.Fetched["upstream"].Bytes
		}
	}
	measure.Most(out, fmt.Sprintf("fleet-%d-upstream-copies", cfg.fleet), float64(sent)/float64(change), 2)
	return nil
}

func syncAll(ctx context.Context, nodes []*node) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, n := range nodes {
		group.Go(func() error {
			_, err := n.sync(ctx, false)
			return err
		})
	}
	return group.Wait()
}

// writeIndex writes a repository of Debian over all packages of a tree. The serial tells
// how new it is.
func writeIndex(tree string, serial int) error {
	dists := filepath.Join(tree, "dists/stable")
	binary := filepath.Join(dists, "main/binary-all")
	if err := os.MkdirAll(binary, 0o755); err != nil {
		return err
	}
	var packages strings.Builder
	err := filepath.WalkDir(tree, func(name string, _ os.DirEntry, err error) error {
		if err != nil || filepath.Ext(name) != packageEnd {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		path, err := filepath.Rel(tree, name)
		fmt.Fprintf(&packages, "Package: p%x\nVersion: 1\nArchitecture: all\nFilename: %s\nSize: %d\nSHA256: %x\n\n",
			sha256.Sum256([]byte(path)), path, len(data), sha256.Sum256(data))
		return err
	})
	if err != nil {
		return err
	}
	if err := writeAt(filepath.Join(binary, "Packages"), packages.String(), serial); err != nil {
		return err
	}
	date := longAgo().Add(time.Duration(serial) * time.Hour).UTC().Format("Mon, 02 Jan 2006 15:04:05 UTC")
	release := fmt.Sprintf("Origin: bench\nSuite: stable\nCodename: stable\nDate: %s\nArchitectures: all\nComponents: main\nSHA256:\n %x %d main/binary-all/Packages\n",
		date, sha256.Sum256([]byte(packages.String())), packages.Len())
	return writeAt(filepath.Join(dists, "InRelease"), release, serial)
}

// writeAt writes a file of some hours ago.
func writeAt(name, text string, serial int) error {
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		return err
	}
	at := longAgo().Add(time.Duration(serial) * time.Hour)
	return os.Chtimes(name, at, at)
}
