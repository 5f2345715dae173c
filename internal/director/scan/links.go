package scan

import (
	"errors"
	"maps"
	"path"
	"slices"
	"strings"
)

const (
	maxLinks   = 500_000 // of a tree; more are left out
	maxAliases = 32      // names that links give a file; more are left out
	maxPath    = 1024    // of an inventory
)

// errLinks is that a tree has other links than those by which it was read: it is to be
// read once more.
var errLinks = errors.New("the links have changed")

// links are the symbolic links of a tree: for each path that is linked to, a file or a
// folder, the paths of its links. Nil has none.
type links map[string][]string

// add adds a link, if what it leads to can be in the tree. A link to a folder that it is
// in itself is left out: there would be no end.
func (l links) add(link, target string) {
	if target == "" || path.IsAbs(target) || len(l) >= maxLinks {
		return
	}
	to := path.Join(path.Dir(link), target)
	if to == "." || to == ".." || strings.HasPrefix(to, "../") || to == link || strings.HasPrefix(link, to+"/") {
		return
	}
	l[to] = append(l[to], link)
}

// sort makes links comparable, in whatever order they were added.
func (l links) sort() {
	for _, names := range l {
		slices.Sort(names)
	}
}

// equal compares sorted links.
func (l links) equal(o links) bool { return maps.EqualFunc(l, o, slices.Equal[[]string]) }

// aliases are the other names of a file: those of links to it, or to a folder that it is
// in, or to such a link.
func (l links) aliases(file string) []string {
	if len(l) == 0 {
		return nil
	}
	names := l.step(nil, file, file)
	for i := 0; i < len(names); i++ {
		names = l.step(names, names[i], file)
	}
	return names
}

// step appends the names that name has by one link, unless they are among names or file.
func (l links) step(names []string, name, file string) []string {
	for end := len(name); end > 0; end = strings.LastIndexByte(name[:end], '/') {
		for _, link := range l[name[:end]] {
			alias := link + name[end:]
			if len(alias) <= maxPath && len(names) < maxAliases && alias != file && !slices.Contains(names, alias) {
				names = append(names, alias)
			}
		}
	}
	return names
}
