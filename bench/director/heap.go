package main

import (
	"context"
	"strconv"
	"strings"

	"freshet/bench/measure"
)

// heap is what a server of ours says of its memory, in bytes.
type heap struct {
	used           float64 // garbage that is not collected yet included
	free, released float64 // had once, and of that given back
	goal           float64 // at how much in use garbage is collected
}

func readHeap(ctx context.Context, s *server) (h heap, err error) {
	text, err := fetch(ctx, "http://"+s.admin+"/metrics")
	if err != nil {
		return h, err
	}
	for name, to := range map[string]*float64{
		"heap_alloc": &h.used, "heap_idle": &h.free, "heap_released": &h.released, "next_gc": &h.goal,
	} {
		_, rest, _ := strings.Cut(text, "\ngo_memstats_"+name+"_bytes ")
		value, _, _ := strings.Cut(rest, "\n")
		if *to, err = strconv.ParseFloat(value, 64); err != nil {
			return h, err
		}
	}
	return h, nil
}

// live is how many bytes a server has in use when all garbage is collected.
func live(ctx context.Context, s *server) (float64, error) {
	for range 2 { // what pools hold is let go by the second collection
		if _, err := fetch(ctx, "http://"+s.admin+"/debug/pprof/heap?gc=1"); err != nil {
			return 0, err
		}
	}
	h, err := readHeap(ctx, s)
	return h.used, err
}

// most is how much memory a server takes when there is as much garbage as the collector lets
// there be, which by chance may be just now or in a minute.
func most(ctx context.Context, s *server) (float64, error) {
	now, err := measure.Memory(s.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	h, err := readHeap(ctx, s)
	return float64(now) + max(0, h.goal-h.used-(h.free-h.released)), err
}
