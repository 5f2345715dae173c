package repository

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"freshet/internal/flatpak"
	"freshet/internal/layout"
	"freshet/internal/ostree"
)

// ErrMoved says that a ref does not have the commit that it was expected to have.
var ErrMoved = errors.New("it has moved meanwhile")

// expected tells whether a ref has the commit that the request wants it to have.
func (req *PublishRequest) expected(ref string, has ostree.Checksum) error {
	want, ok := req.Expect[ref]
	switch {
	case !ok, want == "" && has.IsZero(), want == has.String():
		return nil
	case has.IsZero():
		return fmt.Errorf("%s: %w: it is gone, not at %s", ref, ErrMoved, short(want))
	}
	return fmt.Errorf("%s: %w: it is at %s, not at %s", ref, ErrMoved, short(has.String()), short(want))
}

// checkOld tells whether a commit of the repository was published as a ref: what is
// published is bound to its ref, and a client would refuse it as another one.
func (req *PublishRequest) checkOld(ref string, commit *ostree.Commit) error {
	if req.Build != nil {
		return nil
	}
	if bound, _ := commit.Metadata.Strings("ostree.ref-binding"); !slices.Contains(bound, ref) {
		return fmt.Errorf("%s: %w: the commit was published as %q", ref, flatpak.ErrRef, bound)
	}
	return nil
}

// ErrNotPublished says that a ref that is to be removed is not in the repository.
var ErrNotPublished = errors.New("it is not published")

// amount says what a request is about, for the log.
func (req *PublishRequest) amount() string {
	switch {
	case len(req.Remove) == 0:
		return count(len(req.Refs), "ref")
	case len(req.Refs) == 0:
		return count(len(req.Remove), "ref") + " to remove"
	}
	return count(len(req.Refs), "ref") + ", " + fmt.Sprint(len(req.Remove)) + " to remove"
}

// planRemovals finds the commits of the refs that a request removes. The disk
// decides, as for those that it publishes.
func (p *publication) planRemovals(req *PublishRequest) (map[string]ostree.Checksum, error) {
	taken := make(map[string]ostree.Checksum, len(req.Remove))
	for _, ref := range req.Remove {
		parsed, err := parseRef(ref)
		if err != nil {
			return nil, err
		}
		if _, ok := req.Refs[ref]; ok || parsed.Kind == flatpak.Screenshots {
			return nil, fmt.Errorf("%w: %q cannot be removed", flatpak.ErrRef, ref)
		}
		sum, err := p.r.objects.ResolveRef(ref)
		if errors.Is(err, fs.ErrNotExist) {
			known, ok := p.r.index.Get(ref)
			if !ok {
				return nil, fmt.Errorf("%s: %w", ref, ErrNotPublished)
			}
			sum, err = known.Checksum, nil
		}
		if err != nil {
			return nil, err
		}
		if err := req.expected(ref, sum); err != nil {
			return nil, err
		}
		taken[ref] = sum
	}
	return taken, nil
}

// stageRemovals takes refs out of the repository and of the index.
func (p *publication) stageRemovals() error {
	if len(p.taken) == 0 {
		return nil
	}
	collections, err := p.r.objects.ListMirrors()
	if err != nil {
		return err
	}
	refs := sortedKeys(p.taken)
	for _, ref := range refs {
		p.replaces(ref, p.taken[ref])
		p.log.printf("  %s: %s → removed", ref, short(p.taken[ref].String()))
		if err := p.remove(ostree.RefPath(ref)); err != nil {
			return err
		}
		for _, collection := range collections {
			mirror := ostree.MirrorRefPath(collection, ref)
			if _, err := p.r.root.Lstat(mirror); err != nil {
				continue // it is not there
			}
			if err := p.remove(mirror); err != nil {
				return err
			}
		}
	}
	for _, ref := range refs {
		if info, ok := p.r.index.Get(ref); ok {
			p.former[ref] = info.Timestamp
		}
	}
	p.update(nil, refs)
	p.result.Removed = append(p.result.Removed, refs...)
	return nil
}

// takenFiles are the .flatpakref files that may have lost their ref.
func (p *publication) takenFiles() map[string]bool {
	files := map[string]bool{}
	for ref := range p.taken {
		parsed, err := parseRef(ref)
		if err != nil {
			continue
		}
		if file, _, err := p.r.opt.refFile(parsed); err == nil && file != "" {
			files[file] = true
		}
	}
	return files
}

// formerFile has a line for each ref that was removed, and not published again:
// the time of its last commit and its name. Clients that still have that commit
// refuse one that is not younger.
const formerFile = ".former"

// readFormer reads what stageFormer wrote.
func readFormer(root *os.Root) (map[string]uint64, error) {
	former := map[string]uint64{}
	data, err := root.ReadFile(formerFile)
	if errors.Is(err, fs.ErrNotExist) {
		return former, nil
	}
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		seconds, ref, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		timestamp, err := strconv.ParseUint(seconds, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: line %q: %w", formerFile, line, err)
		}
		former[ref] = timestamp
	}
	return former, nil
}

// stageFormer writes down the times of the refs that are gone, and forgets those
// of the refs that are back.
func (p *publication) stageFormer(changed []*planned) error {
	write := len(p.taken) > 0
	for _, c := range changed {
		if _, ok := p.former[c.made.ref]; ok {
			delete(p.former, c.made.ref)
			write = true
		}
	}
	if !write {
		return nil
	}
	var lines []byte
	for _, ref := range sortedKeys(p.former) {
		lines = fmt.Appendf(lines, "%d %s\n", p.former[ref], ref)
	}
	return p.tx.PutBytes(layout.Index, formerFile, lines)
}

// replaces notes what a ref pointed at.
func (p *publication) replaces(ref string, before ostree.Checksum) {
	if p.result.Before == nil {
		p.result.Before = map[string]string{}
	}
	p.result.Before[ref] = ""
	if !before.IsZero() {
		p.result.Before[ref] = before.String()
	}
}
