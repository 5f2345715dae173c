package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"freshet/internal/peertest"
)

// Installer images, as curl and aria2c fetch them: in one piece, in eight at
// once, and after the origin died in the middle.
func TestDownloaders(t *testing.T) {
	parallel(t)
	peertest.Require(t, "curl", "aria2c")
	const size = 48 << 20
	dir := t.TempDir()
	content := noise(1, size)
	for i := range 4 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.iso", i)), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	o := startOrigin(t, dir)
	edge := startEdge(t, filepath.Join(t.TempDir(), "store"), "", o.url(), "--size", "400MB")
	user := newClient(t)
	check := func(what, name string) {
		t.Helper()
		if got, err := os.ReadFile(filepath.Join(user.home, name)); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes that are not the file's; %v", what, len(got), err)
		}
	}
	curl := func(name string, args ...string) error {
		out, err := user.try("curl", append([]string{"-sSf", "-o", name, edge.url + "/" + name}, args...)...)
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	aria2c := func(name string) error {
		out, err := user.try("aria2c", "--quiet", "-x8", "-s8", "-k1M", "--max-tries=3", "--retry-wait=1", "--allow-overwrite=true", edge.url+"/"+name)
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}

	for _, when := range []string{"cold", "warm"} {
		if err := aria2c("0.iso"); err != nil {
			t.Fatal(err)
		}
		check("aria2c "+when, "0.iso")
		if err := os.Remove(filepath.Join(user.home, "0.iso")); err != nil {
			t.Fatal(err)
		}
		if err := curl("1.iso"); err != nil {
			t.Fatal(err)
		}
		check("curl "+when, "1.iso")
	}
	o.dieAfter(size / 2)
	if err := curl("2.iso"); err == nil {
		t.Error("curl takes half a file for the whole")
	}
	o.die()
	o.start()
	if err := curl("2.iso", "-C", "-"); err != nil {
		t.Fatal(err)
	}
	check("curl, resumed", "2.iso")

	o.dieAfter(size / 2)
	if err := aria2c("3.iso"); err == nil {
		t.Error("aria2c takes half a file for the whole")
	}
	o.die()
	o.start()
	if err := aria2c("3.iso"); err != nil {
		t.Fatal(err)
	}
	check("aria2c, resumed", "3.iso")
	o.die()
	if err := curl("3.iso"); err != nil {
		t.Errorf("without an origin: %v", err)
	}
	check("without an origin", "3.iso")
}

// zckdl fetches what changed of a zchunk file, by many ranges in one request.
func TestZchunk(t *testing.T) {
	parallel(t)
	peertest.Require(t, "zck", "zckdl")
	dir := t.TempDir()
	publisher := newClient(t)
	chunks := make([][]byte, 60)
	for i := range chunks {
		chunks[i] = noise(uint64(i+1), 64<<10)
	}
	publish := func(name string) []byte {
		content := bytes.Join(chunks, nil)
		plain := filepath.Join(publisher.home, name)
		if err := os.WriteFile(plain, content, 0o644); err != nil {
			t.Fatal(err)
		}
		publisher.run("zck", "-o", filepath.Join(dir, name+".zck"), plain)
		return content
	}
	publish("old.xml")
	for i := 0; i < len(chunks); i += 5 {
		chunks[i] = noise(uint64(1000+i), 64<<10)
	}
	want := publish("new.xml")

	o := startOrigin(t, dir)
	edge := startEdge(t, filepath.Join(t.TempDir(), "store"), "", o.url())
	for _, when := range []string{"cold", "warm"} {
		user := newClient(t)
		user.run("curl", "-sSf", "-O", edge.url+"/old.xml.zck")
		user.run("zckdl", "-s", "old.xml.zck", edge.url+"/new.xml.zck")
		user.run("unzck", "new.xml.zck")
		if got, err := os.ReadFile(filepath.Join(user.home, "new.xml")); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes that are not the file's; %v", when, len(got), err)
		}
	}
}
