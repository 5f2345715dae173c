package h1

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"freshet/internal/peertest"
)

// What real clients send is never refused.
func TestRealClients(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "curl")
	w := newWorld(t, false, nil)
	file := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(file, w.content.Bytes[:200_000], 0o600); err != nil {
		t.Fatal(err)
	}
	url := "http://" + w.addr
	for _, args := range [][]string{
		{url + "/memory/9", url + "/a", url + "/memory/9"},
		{"-I", url + "/a"},
		{"--http1.0", url + "/a", url + "/b"},
		{"--http2", url + "/a"}, // asks for an upgrade
		{"-d", "a=b", url + "/a", "--next", "-s", "-S", "-f", "-d", "c=d", url + "/a"},
		{"-T", file, url + "/a", "--next", "-s", "-S", "-f", url + "/a"},
		{"-H", "Expect: 100-continue", "-T", file, url + "/a"},
		{"-H", "Transfer-Encoding: chunked", "-T", file, url + "/a", "--next", "-s", "-S", "-f", url + "/a"},
		{"-F", "f=@" + file, url + "/a"},
		{"-X", "GET", "-d", "a body of no use", url + "/a"},
		{"-X", "OPTIONS", "--request-target", "*", url},
		{"-x", url, "http://elsewhere.example/a"},
		{"-H", "X-Text: gr\xc3\xbc\xc3\x9fe, \xff", "--compressed", "--tr-encoding", url + "/a"},
		{"-r", "0-5,7-9", "-z", "2020-01-01", url + "/a"},
	} {
		out, err := exec.CommandContext(t.Context(), "curl", append([]string{"-s", "-S", "-f", "-o", os.DevNull}, args...)...).CombinedOutput()
		if err != nil {
			t.Errorf("curl %s: %v, %s", strings.Join(args, " "), err, out)
		}
	}
	for _, why := range rejections() {
		if n := rejected(t, w.metrics, why); n != 0 {
			t.Errorf("%v were refused as %s", n, why)
		}
	}
}
