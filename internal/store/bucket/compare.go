package bucket

import (
	"context"
	"crypto/md5" //nolint:gosec // what S3 calls ETag
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Decided tells which copy there is and the number of its last change, without taking
// it over; id is "" where there is none.
func (c *Copy) Decided(ctx context.Context) (id string, serial int64, err error) {
	m, _, err := c.read(ctx)
	if err != nil || m == nil {
		return "", 0, err
	}
	return m.ID, m.Serial, nil
}

// Compare tells in words in what the copy of a file differs from f, "" if in nothing.
// Payload has the content of its name: only its size is looked at, unless exact.
func (c *Copy) Compare(ctx context.Context, path string, f *os.File, exact bool) (string, error) {
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	there, err := c.stat(ctx, path)
	switch {
	case err != nil:
		return "", err
	case there.Version == None:
		return "it is not in the bucket", nil
	case there.Size != info.Size():
		return fmt.Sprintf("it has %d bytes in the bucket, and %d in the directory", there.Size, info.Size()), nil
	case !exact:
		return "", nil
	}
	body := io.NewSectionReader(f, 0, info.Size())
	if etag, err := ETag(body); err != nil || etag == there.Version {
		return "", err
	}
	// What was encrypted, or written in parts, has an ETag of another kind.
	here, copied := sha256.New(), sha256.New()
	_, err = c.Download(ctx, path, copied)
	if errors.Is(err, fs.ErrNotExist) {
		return "it is not in the bucket", nil
	}
	if err == nil {
		_, err = io.Copy(here, body)
	}
	if err != nil || string(here.Sum(nil)) == string(copied.Sum(nil)) {
		return "", err
	}
	return "it is another one in the bucket", nil
}

// ETag is the version that an object with this content has, if it was written in one
// piece and is not encrypted.
func ETag(body *io.SectionReader) (Version, error) {
	sum := md5.New()
	if _, err := io.Copy(sum, io.NewSectionReader(body, 0, body.Size())); err != nil {
		return None, err
	}
	return Version(hex.EncodeToString(sum.Sum(nil))), nil
}

// Has tells whether the copy has a file.
func (c *Copy) Has(ctx context.Context, path string) (bool, error) {
	there, err := c.stat(ctx, path)
	return there.Version != None, err
}
