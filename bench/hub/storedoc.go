package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Between these lines of performance.md stands what recordStores writes.
const (
	storeBegin = "<!-- stores: written by bench/hub -record -->\n"
	storeEnd   = "<!-- end of stores -->\n"
	storePlot  = "performance-stores.svg"
)

// recordStores writes a table of the stores into the documentation, and a plot
// beside it.
func recordStores(dir string, all []storeFigures) error {
	page := filepath.Join(dir, "performance.md")
	data, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, begins := strings.Cut(string(data), storeBegin)
	_, after, ends := strings.Cut(rest, storeEnd)
	if !begins || !ends {
		return fmt.Errorf("%s has no place for the figures of stores: %q to %q", page, storeBegin, storeEnd)
	}
	text := before + storeBegin + storeTable(all) + storeEnd + after
	return errors.Join(os.WriteFile(page, []byte(text), 0o644),
		os.WriteFile(filepath.Join(dir, storePlot), []byte(plot("CPU time of a hub's steps by the size of its store", storeCurves(all))), 0o644))
}

func storeTable(all []storeFigures) string {
	var b strings.Builder
	row := func(name string, cell func(storeFigures) string) {
		b.WriteString("| " + name)
		for _, f := range all {
			b.WriteString(" | " + cell(f))
		}
		b.WriteString(" |\n")
	}
	row("objects", func(f storeFigures) string { return thousands(f.Objects) })
	b.WriteString(strings.Repeat("|---", len(all)+1) + "|\n")
	both := func(c cost) string { return shown(c.CPU) + " (" + shown(c.Wall) + ")" }
	row("start", func(f storeFigures) string { return both(f.start) })
	row("publish one app", func(f storeFigures) string { return both(f.publish) })
	row("`fsck --incremental` after it", func(f storeFigures) string { return both(f.fsck) })
	row("prune what it replaced", func(f storeFigures) string { return both(f.prune) })
	row("most memory of the hub", func(f storeFigures) string { return megabytes(f.hubRSS) })
	row("most memory of `fsck --incremental`", func(f storeFigures) string { return megabytes(f.fsckRSS) })
	row("*whole store:* first start", func(f storeFigures) string { return both(f.Start) })
	row("*whole store:* full `fsck`", func(f storeFigures) string { return both(f.Fsck) + ", " + megabytes(f.FsckRSS) })
	row("*whole store:* first prune", func(f storeFigures) string { return both(f.Prune) + ", " + megabytes(f.PruneRSS) })
	row("*whole store:* `graph.db`", func(f storeFigures) string { return megabytes(f.GraphSize) })
	return b.String()
}

// shown is a time with two or three digits that count.
func shown(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%.3f s", d.Seconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

func storeCurves(all []storeFigures) []curve {
	curves := []curve{{name: "full fsck", whole: true, colour: "#777"}, {name: "first prune", whole: true, colour: "#a60"}}
	for i, step := range (storeFigures{}).steps() {
		curves = append(curves, curve{name: step.name, colour: []string{"#06c", "#c22", "#282", "#819"}[i]})
	}
	for _, f := range all {
		curves[0].points = append(curves[0].points, point{f.Objects, f.Fsck.CPU})
		curves[1].points = append(curves[1].points, point{f.Objects, f.Prune.CPU})
		for i, step := range f.steps() {
			curves[2+i].points = append(curves[2+i].points, point{f.Objects, step.of(f).CPU})
		}
	}
	return curves
}
