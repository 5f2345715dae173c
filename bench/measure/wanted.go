package measure

import "strings"

// Wanted reports whether a case is to be measured: only are the beginnings of names that
// are, by comma; empty: all of them.
func Wanted(only, name string) bool {
	if only == "" {
		return true
	}
	for prefix := range strings.SplitSeq(only, ",") {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
