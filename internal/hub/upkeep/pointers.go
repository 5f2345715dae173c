package upkeep

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"freshet/internal/ostree"
	"freshet/internal/pause"
)

const (
	// looks is how often files that are switched together are looked at before
	// what disagrees counts as a problem, and lookPause is the time between.
	looks     = 3
	lookPause = 200 * time.Millisecond
)

// checkPointers checks that summaries say what the refs say, and are signed.
// A publish switches these files one after the other: only what is wrong when
// they have come to rest is a problem.
func (c *checker) checkPointers(ctx context.Context) error {
	var last []Problem
	for range looks {
		heads, err := c.repo.ListRefs()
		if err != nil && !errors.Is(err, ostree.ErrMalformed) {
			return err
		}
		if err != nil {
			return nil //nolint:nilerr // told by checkRefs
		}
		problems := slices.Concat(c.checkSummary(heads), c.checkIndex(heads))
		if len(problems) == 0 {
			return nil
		}
		if reflect.DeepEqual(problems, last) {
			break
		}
		last = problems
		if !pause.For(ctx, lookPause) {
			return context.Cause(ctx)
		}
	}
	for _, p := range last {
		c.found(p)
	}
	return nil
}

// checkSummary checks the summary for old clients.
func (c *checker) checkSummary(heads map[string]ostree.Checksum) []Problem {
	data, err := readFile(c.dir.Root, "summary")
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it has none
	}
	if err != nil {
		return []Problem{{Kind: KindSummary, Path: "summary", Error: err.Error()}}
	}
	problems := c.checkFileSignature("summary", "summary.sig", data)
	summary, err := ostree.ParseSummary(data)
	if err != nil {
		return append(problems, Problem{Kind: KindSummary, Path: "summary", Error: err.Error()})
	}
	listed := map[string]ostree.Checksum{}
	for _, ref := range summary.Refs {
		listed[ref.Ref] = ref.Commit
	}
	arches := c.repo.Config().List("flatpak", "summary-arches")
	return append(problems, compareRefs("summary", heads, listed, func(ref string) bool {
		elements := strings.Split(ref, "/")
		return len(arches) > 0 && len(elements) > 2 && !slices.Contains(arches, elements[len(elements)-2])
	})...)
}

// checkIndex checks the summary index and what it leads to.
func (c *checker) checkIndex(heads map[string]ostree.Checksum) []Problem {
	const file = "summary.idx"
	data, err := readFile(c.dir.Root, file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return []Problem{{Kind: KindSummary, Path: file, Error: err.Error()}}
	}
	problems := c.checkFileSignature(file, ostree.SummaryIndexSignaturePath(ostree.ChecksumOf(data)), data)
	index, err := ostree.ParseSummaryIndex(data)
	if err != nil {
		return append(problems, Problem{Kind: KindSummary, Path: file, Error: err.Error()})
	}
	listed := map[string]ostree.Checksum{}
	for _, sub := range index.Subsummaries {
		refs, err := c.subsummary(sub.Checksum)
		if err != nil {
			problems = append(problems, Problem{Kind: KindSummary, Path: ostree.SubsummaryPath(sub.Checksum), Error: err.Error()})
			continue
		}
		for _, ref := range refs {
			if known, ok := listed[ref.Ref]; ok && known != ref.Commit {
				problems = append(problems, Problem{
					Kind: KindSummary, Path: ostree.SubsummaryPath(sub.Checksum), Ref: ref.Ref,
					Error: fmt.Sprintf("subsummary %q has commit %s, another one %s", sub.Name, ref.Commit, known),
				})
			}
			listed[ref.Ref] = ref.Commit
		}
	}
	problems = append(problems, c.checkOldSubsummaries(index)...)
	if len(problems) > 0 {
		return problems // what is not listed may be in what is damaged
	}
	return compareRefs(file, heads, listed, func(string) bool { return false })
}

// checkOldSubsummaries checks what the subsummaries were before, as far as it is
// still there for clients that have the index of then.
func (c *checker) checkOldSubsummaries(index *ostree.SummaryIndex) []Problem {
	var problems []Problem
	for _, sub := range index.Subsummaries {
		for _, old := range sub.History {
			if _, err := c.subsummary(old); err != nil && !errors.Is(err, fs.ErrNotExist) {
				problems = append(problems, Problem{Kind: KindSummary, Path: ostree.SubsummaryPath(old), Error: err.Error()})
			}
		}
	}
	return problems
}

// subsummary reads the subsummary with a digest.
func (c *checker) subsummary(digest ostree.Checksum) ([]ostree.SummaryRef, error) {
	packed, err := readFile(c.dir.Root, ostree.SubsummaryPath(digest))
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	data, err := readBounded(z)
	if err = errors.Join(err, z.Close()); err != nil {
		return nil, err
	}
	if actual := ostree.ChecksumOf(data); actual != digest {
		return nil, fmt.Errorf("its content has checksum %s", actual)
	}
	summary, err := ostree.ParseSummary(data)
	if err != nil {
		return nil, err
	}
	return summary.Refs, nil
}

// compareRefs tells where a summary and the refs disagree. A ref that may be left
// out need not be in the summary.
func compareRefs(file string, heads, listed map[string]ostree.Checksum, mayMiss func(ref string) bool) []Problem {
	var problems []Problem
	add := func(ref, format string, args ...any) {
		problems = append(problems, Problem{Kind: KindSummary, Path: file, Ref: ref, Error: fmt.Sprintf(format, args...)})
	}
	for _, ref := range slices.Sorted(maps.Keys(heads)) {
		switch commit, ok := listed[ref]; {
		case !ok && !mayMiss(ref):
			add(ref, "the ref is not listed")
		case ok && commit != heads[ref]:
			add(ref, "it lists commit %s, the ref has %s", commit, heads[ref])
		}
	}
	for _, ref := range slices.Sorted(maps.Keys(listed)) {
		if _, ok := heads[ref]; !ok {
			add(ref, "it lists a ref that is not there")
		}
	}
	return problems
}

// checkFileSignature checks that a file is signed, if the keys are known.
func (c *checker) checkFileSignature(file, signature string, data []byte) []Problem {
	if c.keys == nil {
		return nil
	}
	detached, err := readFile(c.dir.Root, signature)
	if err == nil {
		err = c.signed(data, detached)
	}
	if err == nil {
		return nil
	}
	p := Problem{Kind: KindSignature, Path: signature, Error: err.Error()}
	if errors.Is(err, fs.ErrNotExist) {
		p.Error = file + " is not signed"
	}
	return []Problem{p}
}
