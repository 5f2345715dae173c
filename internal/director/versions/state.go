package versions

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"freshet/internal/durable"
)

const (
	stateName = "versions.json"
	maxState  = 256 << 20 // bytes
)

// state is the content of versions.json; see docs/formats/versions.md.
type state struct {
	Format       int               `json:"format"`
	Repositories []savedRepository `json:"repositories"`
}

type savedRepository struct {
	Project string `json:"project"`
	Pointer string `json:"pointer"`
	history
	WentBack map[string]time.Time `json:"went_back,omitempty"`
	// Listed are the pointers of mirrors by their listings, if these are trusted.
	Listed map[string]savedListing `json:"listed,omitempty"`
}

type savedListing struct {
	Sum   sum       `json:"sum"`
	Since time.Time `json:"since"`
	At    time.Time `json:"at"`
}

// MarshalText is the sum in hex.
func (s sum) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, s[:]), nil }

// UnmarshalText takes 64 digits.
func (s *sum) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(s)) {
		return fmt.Errorf("%.80q is no SHA-256", text)
	}
	_, err := hex.Decode(s[:], text)
	return err
}

// loadState reads what was saved, as of now; nothing if there is no file. What is not of
// this form is an error.
func loadState(dir durable.Dir, now time.Time) (map[key]savedRepository, error) {
	f, err := dir.Root.Open(stateName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	in := &io.LimitedReader{R: f, N: maxState + 1}
	var s state
	dec := json.NewDecoder(in)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	if in.N == 0 || s.Format != 1 {
		return nil, fmt.Errorf("%s: it is of another format, or longer than %d bytes", f.Name(), maxState)
	}
	all := make(map[key]savedRepository, len(s.Repositories))
	for _, r := range s.Repositories {
		if err := r.check(); err != nil {
			return nil, fmt.Errorf("%s: %s of %s: %w", f.Name(), r.Pointer, r.Project, err)
		}
		r.until(now)
		all[key{r.Project, r.Pointer}] = r
	}
	return all, nil
}

// until makes times to come, from before a clock was set right, those of now: otherwise
// what is to be waited for would take until then.
func (r *savedRepository) until(now time.Time) {
	earliest := func(at *time.Time, limit time.Time) {
		if at.After(limit) {
			*at = limit
		}
	}
	for i := range r.Versions {
		v := &r.Versions[i]
		earliest(&v.Since, now)
		earliest(&v.Until, now)
		earliest(&v.NotBefore, now.Add(hold))
	}
	earliest(&r.BackSince, now)
	for mirror, at := range r.WentBack {
		earliest(&at, now)
		r.WentBack[mirror] = at
	}
	for mirror, l := range r.Listed {
		earliest(&l.Since, now)
		earliest(&l.At, now)
		r.Listed[mirror] = l
	}
}

func (r *savedRepository) check() error {
	if len(r.Versions) > remembered {
		return fmt.Errorf("%d versions, more than %d", len(r.Versions), remembered)
	}
	seen := make(map[sum]bool)
	serial := int64(0)
	for _, v := range r.Versions {
		if v.Serial <= serial || seen[v.Sum] {
			return errors.New("versions that are out of order, or there twice")
		}
		serial, seen[v.Sum] = v.Serial, true
	}
	return nil
}

func saveState(dir durable.Dir, repositories []savedRepository) error {
	slices.SortFunc(repositories, func(a, b savedRepository) int {
		return cmp.Or(cmp.Compare(a.Project, b.Project), cmp.Compare(a.Pointer, b.Pointer))
	})
	return dir.Write(stateName, 0o644, func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(state{Format: 1, Repositories: repositories})
	})
}
