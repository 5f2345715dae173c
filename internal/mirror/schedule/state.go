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
	// Hold says that nothing of it is synced.
	Hold *mirrorapi.Hold `json:"hold,omitempty"`
	// Triggers are when the newest trigger of each key was made that was acted on.
	Triggers map[string]time.Time `json:"triggers,omitempty"`
	// Settings are those that the project had last.
	Settings string `json:"settings,omitempty"`
}

// File keeps a [State] in a file, as JSON. It is not for concurrent use.
type File struct {
	Dir  durable.Dir
	Name string
}

// ErrDamaged says that what was saved cannot be read, and was put aside.
var ErrDamaged = errors.New("it is damaged, and was put aside: every project is looked at once")

// Load returns what was saved last, the zero value if nothing was. A file that is
// damaged, or cannot be read, is renamed, to NAME.damaged, and the error is [ErrDamaged].
func (f File) Load() (State, error) {
	data, err := fs.ReadFile(f.Dir.Root.FS(), f.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, nil
	}
	var state State
	if err == nil { // or the disk does not give it
		err = json.Unmarshal(data, &state)
	}
	if err != nil {
		// A rename needs no room on the disk. If it fails, the next save replaces the file.
		_ = f.Dir.Rename(f.Name, f.Name+".damaged")
		return State{}, fmt.Errorf("schedule file %s: %w (%w)", f.Name, ErrDamaged, err)
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
