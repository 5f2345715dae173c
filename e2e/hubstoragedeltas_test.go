package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"freshet/internal/ostree"
	"freshet/internal/peertest"
	"freshet/internal/store/storetest"
)

// deltasIn lists the static deltas of a repository in a folder.
func deltasIn(t *testing.T, dir string) []ostree.DeltaName {
	t.Helper()
	names, err := ostree.ListDeltas(os.DirFS(dir), "deltas")
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(names, func(a, b ostree.DeltaName) int { return strings.Compare(a.String(), b.String()) })
	return names
}

// Static deltas are made, served, retired and removed in a bucket behind https as in the
// directory, whatever is in their names. ostree takes them from the bucket itself, and
// flatpak from a hub whose disk was lost.
func TestStorageDeltas(t *testing.T) {
	parallel(t)
	peertest.Require(t, "ostree", "flatpak", "xz")
	server := storetest.RealTLS(t)
	server.Publish(t)
	s, work := storedOn(t, server, server.Endpoint, `
[hub.repos.stable.deltas]
appstream-depth = -1
grace = "1ms"
rules = [{depth = 2}]
`)
	s.hubServer = startHub(t, filepath.Join(work, "hub"), freeAddr(t), "", "--config", s.config)
	s.writeTokens(work)
	here, there := filepath.Join(s.dir, "repos", "stable"), filepath.Join(s.data, "flatpak", "stable")
	user := newClient(t)
	direct := "--repo=" + filepath.Join(user.home, "direct")
	user.run("ostree", direct, "init", "--mode=bare-user")
	user.run("ostree", direct, "remote", "add", "--no-gpg-verify", "--set=tls-ca-path="+server.CA, "bucket", server.Endpoint+"/"+storetest.Bucket+"/flatpak/stable")

	// publish publishes a version and waits until the bucket has its deltas.
	publish := func(version int) (head ostree.Checksum) {
		t.Helper()
		s.publish(version)
		eventually(t, fmt.Sprintf("deltas of version %d", version), patience, func() error {
			data, err := os.ReadFile(filepath.Join(there, "refs", "heads", filepath.FromSlash(killedRef)))
			if err != nil {
				return err
			}
			if head, err = ostree.ParseChecksum(strings.TrimSpace(string(data))); err != nil {
				return err
			}
			if data, err = os.ReadFile(filepath.Join(there, filepath.FromSlash(ostree.DeltaIndexPath(head)))); err != nil {
				return err
			}
			index, err := ostree.ParseDeltaIndex(data)
			if err == nil && len(index.Deltas) != min(version, 2) {
				err = fmt.Errorf("%d of them", len(index.Deltas))
			}
			return err
		})
		return head
	}
	// Half of all names have a plus.
	var heads []ostree.Checksum
	plus := 0
	for version := 1; version <= 4 || plus < 2; version++ {
		if version > 20 {
			t.Fatalf("of the deltas to %v none has a plus in its name", heads)
		}
		heads = append(heads, publish(version))
		for _, name := range deltasIn(t, there) {
			if name.To == heads[len(heads)-1] && strings.Contains(name.String(), "+") {
				plus++
			}
		}
		user.run("ostree", direct, "pull", "--require-static-deltas", "bucket", killedRef)
		if got := strings.TrimSpace(user.run("ostree", direct, "rev-parse", "bucket:"+killedRef)); got != heads[len(heads)-1].String() {
			t.Errorf("version %d: the bucket gave %s", version, got)
		}
	}
	user.run("ostree", direct, "fsck", "--quiet")

	// Those to earlier versions are retired, and go in both places.
	sameDeltas := func() []ostree.DeltaName {
		t.Helper()
		inBucket := deltasIn(t, there)
		if inHub := deltasIn(t, here); !slices.Equal(inHub, inBucket) {
			t.Errorf("the directory has deltas %v, the bucket %v", inHub, inBucket)
		}
		return inBucket
	}
	reclaimed := func() error {
		for _, name := range deltasIn(t, there) {
			if slices.Contains(heads[:len(heads)-2], name.To) {
				return fmt.Errorf("delta %s is there", name)
			}
		}
		return nil
	}
	eventually(t, "deltas to earlier versions go", patience, reclaimed)

	// The disk is lost.
	s.stop(syscall.SIGTERM)
	before := sameDeltas()
	if err := os.RemoveAll(filepath.Join(s.dir, "repos")); err != nil {
		t.Fatal(err)
	}
	s.again()
	if after := sameDeltas(); !slices.Equal(after, before) || len(after) < 2 {
		t.Errorf("filled: deltas %v, before %v", after, before)
	}
	out := run(t, "hub", "fsck", here, "--config", s.config)
	if !strings.Contains(out, "sound") || !strings.Contains(out, " 0 there alone") {
		t.Errorf("after the fill: %s", out)
	}
	var asked atomic.Int64 // for deltas; ostree before 2023.7 may fetch objects as well
	road := newWay(t, &storetest.Server{Endpoint: s.url})
	road.happens(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/deltas/") {
			asked.Add(1)
		}
		return false
	})
	user.run("flatpak", "--user", "remote-add", "--no-gpg-verify", "hub", road.url+"/repo/stable")
	takes := func(what ...string) {
		t.Helper()
		user.run("flatpak", append([]string{"--user", what[0], "-y", "--noninteractive", "--no-deps"}, what[1:]...)...)
		if n := asked.Swap(0); n < 2 {
			t.Errorf("flatpak %s asked for %d files of deltas", what[0], n)
		}
	}
	takes("install", "hub", killedApp)
	heads = append(heads, publish(len(heads)+1))
	takes("update", killedApp)
	heads = append(heads, publish(len(heads)+1))
	eventually(t, "deltas from before the loss go", patience, reclaimed)
	user.run("ostree", direct, "pull", "--require-static-deltas", "bucket", killedRef)
}
