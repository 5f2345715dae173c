package mirror

import (
	"os"
	"runtime/debug"

	"freshet/api/mirrorapi"
)

// collectSooner lets garbage be collected when there is half as much of it as of what is
// kept, and not as much: the list of a large project is most of what is kept while it is
// synced, and hardly anything else makes garbage. The variable GOGC of the environment
// decides if it is there.
func collectSooner() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
}

// manyFiles is the size of a project whose sync leaves much memory behind.
const manyFiles = 50_000

// giveBack lets the system have at once what the sync of a large project took. The next
// one may be a day away, and there may be another project, as large, before that.
func giveBack(report mirrorapi.Report) {
	if report.Files >= manyFiles && len(report.Steps) > 1 { // more than the probe
		debug.FreeOSMemory()
	}
}
