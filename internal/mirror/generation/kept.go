package generation

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"

	"freshet/internal/durable"
)

// KeptManifest returns the manifest that was kept of an upstream, which the caller closes. The
// error is [fs.ErrNotExist] if there is none, and [ErrManifest] if it was damaged.
func (p *Project) KeptManifest(of string) (*Manifest, error) {
	f, err := p.dir.Root.Open(keptName(of))
	if err != nil {
		return nil, err
	}
	m, err := ReadManifest(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s of %s: %w", keptName(of), p.name, err), f.Close())
	}
	return m, nil
}

// KeepManifest keeps the manifest of an upstream in the place of the one before, which can
// still be read by who has it. It calls write with an empty file, and returns what that
// returns; after an error nothing has changed. The disk is not waited for: what is read
// later is known by its SHA-256.
func (p *Project) KeepManifest(of string, write func(*os.File) (*Manifest, error)) (*Manifest, error) {
	if err := p.dir.MkdirAll(upstreamName, 0o755); err != nil {
		return nil, err
	}
	temp := upstreamName + "/" + durable.TempName()
	f, err := p.dir.Create(temp, 0o644)
	if err != nil {
		return nil, err
	}
	m, err := write(f)
	if err == nil {
		if err = p.dir.Rename(temp, keptName(of)); err == nil {
			return m, nil
		}
	}
	return nil, errors.Join(err, f.Close(), p.dir.Remove(temp))
}

// KeepNoManifestsBut removes what was kept of other upstreams.
func (p *Project) KeepNoManifestsBut(of []string) error {
	names, err := list(p.dir, upstreamName)
	if err != nil {
		return err
	}
	for _, name := range names {
		name = upstreamName + "/" + name
		if !slices.ContainsFunc(of, func(o string) bool { return keptName(o) == name }) {
			err = errors.Join(err, p.dir.Remove(name))
		}
	}
	return err
}

// keptName is the name of the file for an upstream.
func keptName(of string) string {
	sum := sha256.Sum256([]byte(of))
	return upstreamName + "/" + hex.EncodeToString(sum[:8])
}
