package telemetry

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A clock that was wrong for a while leaves nothing behind: label sets of a day to come do not
// count against those of the days until then.
func TestCubeAfterClockWasSet(t *testing.T) {
	c := newCubes().classes
	c.most, c.over = 2, prometheus.NewCounter(prometheus.CounterOpts{Name: "over"})
	today := int64(20_000 * day)
	for _, at := range []int64{today, today + 10_000*day, today + 10, today + day} {
		for l := range uint16(3) {
			c.at(at, labels{1, 2, l + uint16(at%997)}).requests++
		}
		c.at(at-60, labels{1, 2, uint16(at % 997)}).requests++ // what ended a little earlier
		if _, apart := c.index[key{at - at%minute, labels{1, 2, uint16(at % 997)}}]; !apart || len(c.seen) != 2 {
			t.Errorf("at %d: %d label sets are told apart", at-today, len(c.seen))
		}
		clear(c.index)
		c.cells = c.cells[:0]
	}
}

// Labels of many months do not take the numbers of those to come, and what was counted has
// the labels that it had.
func TestLabelsAreNumberedAnew(t *testing.T) {
	e, err := Open(Options{Config: Config{URL: "http://watch.mem", Spool: t.TempDir()}.WithDefaults(), Node: "box", Role: "mirror", Project: func(string) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for i := range 1 << 17 {
		e.names.id(fmt.Sprintf("AS%d", i))
		if i%1000 == 0 {
			e.count(&entry{project: "epel", path: "/epel/x.rpm", proto: "HTTP/1.1", status: 200, bytes: 7, ended: time.Now().Unix()}, []byte(fmt.Sprint("dnf/", i)))
			found := 0
			for _, l := range e.take(time.Now()) {
				if l.Count == nil {
					continue
				}
				if got := l.Labels; got[0] != "epel" || l.Cube == "c" && got[1] != "dnf" {
					t.Fatalf("after %d labels: cube %s has %q", i, l.Cube, got)
				}
				found++
			}
			if found < 4 {
				t.Fatalf("after %d labels: %d counts", i, found)
			}
		}
	}
	if id := e.names.id("XX"); id == 0 || len(e.names.names) > maxNames+1000 {
		t.Errorf("a new label is number %d of %d", id, len(e.names.names))
	}
}
