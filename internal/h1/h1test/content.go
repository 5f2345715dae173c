// Package h1test has what the servers of tests answer with.
package h1test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Len is the length of a [Content].
const Len = 3 << 20

// Content is the same bytes in memory and in a file.
type Content struct {
	Bytes []byte
	File  *os.File
}

// NewContent makes one that lasts as long as the test.
func NewContent(tb testing.TB) Content {
	tb.Helper()
	c := Content{Bytes: make([]byte, Len)}
	for i := range c.Bytes {
		c.Bytes[i] = byte(i>>8) ^ byte(i*7)
	}
	name := filepath.Join(tb.TempDir(), "content")
	if err := os.WriteFile(name, c.Bytes, 0o600); err != nil {
		tb.Fatal(err)
	}
	var err error
	if c.File, err = os.Open(name); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.File.Close() })
	return c
}

// Part is a part of a content: Body, or Length bytes of File from Offset on.
type Part struct {
	Body           []byte
	File           *os.File
	Offset, Length int64
}

// Part is what a target asks for: /memory/N, /file/OFF/N, or /short, which is
// more of the file than there is. Other targets have none.
func (c Content) Part(target string) (p Part, ok bool) {
	parts := strings.Split(target, "/")
	var numbers [2]int64
	for i, text := range parts[min(len(parts), 2):] {
		numbers[i%2], _ = strconv.ParseInt(text, 10, 64)
	}
	switch {
	case parts[1] == "memory" && len(parts) == 3:
		return Part{Body: c.Bytes[:numbers[0]], Length: numbers[0]}, true
	case parts[1] == "file" && len(parts) == 4:
		return Part{File: c.File, Offset: numbers[0], Length: numbers[1]}, true
	case parts[1] == "short":
		return Part{File: c.File, Length: Len + 100}, true
	}
	return p, false
}
