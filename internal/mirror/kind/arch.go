package kind

import (
	"slices"
	"strings"
)

// families are the names of one architecture in different distributions, the one of the
// kernel first.
var families = [...][]string{
	{"x86_64", "amd64", "x86-64"},
	{"aarch64", "arm64"},
	{"i686", "i386", "i586", "i486", "x86"},
	{"armv7", "armhf", "armhfp", "armv7hl", "armv7h"},
	{"armv6", "armel", "armv6hl", "armv6h"},
	{"ppc64le", "ppc64el", "powerpc64le"},
	{"ppc64", "powerpc64"},
	{"s390x"},
	{"riscv64"},
	{"mips64el"},
	{"mipsel"},
	{"loongarch64", "loong64"},
}

// family returns the kernel's name of an architecture; "" if it is not known.
func family(name string) string {
	for _, f := range families {
		if slices.Contains(f, name) {
			return f[0]
		}
	}
	switch name {
	case "x86_64_v2", "x86_64_v3", "x86_64_v4":
		return "x86_64"
	case "athlon", "pentium4":
		return "i686"
	}
	return ""
}

// archSet are the wanted architectures by the kernel's names, or as they are written
// where nobody knows them. An empty one has all.
type archSet map[string]bool

func newArchSet(names []string) archSet {
	s := make(archSet, len(names))
	for _, name := range names {
		if f := family(name); f != "" {
			name = f
		}
		s[name] = true
	}
	return s
}

// has tells whether something for an architecture is wanted, be it that it runs on all of
// them.
func (s archSet) has(name string) bool {
	switch name {
	case "all", "any", "noarch":
		return true
	}
	if len(s) == 0 || s[name] {
		return true
	}
	return s[family(name)]
}

// hasPackage is has for a package of a repository that is wanted: the 32-bit ones that lie
// among those of x86_64 are there to be installed beside them.
func (s archSet) hasPackage(name string) bool {
	return s.has(name) || s["x86_64"] && family(name) == "i686"
}

// hasNamed tells whether a file is wanted as far as its name speaks of architectures:
// "live-amd64.iso". One that speaks of none is.
func (s archSet) hasNamed(base string) bool {
	if len(s) == 0 {
		return true
	}
	speaks := false
	for _, f := range families {
		for _, name := range f {
			if !hasWord(base, name) {
				continue
			}
			if s[f[0]] {
				return true
			}
			speaks = true
		}
	}
	return !speaks
}

// hasWord tells whether a name has a word between other characters than letters and
// digits.
func hasWord(name, word string) bool {
	for from := 0; ; {
		i := strings.Index(name[from:], word)
		if i < 0 {
			return false
		}
		begin, end := from+i, from+i+len(word)
		if (begin == 0 || !isWordByte(name[begin-1])) && (end == len(name) || !isWordByte(name[end])) {
			return true
		}
		from = begin + 1
	}
}

func isWordByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
