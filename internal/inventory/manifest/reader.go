package manifest

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"time"

	"freshet/internal/inventory"
)

// Reader reads one manifest, line by line, in little memory.
type Reader struct {
	Head Head
	// Seen, if not nil, is called with each entry that Entries yields.
	Seen func(inventory.Entry)
	from *bufio.Reader
	line int // that was read last
}

// NewReader reads the head of a manifest.
func NewReader(from io.Reader) (*Reader, error) {
	r := &Reader{from: bufio.NewReaderSize(from, 1<<16)}
	first, err := r.next()
	if err != nil {
		return nil, err
	}
	if string(first) != magic {
		return nil, r.wrong("it does not begin with %q", magic)
	}
	for range maxHeadLine {
		line, err := r.next()
		switch {
		case err != nil:
			return nil, err
		case len(line) > 0:
			err = r.headLine(line)
		default:
			err = r.Head.check()
		}
		if err != nil || len(line) == 0 {
			return r, err
		}
	}
	return nil, r.wrong("the head has more than %d lines", maxHeadLine)
}

func (r *Reader) headLine(line []byte) error {
	key, value, _ := bytes.Cut(line, []byte(" "))
	var field *string
	switch string(key) {
	case "project":
		field = &r.Head.Project
	case "generation":
		field = &r.Head.Generation
	case "base":
		field = &r.Head.Base
	case "at":
		seconds, err := strconv.ParseUint(string(value), 10, 40)
		if err != nil {
			return r.wrong("at is %q and no time in seconds", value)
		}
		r.Head.At = time.Unix(int64(seconds), 0).UTC()
		return nil
	default:
		return nil // of a later version, and not needed
	}
	if *field != "" || !isWord(string(value)) {
		return fmt.Errorf("line %d: %s %q: %w", r.line, key, value, errWord)
	}
	*field = string(value)
	return nil
}

// Entries yields what the manifest tells, and an error if that is not sound, at which it
// ends. It can be called once. Paths are as they are told: a tree ignores those that are
// not clean, and so must others.
func (r *Reader) Entries() iter.Seq2[inventory.Entry, error] {
	return func(yield func(inventory.Entry, error) bool) {
		for n := uint64(0); ; n++ {
			line, err := r.next()
			if err == nil && bytes.HasPrefix(line, []byte("end ")) {
				if err = r.end(string(line[4:]), n); err == nil {
					return
				}
			}
			var e inventory.Entry
			if err == nil {
				if e, err = r.entry(line); err == nil && r.Seen != nil {
					r.Seen(e)
				}
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// end checks the last line.
func (r *Reader) end(told string, n uint64) error {
	if told != strconv.FormatUint(n, 10) {
		return r.wrong("it tells of %s lines and has %d", strconv.Quote(told), n)
	}
	switch _, err := r.from.ReadByte(); {
	case err == nil:
		return r.wrong("something follows the end")
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

// entry reads the line of a file.
func (r *Reader) entry(line []byte) (inventory.Entry, error) {
	var e inventory.Entry
	if path, ok := bytes.CutPrefix(line, []byte("gone ")); ok {
		if r.Head.Base == "" {
			return e, r.wrong("gone is for manifests with a base")
		}
		e.Path, e.Gone = string(path), true
		return e, nil
	}
	size, rest, _ := bytes.Cut(line, []byte(" "))
	modTime, rest, _ := bytes.Cut(rest, []byte(" "))
	sum, path, ok := bytes.Cut(rest, []byte(" "))
	n, sizeOK := number(size)
	seconds, timeOK := modified(modTime)
	switch {
	case !ok:
		return e, r.wrong("length, time, SHA-256 and path are expected, with a space between")
	case !sizeOK:
		return e, r.wrong("the length %q is no number", size)
	case !timeOK:
		return e, r.wrong("the time %q is neither seconds since 1970 nor -", modTime)
	case string(sum) == "-":
	case len(sum) != hex.EncodedLen(len(e.SHA256)):
		return e, r.wrong("the SHA-256 %q is neither 64 hex digits nor -", sum)
	default:
		if _, err := hex.Decode(e.SHA256[:], sum); err != nil {
			return e, r.wrong("the SHA-256 %q is neither 64 hex digits nor -", sum)
		}
	}
	e.Path, e.Size = string(path), n
	if seconds > 0 {
		e.ModTime = time.Unix(seconds, 0)
	}
	return e, nil
}

// modified reads a time of modification, of which the seconds count; 0 is unknown.
func modified(text []byte) (int64, bool) {
	if string(text) == "-" {
		return 0, true
	}
	seconds, fraction, dot := bytes.Cut(text, []byte("."))
	if dot {
		if _, ok := number(fraction); !ok {
			return 0, false
		}
	}
	return number(seconds)
}

// number reads up to 18 decimal digits.
func number(text []byte) (int64, bool) {
	if len(text) == 0 || len(text) > 18 {
		return 0, false
	}
	n := int64(0)
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// next returns the next line without its end. It is valid until the one after it is read.
func (r *Reader) next() ([]byte, error) {
	r.line++
	line, err := r.from.ReadSlice('\n')
	switch {
	case errors.Is(err, io.EOF):
		return nil, r.wrong("it ends without its last line, \"end\"")
	case errors.Is(err, bufio.ErrBufferFull) || err == nil && len(line) > maxLine:
		return nil, r.wrong("it is longer than %d bytes", maxLine)
	case err != nil:
		return nil, err
	}
	return line[:len(line)-1], nil
}

func (r *Reader) wrong(format string, args ...any) error {
	return fmt.Errorf("line %d: %s: %w", r.line, fmt.Sprintf(format, args...), ErrFormat)
}
