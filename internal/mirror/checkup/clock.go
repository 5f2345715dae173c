package checkup

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sys/unix"

	"freshet/api/mirrorapi"
)

// Bounds of how much a clock may be off.
const (
	warnSkew = 30 * time.Second
	badSkew  = 5 * time.Minute
)

// Skew is how much this clock is ahead of another one's.
type Skew struct {
	Of    string // who has told the time
	Ahead time.Duration
}

// LookClock asks a server for its time. It is false if that tells none.
func LookClock(ctx context.Context, client *http.Client, name, url string) (Skew, bool) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
	if err != nil {
		return Skew{}, false
	}
	begun := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return Skew{}, false
	}
	_ = resp.Body.Close() // of HEAD
	took := time.Since(begun)
	// A cache tells when it was told.
	at, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil || resp.Header.Get("Age") != "" {
		return Skew{}, false
	}
	// Date is in whole seconds, cut, and was written somewhere in the time that it took.
	ahead := begun.Add(took / 2).Sub(at.Add(time.Second / 2))
	return Skew{Of: name, Ahead: ahead}, true
}

// ClockFindings judges the clock: by what others say, and whether it is kept right. Of
// several that disagree the one that is nearest counts: a single wrong clock elsewhere is
// not ours.
func ClockFindings(others []Skew, kept Kept) []mirrorapi.Finding {
	var found []mirrorapi.Finding
	if len(others) > 0 {
		nearest := others[0]
		for _, s := range others[1:] {
			if s.Ahead.Abs() < nearest.Ahead.Abs() {
				nearest = s
			}
		}
		if off := nearest.Ahead.Abs(); off > warnSkew {
			level, way := mirrorapi.LevelWarning, "ahead of"
			if off > badSkew {
				level = mirrorapi.LevelError
			}
			if nearest.Ahead < 0 {
				way = "behind"
			}
			found = append(found, mirrorapi.Finding{
				Level: level, About: "clock",
				Message: fmt.Sprintf("it is %s %s that of %s: signatures look too old or too new, triggers are refused, grace times are wrong", off.Round(time.Second), way, nearest.Of),
				Do:      "have it kept right by NTP, with chrony for instance",
			})
		}
	}
	if kept == Unkept {
		found = append(found, mirrorapi.Finding{
			Level: mirrorapi.LevelWarning, About: "clock", Message: "nothing keeps it right, says the kernel",
			Do: "run chrony or systemd-timesyncd",
		})
	}
	if len(found) == 0 && (len(others) > 0 || kept == InStep) {
		found = append(found, mirrorapi.Finding{Level: mirrorapi.LevelOK, About: "clock", Message: "it is right"})
	}
	return found
}

// Kept says whether something keeps the clock right.
type Kept int

// Whether something keeps the clock right.
const (
	NotKnown Kept = iota
	InStep
	Unkept
)

// LookKept asks the kernel whether something keeps its clock right, adjtimex(2).
func LookKept() Kept {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	switch {
	case err != nil:
		return NotKnown
	case state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0:
		return Unkept
	}
	return InStep
}
