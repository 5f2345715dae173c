package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// An edge has fetched an object that had rotted on the disk of the hub, and serves it
// from its store. Whichever way the hub gets the object back, a push, fsck or the scrub,
// the edge is told and has the right bytes from then on.
func TestRepairReachesEdge(t *testing.T) {
	parallel(t)
	work := t.TempDir()
	dir, addr := filepath.Join(work, "hub"), freeAddr(t)
	hub := startHub(t, dir, addr, "")
	tokenFile, app := filepath.Join(work, "token"), filepath.Join(work, "app")
	if err := os.WriteFile(tokenFile, []byte(hub.token), 0o600); err != nil {
		t.Fatal(err)
	}
	writeApp(t, app, 1)
	push := func() { run(t, "push", "--hub", hub.url, "--token-file", tokenFile, "--repo", "stable", app) }
	push()
	repo, mirror := filepath.Join(dir, "repos", "stable"), filepath.Join(work, "mirror")
	if err := os.CopyFS(mirror, os.DirFS(repo)); err != nil {
		t.Fatal(err)
	}
	sound := httptest.NewServer(http.FileServer(http.Dir(mirror)))
	defer sound.Close()
	objects, err := fs.Glob(os.DirFS(repo), "objects/*/*.filez")
	if err != nil || len(objects) < 3 {
		t.Fatal(objects, err)
	}

	edge := startEdge(t, filepath.Join(work, "store"), "", hub.url)
	eventually(t, "the edge follows the hub", patience, func() error {
		for line := range strings.Lines(string(get(t, "http://"+edge.admin+"/metrics", http.StatusOK))) {
			if strings.HasPrefix(line, "freshet_edge_following{") && strings.HasSuffix(line, " 1\n") {
				return nil
			}
		}
		return errors.New("it does not")
	})
	for i, way := range []struct {
		name   string
		repair func(object string)
	}{
		{"push", func(object string) {
			out, errOut, err := tryRun(t, "hub", "fsck", repo, "--quarantine")
			if err == nil {
				t.Errorf("nothing is said of the damage:\n%s%s", out, errOut)
			}
			get(t, hub.url+"/repo/stable/"+object, http.StatusNotFound)
			push()
		}},
		{"fsck", func(string) {
			run(t, "hub", "fsck", repo, "--repair-from", sound.URL)
			hub.stop(syscall.SIGTERM) // it tells of what others have repaired when it starts, and each hour
			hub = startHub(t, dir, addr, "")
		}},
		{"scrub", func(string) {
			config := filepath.Join(work, "hub.toml")
			text := fmt.Sprintf("[hub.repos.stable]\nscrub-rate = \"4MiB\"\nrepair-from = %q\n", sound.URL)
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			hub.stop(syscall.SIGTERM)
			hub = startHub(t, dir, addr, "", "--config", config)
		}},
	} {
		path := "/repo/stable/" + objects[i]
		right := get(t, hub.url+path, http.StatusOK)
		wrong := rot(t, filepath.Join(repo, objects[i]))
		for range 2 { // fetched, stored
			if body := get(t, edge.url+path, http.StatusOK); !bytes.Equal(body, wrong) {
				t.Fatalf("%s: the edge has not fetched what is damaged", way.name)
			}
		}
		way.repair(objects[i])
		eventually(t, "the edge has what "+way.name+" repaired", patience, func() error {
			if body := get(t, edge.url+path, http.StatusOK); !bytes.Equal(body, right) {
				return errors.New("it has the damaged object")
			}
			return nil
		})
	}
}

// rot changes a bit of an object as a failing disk does: its length and its time are as
// before. It returns what the file is then. An edge does not see it: of file objects it
// hashes a few, and none whose first bytes say that their header is a long one.
func rot(t *testing.T, file string) []byte {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data[0] ^= 1
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(data[:1], 0)
	if err := errors.Join(err, f.Close(), os.Chtimes(file, info.ModTime(), info.ModTime())); err != nil {
		t.Fatal(err)
	}
	return data
}
