package deltas

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"time"

	"freshet/internal/durable"
	"freshet/internal/ostree"
)

// Retired remembers in a file since when deltas are no longer listed, so that
// their files can be removed when no client uses them any more.
//
// The file is JSON, {"version": 1, "retired": {"<from>-<to>": <seconds since 1970>}},
// with the names of deltas in hexadecimal. A file that is lost or damaged begins
// anew: then files stay longer, never shorter.
type Retired struct {
	Dir  durable.Dir
	Name string // of the file in Dir
}

type retiredFile struct {
	Version int              `json:"version"`
	Retired map[string]int64 `json:"retired"`
}

// Update notes what is stored but not listed at now, forgets what is listed
// again or gone, and returns what has been retired for longer than grace.
func (r Retired) Update(stored []ostree.DeltaName, listed func(ostree.DeltaName) bool, now time.Time, grace time.Duration) ([]ostree.DeltaName, error) {
	before, err := r.load()
	if err != nil {
		return nil, err
	}
	after := map[string]int64{}
	var over []ostree.DeltaName
	for _, name := range stored {
		if listed(name) {
			continue
		}
		since, ok := before[name.Hex()]
		if !ok || since > now.Unix() {
			since = now.Unix()
		}
		after[name.Hex()] = since
		if now.Sub(time.Unix(since, 0)) >= grace {
			over = append(over, name)
		}
	}
	if maps.Equal(before, after) {
		return over, nil
	}
	data, err := json.Marshal(retiredFile{1, after})
	if err == nil {
		err = r.Dir.WriteFile(r.Name, data, 0o644)
	}
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", r.Name, err)
	}
	return over, nil
}

func (r Retired) load() (map[string]int64, error) {
	data, err := r.Dir.Root.ReadFile(r.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]int64{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", r.Name, err)
	}
	var file retiredFile
	if json.Unmarshal(data, &file) != nil || file.Version != 1 || file.Retired == nil {
		return map[string]int64{}, nil //nolint:nilerr // documented: it begins anew
	}
	return file.Retired, nil
}
