package main

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// curve is a line of a plot: how long a step takes by the size of the store.
type curve struct {
	name   string
	whole  bool // looks at all of the store: drawn thin and dashed
	colour string
	points []point
}

type point struct {
	objects int
	took    time.Duration
}

// The sizes of a plot, in pixels.
const (
	plotWidth, plotHeight              = 720, 420
	plotLeft, plotTop, plotRight, foot = 70, 20, 190, 50
)

// plot draws curves as SVG, both axes logarithmic, with a title for who cannot see
// it.
func plot(title string, curves []curve) string {
	a := axesOf(curves)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" role="img">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, "<title>%s</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n", title)
	a.draw(&b)
	labels := labelled(curves, a)
	for i, c := range curves {
		dash, width := "", 2.5
		if c.whole {
			dash, width = ` stroke-dasharray="5 4"`, 1.2
		}
		b.WriteString(`<polyline fill="none" stroke="` + c.colour + fmt.Sprintf(`" stroke-width="%.1f"%s points="`, width, dash))
		for _, p := range c.points {
			fmt.Fprintf(&b, "%.1f,%.1f ", a.x(p.objects), a.y(p.took))
		}
		b.WriteString("\"/>\n")
		for _, p := range c.points {
			fmt.Fprintf(&b, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n", a.x(p.objects), a.y(p.took), c.colour)
		}
		fmt.Fprintf(&b, "<text x=\"%d\" y=\"%.1f\" fill=\"%s\">%s</text>\n", plotWidth-plotRight+12, labels[i], c.colour, c.name)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// labelled returns where the names of the curves stand: at their ends, and below
// each other where those are close.
func labelled(curves []curve, a axes) []float64 {
	at := make([]float64, len(curves))
	for i, c := range curves {
		at[i] = a.y(c.points[len(c.points)-1].took) + 4
	}
	const apart = 14
	for moved, rounds := true, 0; moved && rounds < 100; rounds++ {
		moved = false
		for i := range at {
			for j := range i {
				if gap := at[i] - at[j]; math.Abs(gap) < apart {
					push := (apart-math.Abs(gap))/2 + 0.1
					at[i], at[j], moved = at[i]+math.Copysign(push, gap), at[j]-math.Copysign(push, gap), true
				}
			}
		}
	}
	return at
}

// axes are from one power of ten to another, in objects and seconds.
type axes struct{ left, right, bottom, top int }

func axesOf(curves []curve) axes {
	a := axes{math.MaxInt, math.MinInt, math.MaxInt, math.MinInt}
	for _, c := range curves {
		for _, p := range c.points {
			x, y := math.Log10(float64(p.objects)), math.Log10(p.took.Seconds())
			a.left, a.right = min(a.left, int(math.Floor(x))), max(a.right, int(math.Ceil(x)))
			a.bottom, a.top = min(a.bottom, int(math.Floor(y))), max(a.top, int(math.Ceil(y)))
		}
	}
	return a
}

func (a axes) x(objects int) float64 { return a.column(math.Log10(float64(objects))) }

func (a axes) y(took time.Duration) float64 { return a.line(math.Log10(took.Seconds())) }

func (a axes) column(power float64) float64 {
	return plotLeft + (power-float64(a.left))/float64(a.right-a.left)*(plotWidth-plotLeft-plotRight)
}

func (a axes) line(power float64) float64 {
	return plotHeight - foot - (power-float64(a.bottom))/float64(a.top-a.bottom)*(plotHeight-plotTop-foot)
}

// draw draws a grid with a line for each power of ten.
func (a axes) draw(b *strings.Builder) {
	const bottom, right = plotHeight - foot, plotWidth - plotRight
	for power := a.left; power <= a.right; power++ {
		x := a.column(float64(power))
		fmt.Fprintf(b, "<path stroke=\"#ddd\" d=\"M%.1f %dV%d\"/><text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n",
			x, plotTop, bottom, x, bottom+18, thousands(int(math.Round(math.Pow10(power)))))
	}
	for power := a.bottom; power <= a.top; power++ {
		y := a.line(float64(power))
		fmt.Fprintf(b, "<path stroke=\"#ddd\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g s</text>\n",
			plotLeft, y, right, plotLeft-8, y+4, math.Pow10(power))
	}
	fmt.Fprintf(b, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">objects in the store</text>\n", (plotLeft+right)/2, plotHeight-10)
	fmt.Fprintf(b, "<text x=\"14\" y=\"%d\" text-anchor=\"middle\" transform=\"rotate(-90 14 %d)\">CPU time</text>\n", (plotTop+bottom)/2, (plotTop+bottom)/2)
}

// thousands writes a number with commas.
func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return thousands(n/1000) + fmt.Sprintf(",%03d", n%1000)
}
