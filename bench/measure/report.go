package measure

import (
	"cmp"
	"fmt"
	"io"
	"slices"
)

// Median is that of a list, 0 of an empty one.
func Median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	list = slices.SortedFunc(slices.Values(list), cmp.Compare[float64])
	return (list[(len(list)-1)/2] + list[len(list)/2]) / 2
}

// Line prints one comparison:
//
//	name ours peer ratio goal ok|short
//
// goal is the highest ratio that is good enough; 0: there is none, which is "-".
func Line(out io.Writer, name string, mine, peer, goal float64) {
	verdict, wanted := "-", "-"
	ratio := mine / peer
	switch {
	case mine == 0 || peer == 0:
		verdict = "not-measured"
	case goal > 0 && ratio <= goal:
		verdict = "ok"
	case goal > 0:
		verdict = "short"
	}
	if goal > 0 {
		wanted = fmt.Sprintf("%.2f", goal)
	}
	_, _ = fmt.Fprintf(out, "%s %.2f %.2f %.2f %s %s\n", name, mine, peer, ratio, wanted, verdict)
}

// Most prints a figure that has no peer, and may be at most goal.
func Most(out io.Writer, name string, value, goal float64) {
	alone(out, name, value, goal, value <= goal)
}

// Least prints a figure that has no peer, and must be at least goal.
func Least(out io.Writer, name string, value, goal float64) {
	alone(out, name, value, goal, value >= goal)
}

func alone(out io.Writer, name string, value, goal float64, reached bool) {
	verdict := "short"
	if reached {
		verdict = "ok"
	}
	_, _ = fmt.Fprintf(out, "%s %.2f - - %.2f %s\n", name, value, goal, verdict)
}
