package hub

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"regexp"
	"strings"
	"time"

	"freshet/internal/hub/repository"
	"freshet/internal/store/bucket"
	"freshet/internal/store/s3"
)

// StorageConfig is the table [hub.storage]: a bucket behind the API of S3 in which the
// OSTree repositories are published. docs/hub-storage.md tells more.
type StorageConfig struct {
	// Endpoint is the URL of the S3 server, "https://s3.example.org". It must honour
	// If-None-Match and If-Match on writes. Default: none, and the repositories are in
	// dir alone.
	Endpoint string `toml:"endpoint"`

	// Bucket is the bucket, which must be there. Required with endpoint.
	Bucket string `toml:"bucket"`

	// Prefix is what all keys begin with ("flatpak"); each repository is below it by
	// its name. No other hub may use it. Default: none.
	Prefix string `toml:"prefix"`

	// Region is the region for which requests are signed. Default "us-east-1", which
	// servers that have no regions take.
	Region string `toml:"region"`

	// PathStyle asks for ENDPOINT/BUCKET/KEY, as most servers want it that are not
	// Amazon's, instead of BUCKET.ENDPOINT/KEY. Default: false.
	PathStyle bool `toml:"path-style"`

	// CredentialsFile has the keys, in the format of ~/.aws/credentials, below
	// [default]. Default: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
	// AWS_SESSION_TOKEN of the environment.
	CredentialsFile string `toml:"credentials-file"`

	// CAFile has the certificates, in PEM, of those who sign the server's, where that is
	// nobody whom the system trusts. It is read at the start. Default: those of the system.
	CAFile string `toml:"ca-file"`

	// Timeout is how long the server may take to answer, besides the time of the
	// transfer, before the request is made again. Default "30s".
	Timeout time.Duration `toml:"timeout"`
}

// bucketPattern is what servers agree on.
var bucketPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

func (v *validation) storage(c StorageConfig) {
	if c.Endpoint == "" {
		if c != (StorageConfig{}) {
			v.problem("storage.endpoint", "is missing: the other keys of storage mean nothing without it")
		}
		return
	}
	if _, err := s3.ParseEndpoint(c.Endpoint); err != nil {
		v.problem("storage.endpoint", "%v", err)
	}
	if c.CAFile != "" && strings.HasPrefix(c.Endpoint, "http://") {
		v.problem("storage.ca-file", "means nothing for %s, which is not https", c.Endpoint)
	}
	if !bucketPattern.MatchString(c.Bucket) {
		v.problem("storage.bucket", "%q is no name of a bucket: want 3 to 63 of a-z, 0-9, \".\" and \"-\"", c.Bucket)
	}
	if prefix := strings.TrimSuffix(c.Prefix, "/"); prefix != "" && (!fs.ValidPath(prefix) || strings.HasPrefix(prefix, ".")) {
		v.problem("storage.prefix", "%q is no prefix: want names with slashes in between", c.Prefix)
	}
	v.notNegative("storage.timeout", int64(c.Timeout))
}

// isUsed tells whether there is a bucket.
func (c *StorageConfig) isUsed() bool { return c.Endpoint != "" }

// open makes the client.
func (c *StorageConfig) open() (*s3.Objects, error) {
	return s3.Open(s3.Config{
		Endpoint: c.Endpoint, Bucket: c.Bucket, Region: c.Region, PathStyle: c.PathStyle,
		Credentials: c.CredentialsFile, CA: c.CAFile, Timeout: c.Timeout,
	})
}

// prefixOf is what the keys of a repository begin with; of all for "".
func (c *StorageConfig) prefixOf(repo string) string {
	if prefix := path.Join(c.Prefix, repo); prefix != "" {
		return prefix + "/"
	}
	return ""
}

// OpenCopy is a client of the copy of a repository in the bucket, for whoever looks at it
// beside the hub; nil where there is no bucket.
func (c *StorageConfig) OpenCopy(repo string) (*bucket.Copy, error) {
	if !c.isUsed() {
		return nil, nil //nolint:nilnil // there is none
	}
	objects, err := c.open()
	if err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	return bucket.New(objects, c.prefixOf(repo), repository.CopyHeaders), nil
}

// copyOf is the copy of a repository; nil where there is no bucket.
func (s *server) copyOf(repo string) *bucket.Copy {
	if s.storage == nil {
		return nil
	}
	c := bucket.New(s.storage, s.cfg.Storage.prefixOf(repo), repository.CopyHeaders)
	c.Waits = func(cause error) {
		if s.queues[repo].hold(waitsForStorage, cause) {
			s.log.Warn("a publish is decided and waits for the bucket", slog.String("repo", repo), slog.Any("error", cause))
		}
	}
	return c
}

// storageAway reports whether err comes from an object store that cannot be written
// to now, for a reason that is not that of who wanted to.
func storageAway(err error) bool {
	if errors.Is(err, bucket.ErrAway) || errors.Is(err, bucket.ErrOvertaken) {
		return true
	}
	e, ok := errors.AsType[*bucket.Error](err)
	return ok && e.Reason == bucket.Denied
}
