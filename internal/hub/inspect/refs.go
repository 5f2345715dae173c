package inspect

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"

	"freshet/internal/flatpak"
	"freshet/internal/gvariant"
	"freshet/internal/ostree"
)

// Ref is a ref with the version that it points at.
type Ref struct {
	Ref string `json:"ref"`
	Version
}

// maxSummary bounds a summary; the largest ones known have 10 MiB.
const maxSummary = 128 << 20

// Refs returns the refs, by name. From summaries, subjects and parents are not
// known.
func (r *Repository) Refs() ([]Ref, error) {
	if !r.listed {
		return r.summaryRefs()
	}
	heads, err := r.objects.ListRefs()
	if err != nil {
		return nil, err
	}
	refs := make([]Ref, 0, len(heads))
	for _, name := range slices.Sorted(maps.Keys(heads)) {
		_, _, v, err := r.describe(name, heads[name])
		if err != nil {
			return nil, err
		}
		refs = append(refs, Ref{name, v})
	}
	return refs, nil
}

// heads returns the commit of each ref.
func (r *Repository) heads() (map[string]ostree.Checksum, error) {
	if r.listed {
		return r.objects.ListRefs()
	}
	refs, err := r.summaryRefs()
	if err != nil {
		return nil, err
	}
	heads := make(map[string]ostree.Checksum, len(refs))
	for _, ref := range refs {
		c, err := ostree.ParseChecksum(ref.Commit)
		if err != nil {
			return nil, err
		}
		heads[ref.Ref] = c
	}
	return heads, nil
}

// summaryRefs reads the refs of the subsummaries, or of the one summary that a
// repository has which is not of Flatpak, or is older.
func (r *Repository) summaryRefs() ([]Ref, error) {
	refs := map[string]*Ref{}
	data, err := readBounded(r.files, "summary.idx")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = r.oneSummary(refs)
	case err == nil:
		err = r.subsummaries(data, refs)
	}
	if err != nil {
		return nil, err
	}
	list := make([]Ref, 0, len(refs))
	for _, name := range slices.Sorted(maps.Keys(refs)) {
		list = append(list, *refs[name])
	}
	return list, nil
}

func (r *Repository) oneSummary(refs map[string]*Ref) error {
	data, err := readBounded(r.files, "summary")
	if err != nil {
		return fmt.Errorf("the repository has no summary: %w", err)
	}
	summary, err := ostree.ParseSummary(data)
	if err != nil {
		return fmt.Errorf("summary: %w", err)
	}
	sizes, _ := summary.Metadata.Get("xa.cache")
	sparse, _ := summary.Metadata.Get("xa.sparse-cache")
	for i := range summary.Refs {
		entry := &summary.Refs[i]
		size, _ := sizes.Lookup(entry.Ref)
		rest, _ := sparse.Lookup(entry.Ref)
		info := entryInfo(entry, "ostree.commit.timestamp", size)
		if dict, err := gvariant.DictOf(rest); err == nil {
			addSparse(&info, &dict)
		}
		refs[entry.Ref] = &Ref{entry.Ref, version(&info)}
	}
	return nil
}

// subsummaries reads what summary.idx lists; of a subset only which refs are in it.
func (r *Repository) subsummaries(data []byte, refs map[string]*Ref) error {
	index, err := ostree.ParseSummaryIndex(data)
	if err != nil {
		return fmt.Errorf("summary.idx: %w", err)
	}
	for _, entry := range index.Subsummaries { // sorted, so that "x86_64" may come after "floss-x86_64"
		summary, err := r.subsummary(entry.Checksum)
		if err != nil {
			return err
		}
		subset, _, ofSubset := strings.Cut(entry.Name, "-")
		for i := range summary.Refs {
			one := &summary.Refs[i]
			size, flatpakRef := one.Metadata.Get("xa.data")
			known := refs[one.Ref]
			if known == nil {
				info := entryInfo(one, "ot.ts", size)
				addSparse(&info, &one.Metadata)
				known = &Ref{one.Ref, version(&info)}
				refs[one.Ref] = known
			}
			if ofSubset && flatpakRef && !slices.Contains(known.Subsets, subset) && !strings.HasPrefix(one.Ref, "appstream") {
				known.Subsets = append(known.Subsets, subset)
			}
		}
	}
	return nil
}

func (r *Repository) subsummary(digest ostree.Checksum) (*ostree.Summary, error) {
	path := ostree.SubsummaryPath(digest)
	file, err := r.files.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // read only
	zr, err := gzip.NewReader(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	data, err := io.ReadAll(io.LimitReader(zr, maxSummary))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if ostree.ChecksumOf(data) != digest {
		return nil, fmt.Errorf("%s: its content has another checksum", path)
	}
	summary, err := ostree.ParseSummary(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return summary, nil
}

// entryInfo reads what a summary says of a ref; size is its (tts), if it has one.
func entryInfo(entry *ostree.SummaryRef, timeKey string, size gvariant.Value) flatpak.CommitInfo {
	info := flatpak.CommitInfo{Ref: entry.Ref, Checksum: entry.Commit}
	if at, _ := entry.Metadata.Get(timeKey); at.Is("t") {
		info.Timestamp = at.Uint64BE()
	}
	if size.Is("(tts)") {
		info.InstalledSize, info.DownloadSize = size.Child(0).Uint64BE(), size.Child(1).Uint64BE()
	}
	return info
}

// addSparse reads what few refs have.
func addSparse(info *flatpak.CommitInfo, d *gvariant.Dict) {
	info.EndOfLife, _ = d.Str("eol")
	info.EndOfLifeRebase, _ = d.Str("eolr")
	if v, ok := d.Get("tokt"); ok && v.Is("i") {
		info.TokenType, info.HasTokenType = int32(v.Int64()), true
	}
}

func readBounded(files fs.FS, name string) ([]byte, error) {
	file, err := files.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // read only
	data, err := io.ReadAll(io.LimitReader(file, maxSummary+1))
	if err == nil && len(data) > maxSummary {
		err = ostree.ErrTooLarge
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return data, nil
}
