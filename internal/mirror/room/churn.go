package room

import (
	"time"

	"freshet/api/mirrorapi"
)

// guessedChurn is how much of a project is new each day as long as nothing is known of it:
// one part in so many.
const guessedChurn = 100

const day = 24 * time.Hour

// churnReports is of how many reports the churn of a project is made.
const churnReports = 300

// Churn is how much of a project is replaced in a day, by the reports of its syncs, newest
// first, and a guess of one percent of its size that counts as one day among those that
// were observed. The first sync of a project, and one after another selection of what is
// wanted, is no churn.
func Churn(reports []mirrorapi.Report, size Amount, now time.Time) (perDay Amount) {
	sum := Amount{Bytes: size.Bytes / guessedChurn, Inodes: size.Inodes / guessedChurn}
	days := 1.0
	for _, r := range reports {
		if r.Result == mirrorapi.Published && r.Previous == "" {
			// What was before it is of another mirror, or of none.
			if observed := now.Sub(r.Ended); observed > 0 {
				days = 1 + observed.Hours()/24
			}
			break
		}
		if observed := now.Sub(r.Began); observed > 0 {
			days = 1 + observed.Hours()/24
		}
		if r.Result != mirrorapi.Published {
			continue
		}
		for _, a := range r.Fetched {
			sum.Bytes += a.Bytes
			sum.Inodes += a.Files
		}
	}
	return Amount{Bytes: int64(float64(sum.Bytes) / days), Inodes: int64(float64(sum.Inodes) / days)}
}

// over is what comes together in some time.
func (a Amount) over(d time.Duration) Amount {
	days := d.Hours() / 24
	return Amount{Bytes: int64(float64(a.Bytes) * days), Inodes: int64(float64(a.Inodes) * days)}
}
