package kind

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"
)

// errTooLong is that of a file with more bytes than any of its kind.
var errTooLong = errors.New("longer than any file of its kind")

// readAll reads a file of at most limit bytes.
func readAll(ctx context.Context, open Open, name string, limit int64) ([]byte, error) {
	c, err := openContent(ctx, open, name, limit)
	if err != nil {
		return nil, err
	}
	defer c.Close() //nolint:errcheck // nothing was written
	text, err := io.ReadAll(io.NewSectionReader(c, 0, c.size))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return text, nil
}

// content is a file whose bytes can be read in any order.
type content struct {
	io.ReaderAt
	size    int64
	modTime time.Time
	closer  io.Closer
}

// Size is in bytes.
func (c *content) Size() int64 { return c.size }

// Close closes the file.
func (c *content) Close() error { return c.closer.Close() }

// openContent opens a file of at most limit bytes. One that can only be read from its
// beginning is read into memory.
func openContent(ctx context.Context, open Open, name string, limit int64) (*content, error) {
	f, err := open(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	c := &content{closer: f}
	if err := c.read(f, limit); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

func (c *content) read(f fs.File, limit int64) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	c.size, c.modTime = info.Size(), info.ModTime()
	if at, ok := f.(io.ReaderAt); ok && c.size > 0 {
		if c.size > limit {
			return errTooLong
		}
		c.ReaderAt = at
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return err
	}
	if int64(len(text)) > limit {
		return errTooLong
	}
	c.ReaderAt, c.size = bytes.NewReader(text), int64(len(text))
	return nil
}

// reader reads all of it from the beginning.
func (c *content) reader() io.Reader { return io.NewSectionReader(c, 0, c.size) }
