package serve

import (
	"encoding/base64"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"strings"

	"freshet/internal/mirror/generation"
)

// digest tells a client that wants it the SHA-256 of a file of a generation, whatever part
// of it is asked for: by Want-Repr-Digest (RFC 9530 §4), or Want-Digest as before it (RFC
// 3230 §4.3.1). It is looked up in the manifest, so others are not told.
func (s *Site) digest(h http.Header, r *http.Request, from *generation.Generation, rest string, info fs.FileInfo) {
	repr, before := wants(r.Header, "Want-Repr-Digest"), wants(r.Header, "Want-Digest")
	if !repr && !before {
		return
	}
	find, err := from.Finder()
	if err == nil {
		defer find.Close() //nolint:errcheck // opened for reading
		var sum [32]byte
		var ok bool
		if sum, ok, err = sumOf(find, rest, info.Size(), info.ModTime().Unix()); ok {
			if repr {
				h.Set("Repr-Digest", reprDigest(sum))
			}
			if before {
				h.Set("Digest", "SHA-256="+base64.StdEncoding.EncodeToString(sum[:]))
			}
		}
	}
	if err != nil {
		s.opts.Log.ErrorContext(r.Context(), "no checksum could be told", slog.Any("error", err))
	}
}

// wants says whether a field lists SHA-256 with a preference other than 0.
func wants(h http.Header, name string) bool {
	for part := range strings.SplitSeq(strings.ToLower(strings.Join(h[name], ",")), ",") {
		algorithm, preference, _ := strings.Cut(strings.ReplaceAll(part, ";q=", "="), "=")
		if strings.TrimSpace(algorithm) == "sha-256" {
			return strings.Trim(preference, " 0.") != "" || preference == ""
		}
	}
	return false
}

// reprDigest is the value of Repr-Digest (RFC 9530 §3).
func reprDigest(sum [32]byte) string {
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

// maxLinks is how many links are followed on the way to a file, as Linux does it.
const maxLinks = 40

// sumOf returns the SHA-256 of the file to which a path leads, through links; false if the
// manifest does not tell of one with this size and time: it does not know what the mirror
// has written itself, and nothing of what a disk has done since.
func sumOf(find *generation.Finder, name string, size, modified int64) (sum [32]byte, ok bool, err error) {
	_, f, err := walk(find, "", name)
	if err != nil || f.Path == "" {
		return sum, false, err
	}
	return f.SHA256, f.Size == size && f.ModTime.Unix() == modified, nil
}

// walk follows a path from a folder of the manifest, in which there are no links, and
// returns the file to which it leads; its path is empty if that is none of the manifest:
// then at is the folder that it would be.
func walk(find *generation.Finder, folder, name string) (at string, f generation.File, err error) {
	at = folder
	rest := strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		step := rest[0]
		rest = rest[1:]
		if step == ".." {
			at = strings.TrimPrefix(path.Dir("/"+at), "/")
			continue
		}
		at = path.Join(at, step)
		f, known, err := find.Find(at)
		switch {
		case err != nil:
			return "", generation.File{}, err
		case known && !f.IsLink():
			if len(rest) > 0 {
				f = generation.File{} // a file is no folder
			}
			return at, f, nil
		case known:
			if links++; links > maxLinks || strings.HasPrefix(f.Link, "/") {
				return "", generation.File{}, nil
			}
			at = strings.TrimPrefix(path.Dir("/"+at), "/")
			rest = append(strings.Split(path.Clean(f.Link), "/"), rest...)
		}
	}
	return at, f, nil
}
