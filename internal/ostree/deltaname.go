package ostree

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// deltaEncoding is base64 with "_" for "/", without padding.
var deltaEncoding = base64.NewEncoding(
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+_",
).WithPadding(base64.NoPadding).Strict()

const encodedChecksum = 43 // characters of a checksum in base64

// MaxDeltaParts bounds the number of parts of a static delta.
const MaxDeltaParts = 1 << 16

// Base64 returns the 43 characters that stand for the checksum in the paths of
// static deltas.
func (c Checksum) Base64() string { return deltaEncoding.EncodeToString(c[:]) }

// ParseChecksumBase64 reads what [Checksum.Base64] wrote.
func ParseChecksumBase64(s string) (Checksum, error) {
	var c Checksum
	if len(s) != encodedChecksum || strings.ContainsAny(s, "\r\n") {
		return Checksum{}, fmt.Errorf("%w: %.100q is no checksum in base64", ErrName, s)
	}
	if _, err := deltaEncoding.Decode(c[:], []byte(s)); err != nil {
		return Checksum{}, fmt.Errorf("%w: %q is no checksum in base64", ErrName, s)
	}
	return c, nil
}

// DeltaName names a static delta. It is comparable.
type DeltaName struct {
	From Checksum // zero: from scratch, that is, from nothing
	To   Checksum
}

// FromScratch tells whether the delta needs no earlier commit.
func (n DeltaName) FromScratch() bool { return n.From.IsZero() }

// String returns "<to>" or "<from>-<to>" in base64, as in paths.
func (n DeltaName) String() string {
	if n.FromScratch() {
		return n.To.Base64()
	}
	return n.From.Base64() + "-" + n.To.Base64()
}

// Hex returns "<to>" or "<from>-<to>" in hexadecimal, as in delta indexes and
// summaries.
func (n DeltaName) Hex() string {
	if n.FromScratch() {
		return n.To.String()
	}
	return n.From.String() + "-" + n.To.String()
}

// Dir returns the directory of the delta: "deltas/XX/<rest>".
func (n DeltaName) Dir() string {
	s := n.String()
	return "deltas/" + s[:2] + "/" + s[2:]
}

// SuperblockPath returns the place of the delta's superblock.
func (n DeltaName) SuperblockPath() string { return n.Dir() + "/superblock" }

// PartPath returns the place of a part, counted from 0.
func (n DeltaName) PartPath(part int) string { return n.Dir() + "/" + strconv.Itoa(part) }

// Compare orders names by To, then by From.
func (n DeltaName) Compare(m DeltaName) int {
	if c := n.To.Compare(m.To); c != 0 {
		return c
	}
	return n.From.Compare(m.From)
}

// ParseDeltaName reads what [DeltaName.String] wrote.
func ParseDeltaName(s string) (DeltaName, error) {
	return parseDeltaName(s, encodedChecksum, ParseChecksumBase64)
}

// ParseDeltaHex reads what [DeltaName.Hex] wrote.
func ParseDeltaHex(s string) (DeltaName, error) {
	return parseDeltaName(s, 64, ParseChecksum)
}

func parseDeltaName(s string, width int, parse func(string) (Checksum, error)) (DeltaName, error) {
	var n DeltaName
	var err error
	if len(s) == 2*width+1 && s[width] == '-' {
		if n.From, err = parse(s[:width]); err != nil {
			return DeltaName{}, err
		}
		if n.FromScratch() {
			return DeltaName{}, fmt.Errorf("%w: delta from the zero checksum", ErrName)
		}
		s = s[width+1:]
	}
	if n.To, err = parse(s); err != nil {
		return DeltaName{}, err
	}
	return n, nil
}

// DeltaFile names a file of a static delta.
type DeltaFile struct {
	Delta DeltaName
	Part  int // counted from 0; -1 is the superblock
}

// Path returns the place of the file.
func (f DeltaFile) Path() string {
	if f.Part < 0 {
		return f.Delta.SuperblockPath()
	}
	return f.Delta.PartPath(f.Part)
}

// ParseDeltaPath reads "deltas/XX/<rest>/superblock" or "deltas/XX/<rest>/<part>".
func ParseDeltaPath(p string) (DeltaFile, error) {
	elements := strings.Split(p, "/")
	if len(elements) != 4 || elements[0] != "deltas" || len(elements[1]) != 2 {
		return DeltaFile{}, fmt.Errorf("%w: %.200q is no path of a delta", ErrName, p)
	}
	return parseDeltaFile(elements[1]+elements[2], elements[3])
}

func parseDeltaFile(delta, file string) (DeltaFile, error) {
	name, err := ParseDeltaName(delta)
	if err != nil {
		return DeltaFile{}, err
	}
	if file == "superblock" {
		return DeltaFile{Delta: name, Part: -1}, nil
	}
	part, err := strconv.ParseUint(file, 10, 16)
	if err != nil || strconv.FormatUint(part, 10) != file {
		return DeltaFile{}, fmt.Errorf("%w: %.100q is no part of a delta", ErrName, file)
	}
	return DeltaFile{Delta: name, Part: int(part)}, nil
}

// ParseUploadName reads the name that a file has in an upload and returns its
// place in a repository. "<64 hex>.<ext>" of commits, dirtrees, dirmetas and
// files is an object; "<delta>.superblock.delta" and "<delta>.<part>.delta"
// are files of a static delta.
func ParseUploadName(s string) (UploadName, error) {
	if rest, ok := strings.CutSuffix(s, ".delta"); ok {
		delta, file, _ := strings.Cut(rest, ".")
		f, err := parseDeltaFile(delta, file)
		if err != nil {
			return UploadName{}, err
		}
		return UploadName{Delta: &f}, nil
	}
	name, err := ParseObjectName(s)
	if err != nil {
		return UploadName{}, err
	}
	switch name.Type {
	case TypeFile, TypeDirTree, TypeDirMeta, TypeCommit:
		return UploadName{Object: name}, nil
	default:
		return UploadName{}, fmt.Errorf("%w: %s is of a type that is not uploaded", ErrName, name)
	}
}

// UploadName is what an uploaded file is: an object, or, when Delta is set, a
// file of a static delta.
type UploadName struct {
	Object ObjectName
	Delta  *DeltaFile
}

// Path returns the place of the file in a repository.
func (n UploadName) Path() string {
	if n.Delta != nil {
		return n.Delta.Path()
	}
	return n.Object.Path()
}

// DeltaIndexPath returns the place of the index of all deltas that lead to a
// commit: "delta-indexes/XX/<41>.index".
func DeltaIndexPath(to Checksum) string {
	s := to.Base64()
	return "delta-indexes/" + s[:2] + "/" + s[2:] + ".index"
}

// ParseDeltaIndexPath reads what [DeltaIndexPath] wrote.
func ParseDeltaIndexPath(p string) (to Checksum, err error) {
	rest, ok := strings.CutPrefix(p, "delta-indexes/")
	if ok {
		rest, ok = strings.CutSuffix(rest, ".index")
	}
	if !ok || len(rest) != encodedChecksum+1 || rest[2] != '/' {
		return Checksum{}, fmt.Errorf("%w: %.100q is no path of a delta index", ErrName, p)
	}
	return ParseChecksumBase64(rest[:2] + rest[3:])
}

// ListDeltas returns the static deltas of which there are folders XX/<rest> below
// root, which is "deltas" in a repository, in the order of those names. When root is
// not there, there are none.
func ListDeltas(fsys fs.FS, root string) ([]DeltaName, error) {
	var names []DeltaName
	groups, err := fs.ReadDir(fsys, root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list static deltas: %w", err)
	}
	for _, group := range groups {
		if len(group.Name()) != 2 || !group.IsDir() {
			continue
		}
		path := group.Name()
		if root != "." {
			path = root + "/" + path
		}
		entries, err := fs.ReadDir(fsys, path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("list static deltas: %w", err)
		}
		for _, entry := range entries {
			if name, err := ParseDeltaName(group.Name() + entry.Name()); err == nil {
				names = append(names, name)
			}
		}
	}
	return names, nil
}
