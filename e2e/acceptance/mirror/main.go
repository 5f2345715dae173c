// Command mirror runs what a mirror must be able to do; docs/mirror-acceptance.md says
// what each check is.
package main

import (
	"os"

	"freshet/e2e/acceptance"
)

func main() {
	os.Exit(acceptance.Main(acceptance.Options{Env: full()}, checks)) //nolint:forbidigo // this is main
}

// full are the sizes of the tests that can be run with any.
func full() []string {
	return []string{
		"FRESHET_ENGINE_FILES=300000",
		"FRESHET_ENGINE_KILLS=50",
		"FRESHET_GENERATION_FILES=200000",
		"FRESHET_MIRROR_KILLS=10",
		"FRESHET_RETIRED_FILES=10000",
	}
}
