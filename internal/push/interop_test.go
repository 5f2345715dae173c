package push_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"freshet/internal/peertest"
	"freshet/internal/push"
)

// A repository made by the real ostree, with real static deltas, arrives at the
// hub as it is.
func TestPushRealRepository(t *testing.T) {
	peertest.Require(t, "ostree")
	dir := filepath.Join(t.TempDir(), "repo")
	ostree := func(args ...string) string {
		t.Helper()
		out, err := peertest.Command(t, "ostree", append([]string{"--repo=" + dir}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("ostree %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	tree := filepath.Join(t.TempDir(), "tree")
	ostree("init", "--mode=archive")
	commit := func(text string) string {
		writeTree(t, tree, map[string]string{"metadata": "[Application]\n", "files/bin/app": text, "files/share/big": strings.Repeat(text, 9000)})
		_ = os.Remove(filepath.Join(tree, "files/link"))
		if err := os.Symlink("bin/app", filepath.Join(tree, "files/link")); err != nil {
			t.Fatal(err)
		}
		return ostree("commit", "--canonical-permissions", "-b", appRef, tree)
	}
	old := commit("one")
	head := commit("two")
	ostree("static-delta", "generate", "--empty", "--to="+head)
	ostree("static-delta", "generate", "--from="+old, "--to="+head)
	ostree("static-delta", "generate", "--empty", "--to="+old)
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		if _, err := push.Run(t.Context(), push.Config{Client: h.client(), Dir: dir, Name: "stable"}); err != nil {
			t.Fatal(err)
		}
		b := h.builds[0]
		if b.refs[appRef] != head || b.objects[head+".commit"] == nil || b.objects[old+".commit"] != nil {
			t.Errorf("refs %v", b.refs)
		}
		superblocks, files := 0, 0
		for name := range b.objects {
			if strings.HasSuffix(name, ".superblock.delta") {
				superblocks++
			}
			if strings.HasSuffix(name, ".filez") {
				files++
			}
		}
		if superblocks != 2 || files != 4 {
			t.Errorf("%d deltas, %d files", superblocks, files)
		}
	})
}
