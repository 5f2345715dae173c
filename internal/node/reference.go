package node

import (
	_ "embed" // the comments travel with the binary
	"encoding/json"
	"fmt"

	"freshet/internal/config"
	"freshet/internal/director"
	"freshet/internal/edge"
	"freshet/internal/hub"
	"freshet/internal/mirror"
)

// settings.json holds the comments of all Config structs. It is generated
// from their source (make generate).
//
//go:embed settings.json
var settingsJSON []byte

// Settings lists every key of the configuration file with its default and its
// documentation.
func Settings() ([]config.Setting, error) {
	var docs config.Docs
	if err := json.Unmarshal(settingsJSON, &docs); err != nil {
		return nil, fmt.Errorf("read settings.json: %w", err)
	}
	return config.Settings(Config{Hub: new(hub.Config), Edge: new(edge.Config), Mirror: new(mirror.Config), Director: new(director.Config)}, docs), nil
}
