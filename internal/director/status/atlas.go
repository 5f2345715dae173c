package status

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"freshet/internal/page"
)

// The map is web/assets/world.svg: coasts in the Natural Earth projection, whose middle
// is the meridian of Greenwich and whose width is 1000 units.
const (
	mapWidth  = 1000.0
	mapHeight = 438.0
	mapEdge   = 2.735384723480633  // x of 180° at the equator
	mapTop    = 1.3823433846208855 // y of 84° north
)

// onMap is where a place is on the map, whose y grows downwards. The polynomials are
// those of the projection (Šavrič, Jenny, Patterson, Petrovič, Hurni: A Polynomial
// Equation for the Natural Earth Projection, 2011).
func onMap(latitude, longitude float64) (x, y float64) {
	l, p := longitude*math.Pi/180, latitude*math.Pi/180
	a := p * p
	b := a * a
	x = l * (0.8707 - 0.131979*a + b*(-0.013791+b*(0.003971*a-0.001529*b)))
	y = p * (1.007226 + a*(0.015085+b*(-0.044475+0.028874*a-0.005916*b)))
	scale := mapWidth / (2 * mapEdge)
	return (x + mapEdge) * scale, (mapTop - y) * scale
}

// dot is one or several mirrors on the map.
type dot struct {
	page.Link           // to the mirror, or to the country's row
	X, Y, Radius string // in units of the map
	Tone         string
}

// cluster is mirrors that would be drawn over one another.
type cluster struct {
	x, y     float64
	mirrors  []*Mirror
	capacity int
}

// near is the distance, in units of the map, within which mirrors become one dot.
const near = 9

// dots draws mirrors, the largest first, so that small ones are not hidden.
func dots(mirrors []Mirror) []dot {
	var clusters []*cluster
	for i := range mirrors {
		m := &mirrors[i]
		if !m.Located || m.Disabled {
			continue
		}
		x, y := onMap(m.Latitude, m.Longitude)
		at := slices.IndexFunc(clusters, func(c *cluster) bool { return math.Hypot(c.x-x, c.y-y) < near })
		if at < 0 {
			at = len(clusters)
			clusters = append(clusters, &cluster{x: x, y: y})
		}
		clusters[at].mirrors = append(clusters[at].mirrors, m)
		clusters[at].capacity += m.Capacity
	}
	slices.SortStableFunc(clusters, func(a, b *cluster) int { return cmp.Compare(b.capacity, a.capacity) })
	drawn := make([]dot, len(clusters))
	for i, c := range clusters {
		drawn[i] = c.dot()
	}
	return drawn
}

func (c *cluster) dot() dot {
	radius := 3 + 2.2*math.Log10(1+float64(max(c.capacity, 0))/100)
	d := dot{X: fmt.Sprintf("%.1f", c.x), Y: fmt.Sprintf("%.1f", c.y), Radius: fmt.Sprintf("%.1f", radius)}
	works, current := 0, 0
	for _, m := range c.mirrors {
		s := m.State()
		if s.works() {
			works++
		}
		if s == StateCurrent {
			current++
		}
	}
	switch {
	case current == len(c.mirrors):
		d.Tone = page.ToneDone
	case works == 0:
		d.Tone = page.ToneBad
	default:
		d.Tone = page.ToneWork
	}
	if m := c.mirrors[0]; len(c.mirrors) == 1 {
		d.Href, d.Text = mirrorHref(m.Name), fmt.Sprintf("%s: %s, %s", m.Name, m.State(), rate(m.Capacity))
	} else {
		d.Href = "#" + m.Country
		d.Text = fmt.Sprintf("%s: %d current, %d working, %s", page.Plural(len(c.mirrors), "mirror", "mirrors"), current, works, rate(c.capacity))
	}
	return d
}
