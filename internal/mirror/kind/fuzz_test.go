package kind_test

import (
	"context"
	"io/fs"
	"iter"
	"path"
	"strings"
	"testing"
	"testing/fstest"

	"freshet/internal/mirror/kind"
)

// Whatever an upstream has, what is wanted lies inside the tree, and failures have their
// words.
func FuzzKind(f *testing.F) {
	f.Add("deb", "dists/sid/InRelease", []byte("Date: Sat, 01 Jan 2022 10:00:00 UTC\nSHA256:\n e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0 main/binary-amd64/Packages\n"), "dists/sid/main/x", []byte{})
	f.Add("rpm", "os/repodata/repomd.xml", []byte(`<repomd><revision>5</revision><data type="primary"><location href="repodata/p.xml"/><timestamp>1.5</timestamp></data></repomd>`), "os/repodata/p.xml", []byte(`<metadata><package><location href="../../x-1.x86_64.rpm"/></package></metadata>`))
	f.Add("images", "a/SHA256SUMS", []byte("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  x-amd64.iso\n"), "a/SHA256SUMS.gpg", []byte("x"))
	f.Add("arch", "core/os/x86_64/core.db", []byte{}, "x", []byte{})
	f.Add("alpine", "edge/main/x86_64/APKINDEX.tar.gz", []byte("\x1f\x8b"), "x", []byte{})
	f.Add("ostree", "summary", make([]byte, 8), "config", []byte{})
	f.Add("plain", "source/a.iso", []byte{}, "../x", []byte{})
	f.Fuzz(func(t *testing.T, format, name string, data []byte, other string, more []byte) {
		c := kind.Config{Format: kind.Format(format), Architectures: []string{"amd64"}, Releases: []string{"sid"}, Include: []string{"*"}}
		if c.Format != kind.Plain && c.Format != kind.OSTree {
			c.Repositories = []string{"*"}
		}
		k, err := kind.New(c)
		if err != nil || !fs.ValidPath(name) || !fs.ValidPath(other) || name == "." || other == "." || strings.HasPrefix(name, other+"/") || strings.HasPrefix(other, name+"/") {
			return
		}
		fsys := fstest.MapFS{name: {Data: data}, other: {Data: more}}
		tree := kind.Tree{
			Open: func(_ context.Context, name string) (fs.File, error) { return fsys.Open(name) },
			List: func(context.Context) iter.Seq2[kind.File, error] {
				return func(yield func(kind.File, error) bool) {
					for name, file := range fsys {
						var f kind.File
						if f.Path, f.Size = name, int64(len(file.Data)); path.Ext(name) == ".link" {
							f.Link = string(file.Data)
						}
						if !yield(f, nil) {
							return
						}
					}
				}
			},
		}
		check := func(seq iter.Seq2[kind.File, error]) {
			for f, err := range seq {
				if err != nil {
					if kind.Reason(err) == "" {
						t.Error(err)
					}
					return
				}
				if !fs.ValidPath(f.Path) || f.Path == "." || f.Size < -1 {
					t.Errorf("%+v", f)
				}
			}
		}
		list, err := k.Repositories(t.Context(), tree)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			if v, err := k.Version(t.Context(), tree.Open, r); err == nil && (v.Pointer != r.Pointer || v.Mark < 0 || len(v.SHA256) != 64) {
				t.Errorf("%+v", v)
			}
			check(k.Files(t.Context(), tree, r, &kind.Left{}))
		}
		check(k.Rest(t.Context(), tree, list, nil))
	})
}
