package kind_test

import (
	"testing"

	"freshet/internal/layout"
	"freshet/internal/mirror/kind"
)

// What may have another content under its name is not served from an old generation; all
// else is, for its grace time.
func TestClassify(t *testing.T) {
	for _, c := range []struct {
		format  kind.Format
		name    string
		class   layout.Class
		mutable bool
	}{
		{kind.Images, "iso/SHA256SUMS", layout.Pointer, true},
		{kind.Images, "iso/SHA256SUMS.gpg", layout.Pointer, true},
		{kind.Images, "x/Fedora-CHECKSUM", layout.Pointer, true},
		{kind.Images, "iso/kali.iso", layout.Payload, false},
		{kind.Images, "iso/kali.iso.torrent", layout.Payload, false},
		{kind.Plain, "dir/README", layout.Payload, false},
		{kind.Plain, "dir/repodata/repomd.xml.asc", layout.Pointer, true},
		{kind.OSTree, "summary", layout.Pointer, true},
		{kind.RPM, "repodata/repomd.xml", layout.Pointer, true},
		{kind.RPM, "Packages/a.rpm", layout.Payload, false},
	} {
		if k := c.format.Classify(c.name); k.Class != c.class || k.Mutable() != c.mutable {
			t.Errorf("%s: %s is %+v", c.format, c.name, k)
		}
	}
}
