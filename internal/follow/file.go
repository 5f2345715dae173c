package follow

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"freshet/api/hubapi"
)

// stored is the content of the file of a cursor. The hub is part of it: the cursor of
// another one means nothing.
type stored struct {
	Hub string `json:"hub"`
	hubapi.Cursor
}

// Encode is the content of a file that keeps the cursor of a hub.
func Encode(hub string, c hubapi.Cursor) ([]byte, error) {
	text, err := json.Marshal(stored{hub, c})
	return append(text, '\n'), err
}

// Decode reads what [Encode] made; failed is the error of the reading of the file, one
// that is not there being no error. The cursor is the zero one if there is none, or it is
// that of another hub.
func Decode(text []byte, failed error, hub string) (hubapi.Cursor, error) {
	if errors.Is(failed, fs.ErrNotExist) {
		return hubapi.Cursor{}, nil
	}
	var s stored
	if failed == nil {
		failed = json.Unmarshal(text, &s)
	}
	if failed != nil {
		return hubapi.Cursor{}, fmt.Errorf("read cursor: %w", failed)
	}
	if s.Hub != hub || s.Serial < 0 {
		return hubapi.Cursor{}, nil
	}
	return s.Cursor, nil
}
