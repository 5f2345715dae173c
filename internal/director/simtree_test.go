package director_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// release is one state of the origin's tree. It does not change.
type release struct {
	number int
	files  map[string][]byte // by path in the project
	// packages are the paths that the repository names, and primary that of its list.
	packages []string
	primary  string
}

const pointer = "os/repodata/repomd.xml"

// newRelease makes the state that follows another one, nil for the first: some packages
// are new, and what the former named is still there.
func newRelease(before *release, chance *rand.Rand) *release {
	r := &release{number: 1, files: make(map[string][]byte)}
	if before != nil {
		r.number = before.number + 1
		r.packages = append(r.packages, before.packages[5:]...)
		for _, p := range append(slices.Clip(before.packages), before.primary) {
			r.files[p] = before.files[p]
		}
	}
	for i := 0; len(r.packages) < 40; i++ {
		p := fmt.Sprintf("os/Packages/p-%d-%d.rpm", r.number, i)
		body := make([]byte, 200+chance.IntN(3000))
		for i := range body {
			body[i] = byte(chance.Uint32())
		}
		r.files[p] = body
		r.packages = append(r.packages, p)
	}
	var list strings.Builder
	fmt.Fprintf(&list, `<?xml version="1.0"?><metadata xmlns="http://linux.duke.edu/metadata/common" packages="%d">`, len(r.packages))
	for _, p := range r.packages {
		fmt.Fprintf(&list, `<package type="rpm"><name>p</name><arch>noarch</arch><version epoch="0" ver="1" rel="1"/><checksum type="sha256" pkgid="YES">%s</checksum><size package="%d" installed="1" archive="1"/><location href="%s"/></package>`,
			sumOf(r.files[p]), len(r.files[p]), strings.TrimPrefix(p, "os/"))
	}
	list.WriteString(`</metadata>`)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write([]byte(list.String()))
	_ = z.Close()
	r.primary = "os/repodata/" + sumOf(packed.Bytes()) + "-primary.xml.gz"
	r.files[r.primary] = packed.Bytes()
	r.files[pointer] = fmt.Appendf(nil, `<?xml version="1.0"?><repomd xmlns="http://linux.duke.edu/metadata/repo"><revision>%d</revision><data type="primary"><checksum type="sha256">%s</checksum><open-checksum type="sha256">%s</open-checksum><location href="%s"/><size>%d</size><open-size>%d</open-size></data></repomd>`,
		r.number, sumOf(packed.Bytes()), sumOf([]byte(list.String())), strings.TrimPrefix(r.primary, "os/"), packed.Len(), list.Len())
	return r
}

func sumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// without is the tree without some of its packages.
func (r *release) without(chance *rand.Rand, part float64) map[string][]byte {
	files := maps.Clone(r.files)
	for p := range files {
		if strings.HasSuffix(p, ".rpm") && chance.Float64() < part {
			delete(files, p)
		}
	}
	return files
}
