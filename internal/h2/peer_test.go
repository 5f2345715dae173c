package h2

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"freshet/internal/peertest"
)

// h2spec finds no fault. It is built here: tools/go.mod knows of it.
func TestH2spec(t *testing.T) {
	t.Parallel()
	bin := filepath.Join(t.TempDir(), "h2spec")
	build := exec.CommandContext(t.Context(), "go", "build", "-modfile=../../tools/go.mod", "-o", bin, "github.com/summerwind/h2spec/cmd/h2spec")
	if out, err := build.CombinedOutput(); err != nil {
		t.Logf("build h2spec: %v\n%s", err, out)
		peertest.Missing(t, "h2spec")
	}
	w := newWorld(t, false)
	host, port, _ := strings.Cut(w.addr, ":")
	for _, path := range []string{"/", "/memory/1000"} { // answers of both ways
		out, err := peertest.Try(t, "", nil, bin, "-t", "-k", "-S", "-o", "5", "-h", host, "-p", port, "-P", path)
		if err != nil || !bytes.Contains(out, []byte(" 0 failed")) {
			t.Errorf("%s: %v\n%s", path, err, out)
		}
	}
}

// net/http's client gets the right bytes, many at once, from both ways.
func TestGoClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			for j := range 20 {
				target, want := fmt.Sprintf("/memory/%d", (i*j*37)%60000), w.content.Bytes[:(i*j*37)%60000]
				switch (i + j) % 5 {
				case 1:
					target, want = fmt.Sprintf("/file/%d/%d", i, i*j*1000), w.content.Bytes[i:i+i*j*1000]
				case 2:
					target, want = "/slow/file", w.content.Bytes
				case 3:
					target, want = "/slow/much", w.content.Bytes
				}
				resp, err := w.client.Get(w.url + target)
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil || !bytes.Equal(body, want) || resp.ProtoMajor != 2 || resp.StatusCode != 200 {
					t.Errorf("%s: %s, %d bytes, want %d, %v", target, resp.Status, len(body), len(want), err)
				}
			}
		})
	}
	wg.Wait()
	if w.fast.Load()+w.slow.Load() != 800 || w.fast.Load() < 100 {
		t.Errorf("%d and %d answers", w.fast.Load(), w.slow.Load())
	}
}

// Bodies of requests arrive, and are given room as they are read.
func TestUpload(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	for _, n := range []int{0, 1, 70000, contentLen} {
		for _, known := range []bool{true, false} {
			var body io.Reader = bytes.NewReader(w.content.Bytes[:n])
			if !known {
				body = io.MultiReader(body) // of unknown length
			}
			resp, err := w.client.Post(w.url+"/slow/echo", "text/plain", body)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || !bytes.Equal(got, w.content.Bytes[:n]) {
				t.Errorf("%d bytes, known %v: %d, %v", n, known, len(got), err)
			}
		}
	}
}

// curl, nghttp and h2load get what they ask for.
func TestClients(t *testing.T) {
	peertest.Require(t, "curl", "nghttp", "h2load")
	t.Parallel()
	w := newWorld(t, false)
	dir := t.TempDir()
	sum := sha256.Sum256(w.content.Bytes)
	for _, target := range []string{"/file/0/3145728", "/slow/much", "/memory/3145728"} {
		file := filepath.Join(dir, "got")
		out := peertest.Run(t, dir, nil, "curl", "-sSk", "--http2", "-o", file, "-w", "%{http_version} %{http_code}", w.url+target)
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if s := sha256.Sum256(got); string(out) != "2 200" || s != sum {
			t.Errorf("curl %s: %s, %d bytes", target, out, len(got))
		}
	}
	if out := peertest.Run(t, dir, nil, "curl", "-sSk", "--http2", "-d", "a=b", w.url+"/x"); string(out) != `POST /x `+w.addr+` "a=b"` {
		t.Errorf("curl -d: %s", out)
	}
	out := peertest.Run(t, dir, nil, "nghttp", "-nvy", w.url+"/file/0/3145728", w.url+"/memory/30000", w.url+"/x")
	if n := bytes.Count(out, []byte(":status: 200")); n != 3 || bytes.Contains(out, []byte("GOAWAY")) && bytes.Contains(out, []byte("PROTOCOL_ERROR")) {
		t.Errorf("nghttp: %d answers\n%s", n, out)
	}
	for _, args := range [][]string{
		{"-n", "2000", "-c", "4", "-m", "32"}, {"-n", "300", "-c", "2", "-m", "100", "-w", "10", "-W", "12"}, {"-n", "50", "-c", "1", "-m", "1"},
	} {
		args = append(args, w.url+"/memory/5000", w.url+"/file/7/50000", w.url+"/slow/small", w.url+"/memory/0")
		out := peertest.Run(t, dir, nil, "h2load", args...)
		if !bytes.Contains(out, []byte(" 0 failed, 0 errored, 0 timeout")) || bytes.Contains(out, []byte("status codes: 0 2xx")) {
			t.Errorf("h2load %v:\n%s", args, out)
		}
	}
}
