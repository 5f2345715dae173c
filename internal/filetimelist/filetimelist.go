// Package filetimelist reads lists of all files of a tree, as quick-fedora-mirror makes
// them and its mirrors carry them along ("fullfiletimelist-fedora"):
//
//	[Version]
//	2
//
//	[Files]
//	1767700953	f	282	linux/extras/README
//	1366880149	d	4096	linux/extras
//
//	[Checksums SHA1]
//	…
//	[End]
//
// The columns of a file are a time in seconds, a type with a sign behind it for what not
// everybody may read, a length in bytes, and a path; tabs are between them. Lists of other
// projects have fewer sections.
package filetimelist

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"
)

// Entry is one line of the files.
type Entry struct {
	// Type is 'f' for a file, 'd' for a folder, 'l' for a link, whose target is not told.
	Type byte
	// Private is true if not everybody may read it.
	Private bool
	Size    int64
	// ModTime is in whole seconds, UTC: of quick-fedora-mirror the time of the last change
	// of content or attributes.
	ModTime time.Time
	// Path is relative to the folder of the list, with no slash at either end.
	Path string
}

// ErrFormat is wrapped by errors of what is no such list, or not a whole one.
var ErrFormat = errors.New("not a sound list of files and times")

const (
	maxLine  = 8 << 10
	maxLines = 100_000_000
	maxSize  = 1 << 53
)

// Read yields the files, folders and links of a list, and an error, at which it ends, if
// the list is not sound or does not end as it should. Memory is bounded.
func Read(r io.Reader) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if err := read(r, yield); err != nil {
			yield(Entry{}, err)
		}
	}
}

func read(r io.Reader, yield func(Entry, error) bool) error {
	lines := bufio.NewReaderSize(r, maxLine)
	section, hadFiles := "", false
	for n := 1; n <= maxLines; n++ {
		line, err := lines.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF) && section != "End":
			if section = sectionOf(line); section != "End" {
				return fmt.Errorf("it ends in line %d without [End]: %w", n, ErrFormat)
			}
		case errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("line %d is longer than %d bytes: %w", n, maxLine, ErrFormat)
		case err != nil && !errors.Is(err, io.EOF):
			return err
		}
		line = bytes.TrimRight(line, "\r\n")
		switch name := sectionOf(line); {
		case name != "":
			section, hadFiles = name, hadFiles || name == "Files"
		case section == "Files" && len(line) > 0:
			e, err := parse(line)
			if err != nil {
				return fmt.Errorf("line %d: %w: %.80q", n, err, line)
			}
			if !yield(e, nil) {
				return nil
			}
		}
		if section == "End" {
			if !hadFiles {
				return fmt.Errorf("there is no [Files]: %w", ErrFormat)
			}
			return nil
		}
	}
	return fmt.Errorf("it has more than %d lines: %w", maxLines, ErrFormat)
}

// sectionOf is the name of the section that a line begins, or "". A file's line begins
// with a digit.
func sectionOf(line []byte) string {
	line = bytes.TrimSpace(line)
	if len(line) < 3 || line[0] != '[' || line[len(line)-1] != ']' {
		return ""
	}
	return string(line[1 : len(line)-1])
}

// parse parses the line of a file.
func parse(line []byte) (Entry, error) {
	stamp, rest, _ := bytes.Cut(line, []byte{'\t'})
	kind, rest, _ := bytes.Cut(rest, []byte{'\t'})
	size, path, ok := bytes.Cut(rest, []byte{'\t'})
	if !ok || len(path) == 0 {
		return Entry{}, fmt.Errorf("want time, type, length and path: %w", ErrFormat)
	}
	// The time may have a fraction, and may be before 1970.
	whole, _, _ := strings.Cut(string(stamp), ".")
	seconds, err := strconv.ParseInt(whole, 10, 40)
	if err != nil {
		return Entry{}, fmt.Errorf("the time is no number: %w", ErrFormat)
	}
	if len(kind) < 1 || len(kind) > 2 || len(kind) == 2 && kind[1] != '-' && kind[1] != '*' {
		return Entry{}, fmt.Errorf("the type is none that is known: %w", ErrFormat)
	}
	length, err := strconv.ParseInt(string(size), 10, 64)
	if err != nil || length < 0 || length >= maxSize {
		return Entry{}, fmt.Errorf("the length is no number of bytes: %w", ErrFormat)
	}
	return Entry{
		Type: kind[0], Private: len(kind) == 2, Size: length, ModTime: time.Unix(seconds, 0).UTC(),
		Path: strings.Trim(strings.TrimPrefix(string(path), "./"), "/"),
	}, nil
}
