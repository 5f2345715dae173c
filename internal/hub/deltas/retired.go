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
// It remembers for longer which were removed: caches have their files, and what is
// made anew may have others under the same names.
//
// The file is JSON, {"version": 1, "retired": {"<from>-<to>": <seconds since 1970>},
// "removed": {…}}, with the names of deltas in hexadecimal. A file that is lost or
// damaged begins anew: then files stay longer, never shorter.
type Retired struct {
	Dir  durable.Dir
	Name string // of the file in Dir
}

type retiredFile struct {
	Version int              `json:"version"`
	Retired map[string]int64 `json:"retired"`
	Removed map[string]int64 `json:"removed,omitempty"`
}

// Burnt is how long after its removal a delta is not made again: as long as caches
// keep its files, and a day.
const Burnt = 31 * 24 * time.Hour

// Update notes what is stored but not listed at now, forgets what is listed
// again or gone, and returns what has been retired for longer than grace; that counts
// as removed from now on.
func (r Retired) Update(stored []ostree.DeltaName, listed func(ostree.DeltaName) bool, now time.Time, grace time.Duration) ([]ostree.DeltaName, error) {
	file, err := r.load()
	if err != nil {
		return nil, err
	}
	before, after := file.Retired, map[string]int64{}
	removed := maps.Clone(file.Removed)
	maps.DeleteFunc(removed, func(_ string, since int64) bool { return !burnt(since, now) })
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
			if removed == nil {
				removed = map[string]int64{}
			}
			removed[name.Hex()] = now.Unix()
		}
	}
	if maps.Equal(before, after) && maps.Equal(removed, file.Removed) {
		return over, nil
	}
	data, err := json.Marshal(retiredFile{1, after, removed})
	if err == nil {
		err = r.Dir.WriteFile(r.Name, data, 0o644)
	}
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", r.Name, err)
	}
	return over, nil
}

// burnt tells whether what was removed at a time must not be made again.
func burnt(since int64, now time.Time) bool {
	return now.Sub(time.Unix(since, 0)) < Burnt
}

// Removed are the deltas that must not be made again at now, because they were
// removed not long ago.
func (r Retired) Removed(now time.Time) (map[ostree.DeltaName]bool, error) {
	file, err := r.load()
	if err != nil {
		return nil, err
	}
	all := map[ostree.DeltaName]bool{}
	for hex, since := range file.Removed {
		if name, err := ostree.ParseDeltaHex(hex); err == nil && burnt(since, now) {
			all[name] = true
		}
	}
	return all, nil
}

func (r Retired) load() (retiredFile, error) {
	none := retiredFile{Retired: map[string]int64{}}
	data, err := r.Dir.Root.ReadFile(r.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return none, nil
	}
	if err != nil {
		return none, fmt.Errorf("read %s: %w", r.Name, err)
	}
	var file retiredFile
	if json.Unmarshal(data, &file) != nil || file.Version != 1 || file.Retired == nil {
		return none, nil //nolint:nilerr // documented: it begins anew
	}
	return file, nil
}
