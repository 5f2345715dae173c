package flatpak

import "flag"

// update rewrites the golden files: go test ./internal/flatpak -update.
var update = flag.Bool("update", false, "rewrite the golden files")
