package flatpak

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/klauspost/compress/gzip"

	"freshet/internal/ostree"
)

// maxSummary bounds a summary that is read; the largest ones known have 10 MiB.
const maxSummary = 128 << 20

// LoadHistory reads which summaries the repository has published, from its
// summary.idx and the subsummaries that names, so that the next Build continues
// their history and makes deltas from them. It replaces what Commit left. A
// repository without a summary.idx is an empty history; subsummaries that are
// missing or damaged are left out of it, and Build writes the current ones
// again. The delta indexes of the deltas that were set before are taken to be
// written; SetDeltas afterwards for those that are not.
func (x *Index) LoadHistory(repository fs.FS) error {
	state := published{subsummaries: map[string]lineage{}, live: map[string]bool{}}
	defer func() {
		x.subsummaries, x.digest, x.live = state.subsummaries, state.digest, state.live
		x.modified, x.serial = state.modified, state.serial
		x.touched = nil
	}()
	listed, err := fs.ReadDir(repository, "summaries")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list summaries: %w", err)
	}
	for _, file := range listed {
		if file.Type().IsRegular() && isSummaryFile(file.Name()) {
			state.live["summaries/"+file.Name()] = true
		}
	}
	data, err := readBounded(repository, "summary.idx", maxSummary)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read summary.idx: %w", err)
	}
	index, err := ostree.ParseSummaryIndex(data)
	if err != nil {
		return fmt.Errorf("summary.idx: %w", err)
	}
	state.digest = ostree.ChecksumOf(data)
	if modified, _ := index.Metadata.Get(keyLastModified); modified.Is("t") {
		state.modified = modified.Uint64BE()
	}
	if serial, _ := index.Metadata.Get(KeySerial); serial.Is("t") {
		state.serial = serial.Uint64BE()
	}
	for _, subsummary := range index.Subsummaries {
		line := lineage{current: loadView(repository, subsummary.Checksum, nil)}
		known := line.current
		for _, digest := range subsummary.History {
			if old := loadView(repository, digest, known); old != nil {
				line.history = append(line.history, old)
				known = old
			}
		}
		if line.current == nil {
			delete(state.live, ostree.SubsummaryPath(subsummary.Checksum))
		}
		state.subsummaries[subsummary.Name] = line
	}
	return nil
}

// isSummaryFile tells whether a name is of a kind that Build writes; others are
// left alone.
func isSummaryFile(name string) bool {
	for _, suffix := range []string{".gz", ".delta", ".idx.sig"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

// loadView reads a subsummary; one that is not there, or not what its name says,
// gives nil.
func loadView(repository fs.FS, digest ostree.Checksum, known *view) *view {
	file, err := repository.Open(ostree.SubsummaryPath(digest))
	if err != nil {
		return nil
	}
	defer file.Close() //nolint:errcheck // nothing was written
	zr, err := gzip.NewReader(file)
	if err != nil {
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(zr, maxSummary))
	if err != nil || ostree.ChecksumOf(data) != digest {
		return nil
	}
	v, err := parseView(data, known)
	if err != nil {
		return nil
	}
	return v
}

// readBounded reads a file that must not be longer than limit.
func readBounded(fsys fs.FS, name string, limit int64) ([]byte, error) {
	file, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // nothing was written
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("more than %d bytes", limit)
	}
	return data, err
}
