// Command edge runs what an edge must be able to do; docs/edge-acceptance.md says what
// each check is.
package main

import (
	"flag"
	"os"

	"freshet/e2e/acceptance"
)

func main() {
	folder := flag.String("suite", "", "folder of the public cache test suite; empty: it is fetched")
	os.Exit(acceptance.Main(acceptance.Options{Env: full()}, func() []acceptance.Check { return checks(*folder) })) //nolint:forbidigo // this is main
}

// full are the sizes of the tests that can be run with any.
func full() []string {
	return []string{
		"FRESHET_PURGE_OBJECTS=1000000",
		"FRESHET_SCALE_OBJECTS=10000000",
		"FRESHET_SCALE_BODY=1000000000",
	}
}
