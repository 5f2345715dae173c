package inspect

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"freshet/internal/flatpak"
	"freshet/internal/gvariant"
	"freshet/internal/ostree"
)

// ErrNoSubset says that a repository has no subset of a name.
var ErrNoSubset = errors.New("no such subset")

// RepoFile returns what clients need to add the repository, or one subset of it. It
// is the file NAME.flatpakrepo beside its summary, which a hub makes, or else what
// the summary says, in which neither URL nor, as a rule, keys stand.
func (r *Repository) RepoFile(name, subset string) (flatpak.RepoFile, error) {
	data, err := readBounded(r.files, name+".flatpakrepo")
	var file flatpak.RepoFile
	switch {
	case err == nil:
		if file, err = flatpak.ParseRepoFile(data); err != nil {
			return flatpak.RepoFile{}, fmt.Errorf("%s.flatpakrepo: %w", name, err)
		}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrInvalid):
	default:
		return flatpak.RepoFile{}, err
	}
	known, subsets, err := r.summaryInfo()
	if err != nil && (file.URL == "" || subset != "") {
		return flatpak.RepoFile{}, err
	}
	if subset != "" && !slices.Contains(subsets, subset) {
		return flatpak.RepoFile{}, fmt.Errorf("%w: %q; the repository has %s", ErrNoSubset, subset, orNone(subsets))
	}
	if file.URL == "" {
		file = known
	}
	file.Subset = subset
	return file, nil
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// summaryInfo reads what the summary says of the repository, and the names of its
// subsets.
func (r *Repository) summaryInfo() (flatpak.RepoFile, []string, error) {
	var (
		subsets  []string
		metadata gvariant.Dict
	)
	data, err := readBounded(r.files, "summary.idx")
	if err == nil {
		index, err := ostree.ParseSummaryIndex(data)
		if err != nil {
			return flatpak.RepoFile{}, nil, fmt.Errorf("summary.idx: %w", err)
		}
		metadata = index.Metadata
		for _, entry := range index.Subsummaries {
			if subset, _, ofSubset := strings.Cut(entry.Name, "-"); ofSubset && !slices.Contains(subsets, subset) {
				subsets = append(subsets, subset)
			}
		}
		return describeRepo(&metadata), subsets, nil
	}
	if data, err = readBounded(r.files, "summary"); err != nil {
		return flatpak.RepoFile{}, nil, fmt.Errorf("the repository has no summary: %w", err)
	}
	summary, err := ostree.ParseSummary(data)
	if err != nil {
		return flatpak.RepoFile{}, nil, fmt.Errorf("summary: %w", err)
	}
	return describeRepo(&summary.Metadata), nil, nil
}

func describeRepo(d *gvariant.Dict) flatpak.RepoFile {
	str := func(key string) string {
		value, _ := d.Str(key)
		return value
	}
	file := flatpak.RepoFile{
		Title: str("xa.title"), Comment: str("xa.comment"), Description: str("xa.description"), Homepage: str("xa.homepage"), Icon: str("xa.icon"),
		DefaultBranch: str("xa.default-branch"), CollectionID: str("ostree.deploy-collection-id"), AuthenticatorName: str("xa.authenticator-name"),
	}
	if keys, ok := d.Get("xa.gpg-keys"); ok && keys.Is("ay") {
		file.GPGKey = keys.Bytes()
	}
	return file
}
