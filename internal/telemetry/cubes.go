package telemetry

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/api/watchapi"
)

// Other is the label of what is in no dictionary.
const Other = watchapi.Other

const (
	other = Other
	// minute, hour and day are in seconds.
	minute, hour, day = 60, 3600, 86400
	// dimensions is how many a cube has at most.
	dimensions = 7
	// maxName bounds labels that nobody has bounded before.
	maxName = 64
)

// dictionary numbers labels. All of them are of closed sets.
type dictionary struct {
	ids   map[string]uint16
	names []string
}

func (d *dictionary) id(name string) uint16 {
	if id, ok := d.ids[name]; ok {
		return id
	}
	if d.ids == nil {
		d.ids = map[string]uint16{other: 0}
		d.names = []string{other}
		return d.id(name)
	}
	label := strings.ToValidUTF8(name, "")
	if len(label) > maxName {
		label = strings.ToValidUTF8(label[:maxName], "")
	}
	if label == "" || strings.ContainsFunc(label, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }) || len(d.names) > 1<<16-2 {
		return 0
	}
	id := uint16(len(d.names))
	d.names = append(d.names, label)
	d.ids[strings.Clone(name)] = id
	return id
}

type labels [dimensions]uint16

type key struct {
	at     int64 // seconds since 1970
	labels labels
}

// cell is what is counted of a key.
type cell struct {
	requests, bytes int64
	times           map[int16]int64
}

// cube counts what has the same labels. Its labels begin with the project.
type cube struct {
	name  string
	width int64
	dims  int
	most  int // label sets in a day

	index map[key]int32 // into cells
	cells []cell
	day   int64
	seen  map[labels]struct{} // in this day
	over  prometheus.Counter  // of what was counted under other labels
}

// newCubes are all, with the bounds of label sets in a day. Together they are 10,000, with
// room for what is beyond, of each project.
func newCubes() *cubes {
	of := func(name string, width int64, most int) *cube {
		return &cube{
			name: name, width: width, dims: len(watchapi.Cubes()[name]), most: most,
			index: make(map[key]int32), seen: make(map[labels]struct{}),
		}
	}
	return &cubes{
		classes: of(watchapi.CubeClasses, minute, 1800), releases: of(watchapi.CubeReleases, hour, 3000),
		protocols: of(watchapi.CubeProtocols, minute, 400), agents: of(watchapi.CubeAgents, minute, 900),
		countries: of(watchapi.CubeCountries, hour, 1200), networks: of(watchapi.CubeNetworks, hour, 1500),
		failures: of(watchapi.CubeFailures, minute, 400), latencies: of(watchapi.CubeLatencies, minute, 400),
	}
}

type cubes struct {
	classes, releases, protocols, agents, countries, networks, failures, latencies *cube
}

func (c *cubes) all() []*cube {
	return []*cube{c.classes, c.releases, c.protocols, c.agents, c.countries, c.networks, c.failures, c.latencies}
}

// at returns the cell of the labels at a second.
func (c *cube) at(second int64, l labels) *cell {
	k := key{second - second%c.width, l}
	if i, ok := c.index[k]; ok {
		return &c.cells[i]
	}
	if d := second / day; d > c.day || d < c.day-1 { // what has just ended may be of the day before; else the clock was set
		c.day = d
		clear(c.seen)
	}
	if _, ok := c.seen[l]; !ok {
		if len(c.seen) >= c.most {
			c.over.Inc()
			k.labels = labels{l[0]} // of all others, "other"
			if i, ok := c.index[k]; ok {
				return &c.cells[i]
			}
		} else {
			c.seen[l] = struct{}{}
		}
	}
	i := int32(len(c.cells))
	c.cells = append(c.cells, cell{})
	c.index[k] = i
	return &c.cells[i]
}

// take appends what was counted since the last time.
func (c *cube) take(to []watchapi.Line, names []string) []watchapi.Line {
	for k, i := range c.index {
		v := &c.cells[i]
		count := &watchapi.Count{Cube: c.name, Width: c.width, At: k.at, Requests: v.requests, Bytes: v.bytes}
		for _, id := range k.labels[:c.dims] {
			count.Labels = append(count.Labels, names[id])
		}
		for bucket, n := range v.times {
			count.Times = append(count.Times, watchapi.Bucket{int64(bucket), n})
		}
		to = append(to, watchapi.Line{Count: count})
	}
	clear(c.index)
	clear(c.cells) // and what they lead to
	c.cells = c.cells[:0]
	return to
}

func second(t time.Time) int64 { return max(0, t.Unix()) }
