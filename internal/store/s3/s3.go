// Package s3 is an object store for [bucket.Copy] behind the API of Amazon S3, as
// many servers and services have it. It needs conditional writes: If-None-Match: *
// and If-Match on PutObject. It also asks for If-Match on DeleteObject, which not all
// know.
//
// Keys go over the wire percent-encoded, "+" too, which some servers take for a space
// otherwise: names of static deltas have it.
//
// Each attempt has a time that grows with the size, and what may pass is tried again
// with growing, random pauses. Nothing of an object is kept in memory: bodies are read
// from files, large ones in parts.
package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"freshet/internal/store/bucket"
)

// Config says where the bucket is.
type Config struct {
	// Endpoint is the URL of the server, "https://s3.example.org". Required.
	Endpoint string
	// Bucket is the name of the bucket, which must be there. Required.
	Bucket string
	// Region is what signatures are made for. "" is us-east-1, which servers that
	// know no regions take.
	Region string
	// PathStyle asks for ENDPOINT/BUCKET/KEY instead of BUCKET.ENDPOINT/KEY.
	PathStyle bool
	// Credentials is a file in the format of ~/.aws/credentials, of which the section
	// "default" counts. "": AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
	// AWS_SESSION_TOKEN of the environment.
	Credentials string
	// CA is a file with the certificates, in PEM, of those who sign the server's; "" for
	// those that the system trusts.
	CA string
	// Timeout is how long the server may take for an answer, besides the transfer.
	// 0 is 30 s.
	Timeout time.Duration
	// Attempts is how often a request is tried. 0 is 5.
	Attempts int
	// Transport makes the requests, and knows whom to trust; nil for one of its own.
	Transport http.RoundTripper
}

const (
	defaultRegion   = "us-east-1"
	defaultTimeout  = 30 * time.Second
	defaultAttempts = 5
	// partSize is the size from which objects are written in parts, and that of a
	// part. With 10,000 parts an object may have 640 GB.
	partSize    = 64 << 20
	partsAtOnce = 2
	// slowest is the rate in bytes per second below which a transfer is given up.
	slowest = 128 << 10
	// maxIdle is how many connections are kept.
	maxIdle = 64

	minPause = 100 * time.Millisecond
	maxPause = 5 * time.Second
)

// Objects is a bucket: [bucket.Objects].
type Objects struct {
	client   minio.Core
	bucket   string
	timeout  time.Duration
	attempts int
}

var _ bucket.Objects = (*Objects)(nil)

// Open makes the client of a bucket; it asks nothing of it.
func Open(c Config) (*Objects, error) {
	endpoint, err := ParseEndpoint(c.Endpoint)
	if err != nil {
		return nil, err
	}
	keys, err := c.credentials()
	if err != nil {
		return nil, err
	}
	o := &Objects{bucket: c.Bucket, timeout: c.Timeout, attempts: c.Attempts}
	if o.timeout == 0 {
		o.timeout = defaultTimeout
	}
	if o.attempts == 0 {
		o.attempts = defaultAttempts
	}
	if c.Region == "" {
		c.Region = defaultRegion
	}
	if c.Transport == nil {
		roots, err := c.roots()
		if err != nil {
			return nil, err
		}
		c.Transport = newTransport(o.timeout, roots)
	}
	lookup := minio.BucketLookupDNS
	if c.PathStyle {
		lookup = minio.BucketLookupPath
	}
	client, err := minio.New(endpoint.Host, &minio.Options{
		Creds:        keys,
		Secure:       endpoint.Scheme == "https",
		Region:       c.Region,
		BucketLookup: lookup,
		Transport:    conditional{c.Transport},
		MaxRetries:   1,
	})
	if err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	o.client = minio.Core{Client: client}
	return o, nil
}

// ParseEndpoint reads the URL of a server: a scheme and a host, and nothing else.
func ParseEndpoint(endpoint string) (*url.URL, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("%q is not https://HOST or http://HOST:PORT", endpoint)
	}
	return u, nil
}

// credentials are read now, so that a hub without them does not start.
func (c *Config) credentials() (*credentials.Credentials, error) {
	keys, where := credentials.NewEnvAWS(), "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"
	if c.Credentials != "" {
		if _, err := os.Stat(c.Credentials); err != nil {
			return nil, err
		}
		keys, where = credentials.NewFileAWSCredentials(c.Credentials, "default"), c.Credentials
	}
	value, err := keys.GetWithContext(nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	if value.AccessKeyID == "" || value.SecretAccessKey == "" {
		return nil, fmt.Errorf("%s: there is no key", where)
	}
	return keys, nil
}

// roots are those of CA, nil for those of the system.
func (c *Config) roots() (*x509.CertPool, error) {
	if c.CA == "" {
		return nil, nil //nolint:nilnil // as crypto/tls wants it
	}
	data, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s: there is no certificate in it (PEM)", c.CA)
	}
	return roots, nil
}

func newTransport(timeout time.Duration, roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		Proxy:                 http.ProxyFromEnvironment,
		ResponseHeaderTimeout: timeout,
		TLSHandshakeTimeout:   timeout,
		IdleConnTimeout:       time.Minute,
		MaxIdleConnsPerHost:   maxIdle,
		DisableCompression:    true, // what is stored is what counts
	}
}

// Create implements [bucket.Objects]. An object that is written in parts is looked
// for before: not every server minds a condition at the end of the parts. Of two
// that write it at the same time the later one counts then.
func (o *Objects) Create(ctx context.Context, key string, body *io.SectionReader, h bucket.Headers) (created bool, err error) {
	if body.Size() > partSize {
		if _, err := o.Stat(ctx, key); err == nil {
			return false, nil
		}
	}
	opt := options(h)
	opt.SetMatchETagExcept("*")
	_, err = o.put(ctx, key, body, opt)
	if errors.Is(err, bucket.ErrConflict) {
		return false, nil
	}
	return err == nil, err
}

// Replace implements [bucket.Objects].
func (o *Objects) Replace(ctx context.Context, key string, body *io.SectionReader, was bucket.Version, h bucket.Headers) (bucket.Version, error) {
	opt := options(h)
	if was == bucket.None {
		opt.SetMatchETagExcept("*")
	} else {
		opt.SetMatchETag(string(was))
	}
	version, err := o.put(ctx, key, body, opt)
	if errors.Is(err, fs.ErrNotExist) && was != bucket.None { // how some say that there is nothing to match
		return bucket.None, &bucket.Error{Op: "put", Key: key, Reason: bucket.Conflict, Err: err}
	}
	if !errors.Is(err, bucket.ErrConflict) {
		return version, err
	}
	// An attempt may have arrived whose answer did not.
	same, version, compareErr := o.same(ctx, key, body)
	switch {
	case compareErr != nil && !errors.Is(compareErr, fs.ErrNotExist):
		return bucket.None, compareErr
	case same:
		return version, nil
	}
	return bucket.None, err
}

// same tells whether an object has a content.
func (o *Objects) same(ctx context.Context, key string, body *io.SectionReader) (bool, bucket.Version, error) {
	there, about, err := o.Open(ctx, key)
	if err != nil {
		return false, bucket.None, err
	}
	defer there.Close() //nolint:errcheck // opened for reading
	if about.Size != body.Size() {
		return false, about.Version, nil
	}
	equal, err := equalContent(there, io.NewSectionReader(body, 0, body.Size()))
	return equal, about.Version, err
}

func options(h bucket.Headers) minio.PutObjectOptions {
	return minio.PutObjectOptions{
		ContentType:  h.ContentType,
		CacheControl: h.CacheControl,
		// The sum is in the signed headers, so that the body need not be signed in pieces,
		// which not every server takes.
		SendContentMd5:       true,
		DisableContentSha256: true,
		PartSize:             partSize,
		NumThreads:           partsAtOnce,
	}
}

func (o *Objects) put(ctx context.Context, key string, body *io.SectionReader, opt minio.PutObjectOptions) (version bucket.Version, err error) {
	err = o.try(ctx, "put", key, body.Size(), func(ctx context.Context) error {
		// A reader of its own: an attempt that was given up may still read.
		part := io.NewSectionReader(body, 0, body.Size())
		info, err := o.client.Client.PutObject(ctx, o.bucket, key, part, part.Size(), opt)
		version = bucket.Version(info.ETag)
		return err
	})
	return version, err
}

// Stat implements [bucket.Objects].
func (o *Objects) Stat(ctx context.Context, key string) (about bucket.Object, err error) {
	err = o.try(ctx, "head", key, 0, func(ctx context.Context) error {
		info, err := o.client.StatObject(ctx, o.bucket, key, minio.StatObjectOptions{})
		about = bucket.Object{Key: key, Size: info.Size, Version: bucket.Version(info.ETag)}
		return err
	})
	return about, err
}

// Open implements [bucket.Objects].
func (o *Objects) Open(ctx context.Context, key string) (body io.ReadCloser, about bucket.Object, err error) {
	err = o.try(ctx, "get", key, -1, func(attempt context.Context) error {
		r, info, _, err := o.client.GetObject(attempt, o.bucket, key, minio.GetObjectOptions{})
		if err != nil {
			return err
		}
		about = bucket.Object{Key: key, Size: info.Size, Version: bucket.Version(info.ETag)}
		body = r
		return nil
	})
	if err != nil {
		return nil, about, err
	}
	return newBody(body, key, o.timeFor(about.Size)), about, nil
}

// Remove implements [bucket.Objects].
func (o *Objects) Remove(ctx context.Context, key string, was bucket.Version) error {
	ctx = context.WithValue(ctx, removedVersion{}, was)
	err := o.try(ctx, "delete", key, 0, func(ctx context.Context) error {
		return o.client.RemoveObject(ctx, o.bucket, key, minio.RemoveObjectOptions{})
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// removedVersion is the key of the version that a removal is about, in its context.
type removedVersion struct{}

// conditional adds to a removal which version it is about, since the client has no
// option for it. Servers take headers that are not signed.
type conditional struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (c conditional) RoundTrip(r *http.Request) (*http.Response, error) {
	if was, ok := r.Context().Value(removedVersion{}).(bucket.Version); ok && r.Method == http.MethodDelete {
		r = r.Clone(r.Context())
		r.Header.Set("If-Match", `"`+string(was)+`"`)
	}
	return c.next.RoundTrip(r)
}

// Delete implements [bucket.Objects].
func (o *Objects) Delete(ctx context.Context, keys []string) error {
	for len(keys) > 0 {
		n := min(len(keys), 1000) // as many as a request takes
		err := o.try(ctx, "delete", keys[0], 0, func(ctx context.Context) error {
			all := make(chan minio.ObjectInfo, n)
			for _, key := range keys[:n] {
				all <- minio.ObjectInfo{Key: key}
			}
			close(all)
			var first error
			for failed := range o.client.RemoveObjects(ctx, o.bucket, all, minio.RemoveObjectsOptions{}) {
				if first == nil && failed.Err != nil && minio.ToErrorResponse(failed.Err).Code != minio.NoSuchKey {
					first = failed.Err
				}
			}
			return first
		})
		if err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

// List implements [bucket.Objects].
func (o *Objects) List(ctx context.Context, prefix string, fn func(bucket.Object) error) error {
	last := ""
	for {
		page, err := o.page(ctx, prefix, last)
		if err != nil {
			return err
		}
		for _, object := range page {
			if err := fn(object); err != nil {
				return err
			}
		}
		if len(page) < pageSize {
			return nil
		}
		last = page[pageSize-1].Key
	}
}

// pageSize is how many keys servers list at once.
const pageSize = 1000

// page lists the keys after last.
func (o *Objects) page(ctx context.Context, prefix, last string) (page []bucket.Object, err error) {
	err = o.try(ctx, "list", prefix, 0, func(ctx context.Context) error {
		page = page[:0]
		opt := minio.ListObjectsOptions{Prefix: prefix, Recursive: true, StartAfter: last, MaxKeys: pageSize}
		for info := range o.client.ListObjectsIter(ctx, o.bucket, opt) {
			if info.Err != nil {
				return info.Err
			}
			page = append(page, bucket.Object{Key: info.Key, Size: info.Size, Version: bucket.Version(strings.Trim(info.ETag, `"`))})
			if len(page) == pageSize {
				break
			}
		}
		return nil
	})
	return page, err
}
