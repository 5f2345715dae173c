package kind

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"freshet/internal/closure"
	"freshet/internal/glob"
	"freshet/internal/layout"
)

// maxTreeinfo is the longest .treeinfo that is read. Those of Fedora have 2 KB.
const maxTreeinfo = 1 << 20

// treeinfo yields the files that an installer begins with, where a repository has them:
// kernel, initrd and images, as the section "checksums" of its .treeinfo names them:
//
//	[checksums]
//	images/pxeboot/vmlinuz = sha256:4a5d…
func (k *Kind) treeinfo(ctx context.Context, open Open, r Repository, yield func(File) bool) error {
	name := path.Join(r.Root, ".treeinfo")
	text, err := readAll(ctx, open, name, maxTreeinfo)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	section := ""
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[]")
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || section != "checksums" {
			continue
		}
		f, ok := treeinfoFile(r.Root, strings.TrimSpace(key), strings.TrimSpace(value))
		if !ok || !k.config.ISO && isImage(f.Path) || glob.MatchAny(k.config.Exclude, f.Path) {
			continue
		}
		if !yield(f) {
			return errStopped
		}
	}
	f, ok, err := companion(ctx, open, name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if ok && !yield(f) {
		return errStopped
	}
	return nil
}

// treeinfoFile is a file of a section of checksums. The pointer of the repository, which
// some list as well, has a list of its own.
func treeinfoFile(root, name, value string) (f File, ok bool) {
	full := path.Join(root, name)
	sum, isSHA256 := strings.CutPrefix(value, "sha256:")
	hash, err := hex.DecodeString(sum)
	if !isSHA256 || err != nil || len(hash) != 32 || path.IsAbs(name) || !fs.ValidPath(full) || full == "." || strings.ContainsRune(full, 0) ||
		path.Base(path.Dir(full)) == "repodata" {
		return f, false
	}
	return File{File: closure.File{
		Path: full, Size: -1, Sum: closure.Sum{Hash: crypto.SHA256, Value: string(hash)}, Class: layout.Index, Optional: true,
	}}, true
}
