package push

import (
	"fmt"
	"time"
)

const (
	// window is the recent time over which the rate of a step is taken.
	window = 10 * time.Second
	// sampleEvery is the least time between two samples, and that before there
	// is a rate at all.
	sampleEvery = 500 * time.Millisecond
)

// pace is a step of work, with its rate in the recent past: what a push did
// before it had to wait, or was resumed, says little about when it will end.
type pace struct {
	step        string
	total, done int64
	started     time.Time
	samples     []sample // the oldest is the begin of the window
}

type sample struct {
	at   time.Time
	done int64
}

func newPace(step string, total int64, now time.Time) *pace {
	return &pace{step: step, total: total, started: now, samples: []sample{{at: now}}}
}

func (p *pace) set(done int64, now time.Time) {
	p.done = done
	if last := p.samples[len(p.samples)-1]; now.Sub(last.at) >= sampleEvery {
		p.samples = append(p.samples, sample{now, done})
	}
	for len(p.samples) > 1 && now.Sub(p.samples[1].at) >= window {
		p.samples = p.samples[1:]
	}
}

// rate returns bytes per second, 0 if it is not known.
func (p *pace) rate(now time.Time) float64 {
	first := p.samples[0]
	took := now.Sub(first.at)
	if took < sampleEvery || p.done <= first.done {
		return 0
	}
	return float64(p.done-first.done) / took.Seconds()
}

// percent returns how much is done; 100 only when all is.
func (p *pace) percent() int64 { return p.done * 100 / max(p.total, 1) }

// ahead tells the rate and the time left, as far as they are known.
func (p *pace) ahead(now time.Time) string {
	rate := p.rate(now)
	if rate < 1 {
		return ""
	}
	left := time.Duration(float64(p.total-p.done) / rate * float64(time.Second))
	return fmt.Sprintf(", %s/s, %s left", formatBytes(int64(rate)), max(left, 0).Round(time.Second))
}

// summary tells of the step at its end.
func (p *pace) summary(now time.Time) string {
	if p.done < p.total {
		return fmt.Sprintf("%s: stopped after %s of %s", p.step, formatBytes(p.done), formatBytes(p.total))
	}
	line := fmt.Sprintf("%s: %s", p.step, formatBytes(p.done))
	if took := now.Sub(p.started); took >= 100*time.Millisecond {
		line += fmt.Sprintf(" in %s (%s/s)", took.Round(10*time.Millisecond), formatBytes(int64(float64(p.done)/took.Seconds())))
	}
	return line
}
