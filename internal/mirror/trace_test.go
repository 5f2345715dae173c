package mirror_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/kindtest"
	"freshet/internal/mirror/project"
	"freshet/internal/peertest"
)

// A mirror of a Debian archive tells of each sync as ftpsync does: what is served, and why it was
// synced.
func TestTrace(t *testing.T) {
	for _, up := range kindtest.Upstreams() {
		if up.Name != "deb" {
			continue
		}
		peertest.Require(t, up.Needs...)
		w := newWorld(t, project.Config{Kind: "deb", Schedule: "never"})
		w.cfg.Trace.Maintainer = "Admins <admins@mirror.example>"
		up.Publish(t, w.up, 1)
		w.write("project/trace/master", "Sun Nov 22 01:03:03 UTC 2026\nArchive serial: 2026112201\n")
		w.start()
		for i, result := range []mirrorapi.Result{mirrorapi.Published, mirrorapi.Unchanged} {
			r := w.sync(mirrorapi.SyncRequest{})
			if r.Result != result {
				t.Fatalf("sync %d: %+v", i, r)
			}
			text := w.get("/p/project/trace/box")
			var received int64
			if _, after, ok := strings.Cut(text, "Total bytes received in rsync: "); ok {
				_, _ = fmt.Sscan(after, &received)
			}
			if fetched := r.Fetched[mirrorapi.FromUpstream].Bytes; received < fetched || i == 0 && fetched == 0 {
				t.Errorf("sync %d fetched %d bytes and tells of %d", i, fetched, received)
			}
			for _, want := range []string{
				"Archive serial: 2026112201", "Creator: freshet", "Maintainer: Admins <admins@mirror.example>", "Trigger: order (ops)", "Architectures: ",
				"Architectures-Configuration: ALL", "Upstream-mirror: 127.0.0.1", "Rsync-Transport: plain", "Total time spent in rsync: ",
			} {
				if !strings.Contains(text, "\n"+want) {
					t.Errorf("after sync %d there is no %q in\n%s", i, want, text)
				}
			}
		}
		if files, err := filepath.Glob(filepath.Join(w.cfg.Directory, "projects/p/current/tree/project/trace/*")); err != nil || len(files) != 2 {
			t.Errorf("%q, %v", files, err)
		}
		return
	}
	t.Error("there is no upstream of kind deb")
}
