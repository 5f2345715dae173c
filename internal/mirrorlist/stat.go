package mirrorlist

import (
	"slices"
	"strings"
)

// Stat is how much of everything a snapshot has.
type Stat struct {
	Time uint64 `json:"time"` // of the snapshot, in seconds of Unix time

	Hosts        int `json:"hosts"`
	PublicHosts  int `json:"public-hosts"`  // that some directory lists for everybody
	PrivateHosts int `json:"private-hosts"` // that have directories, but are not listed
	Countries    int `json:"countries"`

	URLs    int            `json:"urls"`
	Schemes map[string]int `json:"schemes"` // URLs by scheme

	Directories int `json:"directories"`
	MirrorSets  int `json:"mirror-sets"` // how many different ones the directories have
	Without     int `json:"without"`     // directories that no host has
	// Of the directories that hosts have, how many hosts the one with the fewest, one in
	// the middle and the one with the most have.
	Fewest int `json:"fewest"`
	Median int `json:"median"`
	Most   int `json:"most"`

	Files    int `json:"files"` // with known versions
	Versions int `json:"versions"`

	Repositories int `json:"repositories"`
	Lost         int `json:"lost"` // repositories whose directory is not there
	Disabled     int `json:"disabled"`
	Redirects    int `json:"redirects"`

	ASNs      int `json:"asns"`
	Netblocks int `json:"netblocks"`
	Problems  int `json:"problems"`
}

// Stat counts what is in the snapshot.
func (s *Snapshot) Stat() Stat {
	stat := Stat{
		Time: s.time, Hosts: len(s.hosts), Countries: len(s.countries), Schemes: make(map[string]int),
		Directories: len(s.directories), MirrorSets: len(s.sets), Files: s.NumFiles(),
		Repositories: len(s.repositories), Redirects: len(s.redirects),
		ASNs: len(s.asns), Netblocks: len(s.netblockTexts), Problems: s.problems.Count,
	}
	for _, u := range s.urls {
		if u.set {
			stat.URLs++
			scheme, _, _ := strings.Cut(u.base, ":")
			stat.Schemes[scheme]++
		}
	}
	for _, d := range s.files {
		for _, f := range d.files {
			stat.Versions += len(f.versions)
		}
	}
	for _, disabled := range s.disabled {
		if disabled {
			stat.Disabled++
		}
	}
	for _, directory := range s.repositories {
		if _, ok := s.Directory(directory); !ok {
			stat.Lost++
		}
	}
	s.countMirrors(&stat)
	return stat
}

func (s *Snapshot) countMirrors(stat *Stat) {
	public, holder := make([]bool, len(s.hosts)), make([]bool, len(s.hosts))
	for _, set := range s.sets {
		for _, h := range set.global {
			public[h] = true
		}
		for _, l := range set.links {
			holder[l.host()] = true
		}
	}
	for h := range s.hosts {
		switch {
		case public[h]:
			stat.PublicHosts++
		case holder[h]:
			stat.PrivateHosts++
		}
	}
	counts := make([]int, 0, len(s.directories))
	for _, d := range s.directories {
		if n := len(s.sets[d.set].links); n > 0 {
			counts = append(counts, n)
		}
	}
	stat.Without = len(s.directories) - len(counts)
	if len(counts) > 0 {
		slices.Sort(counts)
		stat.Fewest, stat.Median, stat.Most = counts[0], counts[len(counts)/2], counts[len(counts)-1]
	}
}
