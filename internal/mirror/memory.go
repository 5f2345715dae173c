package mirror

import (
	"os"
	"runtime"
	"runtime/debug"
	gauges "runtime/metrics"

	"freshet/api/mirrorapi"
)

// Garbage is collected when there is leastGarbage of it, or half as much as of what is kept
// if that is more: the list of a large project is most of what is kept while it is synced, and
// hardly anything else makes garbage. Of little that is kept, half would be collected hundreds
// of times in a sync.
const (
	leastGarbage = 12 << 20 // bytes
	mostGarbage  = 50       // percent of what is kept
	// leastKept is taken for what is kept if that is less, or not known yet: of 4 MiB, which
	// the runtime reckons with at least, a higher percentage would be more garbage.
	leastKept = 4 << 20 // bytes
)

// paceCollections paces the collections of the process from now on. The variable GOGC of the
// environment decides if it is there.
func paceCollections() {
	if os.Getenv("GOGC") == "" {
		paceNext()
	}
}

// paceNext says when garbage is to be collected next, and does so again behind that.
func paceNext() {
	kept := []gauges.Sample{{Name: "/gc/heap/live:bytes"}}
	gauges.Read(kept)
	debug.SetGCPercent(garbagePercent(kept[0].Value.Uint64()))
	mark := new([16]byte) // nobody has it: the next collection finds it
	runtime.AddCleanup(mark, func(struct{}) { paceNext() }, struct{}{})
}

// garbagePercent is how much garbage there may be, in percent of the bytes that are kept.
func garbagePercent(kept uint64) int {
	return int(max(mostGarbage, leastGarbage*100/max(kept, leastKept)))
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
