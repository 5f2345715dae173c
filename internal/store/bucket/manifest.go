package bucket

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"freshet/internal/durable"
)

const (
	reserved     = ".freshet/"
	manifestKey  = reserved + "manifest"
	changePrefix = reserved + "changes/"

	manifestVersion = 1
	// maxManifest bounds the manifest: some hundred bytes, and a line for each change
	// that nobody has confirmed.
	maxManifest = 1 << 20
)

// Manifest is the object that decides.
type Manifest struct {
	// Version is that of the format.
	Version int `json:"version"`
	// ID names the copy: other directories than those that belong to it are refused.
	ID string `json:"id"`
	// Fence is the number of the leadership that wrote it.
	Fence int64 `json:"fence"`
	// Writer is new in each manifest, so that no two are the same.
	Writer string `json:"writer"`
	// Serial is the number of the last change, 0 before the first.
	Serial int64 `json:"serial"`
	// Sweep names the last removal of files beside the changes, see [Copy.Sweep]; "" before
	// the first.
	Sweep string `json:"sweep,omitempty"`
	// Changes are the last change, and those that nobody has confirmed, oldest first.
	Changes []ChangeRef `json:"changes,omitempty"`
}

// ChangeRef is where the record of a change is.
type ChangeRef struct {
	Serial int64  `json:"serial"`
	Key    string `json:"key"`
}

// parseManifest reads a manifest that anybody may have written.
func parseManifest(data []byte) (*Manifest, error) {
	m := new(Manifest)
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("manifest: %w: %w", ErrMalformed, err)
	}
	if m.Version != manifestVersion {
		return nil, fmt.Errorf("manifest: version %d is not known to this program", m.Version)
	}
	if m.ID == "" || m.Fence < 0 || m.Serial < 0 {
		return nil, fmt.Errorf("manifest: %w: it names no copy", ErrMalformed)
	}
	before := int64(0)
	for _, c := range m.Changes {
		if c.Serial <= before || c.Serial > m.Serial || !isChangeKey(c.Key) {
			return nil, fmt.Errorf("manifest: %w: change %d", ErrMalformed, c.Serial)
		}
		before = c.Serial
	}
	return m, nil
}

func isChangeKey(key string) bool {
	name, found := strings.CutPrefix(key, changePrefix)
	return found && name != "" && !strings.ContainsAny(name, "/\x00")
}

// NewID returns a name that nothing else has.
func NewID() string { return strings.TrimPrefix(durable.TempName(), durable.TempPrefix) }

// read returns the manifest, nil when there is none.
func (c *Copy) read(ctx context.Context) (*Manifest, Version, error) {
	body, about, err := c.objects.Open(ctx, c.prefix+manifestKey)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, None, nil
	}
	if err != nil {
		return nil, None, err
	}
	data, err := io.ReadAll(io.LimitReader(body, maxManifest+1))
	if err = errors.Join(err, body.Close()); err != nil {
		return nil, None, err
	}
	if len(data) > maxManifest {
		return nil, None, fmt.Errorf("manifest: %w: it is longer than %d bytes", ErrMalformed, maxManifest)
	}
	m, err := parseManifest(data)
	return m, about.Version, err
}

// write makes m the manifest in the place of the one that this process knows. The
// caller holds mu.
func (c *Copy) write(ctx context.Context, m Manifest) error {
	m.Version, m.Writer = manifestVersion, NewID()
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	body := bytes.NewReader(append(data, '\n'))
	version, err := c.objects.Replace(ctx, c.prefix+manifestKey, io.NewSectionReader(body, 0, body.Size()), c.version, manifestHeaders)
	switch {
	case errors.Is(err, ErrConflict):
		c.lost = true
		return fmt.Errorf("%w: %w", ErrOvertaken, err)
	case err != nil:
		return err
	}
	c.manifest, c.version = &m, version
	return nil
}

var manifestHeaders = Headers{ContentType: "application/json", CacheControl: "no-store"} //nolint:gochecknoglobals // a constant
