package inventory

import "math/rand/v2"

// Sample returns the paths of n of the origin's files whose length fits, at random, each with
// the same chance; of all such files if there are not more. It costs a look at each file,
// and memory for those that are taken alone.
func (v View) Sample(n int, fits func(size int64) bool) []string {
	var taken []place
	seen := 0
	for f := range v.r.below("") {
		for i := range f.leaves {
			l := &f.leaves[i]
			for j := range l.versions {
				if v := &l.versions[j]; !v.current() || !fits(v.size) {
					continue
				}
				seen++
				if len(taken) < n {
					taken = append(taken, place{f, l, j})
				} else if at := rand.IntN(seen); at < n {
					taken[at] = place{f, l, j}
				}
			}
		}
	}
	paths := make([]string, len(taken))
	for i, p := range taken {
		paths[i] = p.folder.path + p.leaf.name(p.version)
	}
	return paths
}

// place is where a version is.
type place struct {
	folder  *folder
	leaf    *leaf
	version int
}
