package layout

import (
	"strings"
	"testing"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	var (
		h64       = strings.Repeat("0a", 32)
		payload   = Kind{Class: Payload}
		addressed = Kind{Class: Payload, Addressed: true}
		index     = Kind{Class: Index}
		fixed     = Kind{Class: Index, Addressed: true}
		pointer   = Kind{Class: Pointer}
	)
	for _, c := range []struct {
		name     string
		classify func(string) Kind
		path     string
		want     Kind
	}{
		{"ostree", OSTree, "objects/ab/cdef.commit", addressed},
		{"ostree", OSTree, "objects/ab/cdef.dirtree", addressed},
		{"ostree", OSTree, "objects/ab/cdef.dirmeta", addressed},
		{"ostree", OSTree, "objects/ab/cdef.filez", payload},
		{"ostree", OSTree, "objects/ab/cdef.commitmeta", index},
		{"ostree", OSTree, "deltas/ab/cd-ef/superblock", payload},
		{"ostree", OSTree, "delta-indexes/ab/cd.index", index},
		{"ostree", OSTree, "summaries/" + h64 + ".gz", fixed},
		{"ostree", OSTree, "summaries/" + h64 + ".idx.sig", fixed},
		{"ostree", OSTree, "summary", pointer},
		{"ostree", OSTree, "summary.sig", pointer},
		{"ostree", OSTree, "summary.idx", pointer},
		{"ostree", OSTree, "refs/heads/app/org.x/x86_64/stable", pointer},
		{"ostree", OSTree, "config", index},
		{"ostree", OSTree, "summaryx", index},
		{"rpm", RPM, "repodata/repomd.xml", pointer},
		{"rpm", RPM, "el9/x86_64/repodata/repomd.xml.asc", pointer},
		{"rpm", RPM, "repodata/" + h64 + "-primary.xml.gz", fixed},
		{"rpm", RPM, "repodata/primary.xml.gz", index},
		{"rpm", RPM, "notrepodata/repomd.xml", index},
		{"rpm", RPM, "Packages/h/hello-1-1.x86_64.rpm", payload},
		{"deb", Deb, "dists/stable/InRelease", pointer},
		{"deb", Deb, "dists/stable/Release.gpg", pointer},
		{"deb", Deb, "dists/stable/main/binary-amd64/Packages.xz", index},
		{"deb", Deb, "dists/stable/main/binary-amd64/by-hash/SHA256/" + h64, fixed},
		{"deb", Deb, "dists/stable/main/binary-amd64/by-hash/SHA256/x", index},
		{"deb", Deb, "pool/main/h/hello/hello_1.orig.tar.gz", payload},
		{"deb", Deb, "debian/pool/main/h/hello/hello_1_amd64.deb", payload},
		{"arch", Arch, "core/os/x86_64/core.db", pointer},
		{"arch", Arch, "core/os/x86_64/core.db.sig", pointer},
		{"arch", Arch, "core/os/x86_64/core.db.tar.gz", pointer},
		{"arch", Arch, "core/os/x86_64/core.files.tar.zst.sig", pointer},
		{"arch", Arch, "core/os/x86_64/core.db.tar.gz.old", pointer},
		{"arch", Arch, "core/os/x86_64/hello-1-1-x86_64.pkg.tar.zst", payload},
		{"arch", Arch, "core/os/x86_64/hello-1-1-x86_64.pkg.tar.zst.sig", payload},
		{"arch", Arch, "data.tar.gz", index},
		{"apk", Apk, "v3.20/main/x86_64/APKINDEX.tar.gz", pointer},
		{"apk", Apk, "v3.20/main/x86_64/hello-1.0-r0.apk", payload},
		{"apk", Apk, "last-updated", index},
		{"tree", Tree, "core.db", pointer},
		{"tree", Tree, "x/repodata/repomd.xml", pointer},
		{"tree", Tree, "dists/sid/Release", pointer},
		{"tree", Tree, "README", index},
		{"tree", Tree, "", index},
	} {
		if got := c.classify(c.path); got != c.want {
			t.Errorf("%s %q: %v addressed=%t, want %v addressed=%t", c.name, c.path, got.Class, got.Addressed, c.want.Class, c.want.Addressed)
		}
	}
}

func TestMutable(t *testing.T) {
	t.Parallel()
	for k, want := range map[Kind]bool{
		{Class: Payload}:                  false,
		{Class: Payload, Addressed: true}: false,
		{Class: Index}:                    true,
		{Class: Index, Addressed: true}:   false,
		{Class: Pointer}:                  true,
	} {
		if k.Mutable() != want {
			t.Errorf("%+v: mutable %t, want %t", k, !want, want)
		}
	}
}
