package main

import (
	"fmt"
	"path/filepath"
)

const (
	twoKilobytes = "/files/two-kilobytes.rpm"
	gigabyte     = "/files/gigabyte.rpm"
)

// acceptanceCases are those that the acceptance of an edge has goals for, in
// requests/s. They are run only if they are asked for by name.
func acceptanceCases(cfg config, unseen func(prefix string, n int, path func(i int) string) func() load) []benchCase {
	if cfg.only == "" {
		return nil
	}
	two := func(int) string { return twoKilobytes }
	rate := goals{"nginx-cache": 0}
	cold := unseen("fresh", cfg.cold, two)
	many := make([]string, cfg.cold)
	for i := range many {
		many[i] = fmt.Sprintf("/fresh/known-%d%s", i, twoKilobytes)
	}
	always := func(l load) func() load { return func() load { return l } }
	return []benchCase{
		{name: "2k-hits-c32", goals: rate, load: always(load{paths: []string{twoKilobytes}, conns: 32}), warmed: []string{twoKilobytes}},
		{name: "2k-cold-c8", goals: rate, load: func() load {
			l := cold()
			l.conns = 8
			return l
		}},
		{name: "2k-warm-c8", goals: rate, load: always(load{paths: many, conns: 8, once: true}), warmed: many},
		{name: "1G-tls", goals: rate, load: always(load{paths: []string{gigabyte}, conns: 1, tls: true}), warmed: []string{gigabyte}},
		{name: "1G-h2", goals: rate, load: always(load{paths: []string{gigabyte}, h2: &multiplexed{2, 1, 1}}), warmed: []string{gigabyte}},
	}
}

// writeAcceptance makes the files of those cases.
func writeAcceptance(cfg config, dir string) error {
	for name, size := range map[string]int{twoKilobytes: 2000, gigabyte: 1_000_000_000} {
		if cfg.only == "" || size > 2000 && !cfg.wants("1G-tls") && !cfg.wants("1G-h2") {
			continue
		}
		if err := writeFile(filepath.Join(dir, "www", name), size, 5); err != nil {
			return err
		}
	}
	return nil
}
