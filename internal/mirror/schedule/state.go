package schedule

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/durable"
)

// State is what a scheduler remembers over restarts.
type State struct {
	// Seed makes the offsets of this mirror different from those of others.
	Seed     uint64            `json:"seed"`
	Projects map[string]Record `json:"projects"`
}

// Record is what is remembered of a project.
type Record struct {
	// Began is when the last sync began, Good when the last that ended well did.
	Began time.Time `json:"began,omitzero"`
	Good  time.Time `json:"good,omitzero"`
	// Failures is how many in a row did not end well, Retry when the next is tried.
	Failures int       `json:"failures,omitempty"`
	Retry    time.Time `json:"retry,omitzero"`
	// Running is the sync that runs, Pending the one that waits, from Due.
	Running *mirrorapi.Order `json:"running,omitempty"`
	Pending *mirrorapi.Order `json:"pending,omitempty"`
	Due     time.Time        `json:"due,omitzero"`
	// Triggers are when the newest trigger of each key was made that was acted on.
	Triggers map[string]time.Time `json:"triggers,omitempty"`
}

// File keeps a [State] in a file, as JSON. It is not for concurrent use.
type File struct {
	Dir  durable.Dir
	Name string
}

// Load returns what was saved last, the zero value if nothing was.
func (f File) Load() (state State, err error) {
	data, err := fs.ReadFile(f.Dir.Root.FS(), f.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return state, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &state)
	}
	if err != nil {
		return state, fmt.Errorf("schedule file %s: %w; without the file, every project is synced at once", f.Name, err)
	}
	return state, nil
}

// Save saves state; it survives a crash when Save returns.
func (f File) Save(state State) error {
	data, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		return fmt.Errorf("schedule file %s: %w", f.Name, err)
	}
	return f.Dir.WriteFile(f.Name, append(data, '\n'), 0o600)
}
