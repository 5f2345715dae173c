package flatpak

import (
	"errors"
	"fmt"
	"strings"
)

// ErrRef is wrapped by every error about a malformed ref.
var ErrRef = errors.New("invalid ref")

// Kind is the first part of a ref.
type Kind uint8

// The kinds of refs that are uploaded to a repository.
const (
	App Kind = iota + 1
	Runtime
	Screenshots // screenshots/<arch>: media, no commit that is ever installed
)

// String returns the kind as it stands in a ref.
func (k Kind) String() string {
	switch k {
	case App:
		return "app"
	case Runtime:
		return "runtime"
	case Screenshots:
		return "screenshots"
	}
	return "invalid"
}

// Ref is the name of an application or runtime, app/ID/ARCH/BRANCH, or, when the
// kind is Screenshots, screenshots/ARCH with ID and Branch empty.
type Ref struct {
	Kind             Kind
	ID, Arch, Branch string
}

// maxRef is the length flatpak still accepts: its offsets have 16 bits.
const maxRef = 0xffff

// ParseRef reads a ref of an application or runtime by flatpak's rules.
func ParseRef(s string) (Ref, error) {
	if len(s) > maxRef {
		return Ref{}, fmt.Errorf("%w: %d bytes long", ErrRef, len(s))
	}
	kind, rest, ok := strings.Cut(s, "/")
	r := Ref{}
	switch {
	case ok && kind == "app":
		r.Kind = App
	case ok && kind == "runtime":
		r.Kind = Runtime
	default:
		return Ref{}, fmt.Errorf("%w: %.80q is neither an app nor a runtime", ErrRef, s)
	}
	parts := strings.Split(rest, "/")
	if len(parts) != 3 {
		return Ref{}, fmt.Errorf("%w: %.80q does not have four parts", ErrRef, s)
	}
	r.ID, r.Arch, r.Branch = parts[0], parts[1], parts[2]
	for _, err := range []error{CheckID(r.ID), CheckArch(r.Arch), CheckBranch(r.Branch)} {
		if err != nil {
			return Ref{}, fmt.Errorf("%.80q: %w", s, err)
		}
	}
	return r, nil
}

// ParseUploadRef reads a ref that a build may upload: one of ParseRef, or
// screenshots/ARCH.
func ParseUploadRef(s string) (Ref, error) {
	arch, ok := strings.CutPrefix(s, "screenshots/")
	if !ok {
		return ParseRef(s)
	}
	if err := CheckArch(arch); err != nil {
		return Ref{}, fmt.Errorf("%.80q: %w", s, err)
	}
	return Ref{Kind: Screenshots, Arch: arch}, nil
}

// String returns the ref as it is written.
func (r Ref) String() string {
	if r.Kind == Screenshots {
		return "screenshots/" + r.Arch
	}
	return r.Kind.String() + "/" + r.ID + "/" + r.Arch + "/" + r.Branch
}

// IsSubref tells whether the ref is a part of another one (its translations,
// debug information or sources) that nobody looks for by itself.
func (r Ref) IsSubref() bool {
	for _, suffix := range []string{".Locale", ".Debug", ".Sources"} {
		if strings.HasSuffix(r.ID, suffix) {
			return true
		}
	}
	return false
}

// CheckID tells whether id can name an application or runtime: three or more
// elements parted by periods, of letters, digits, underscores and, in the last
// one, dashes; none begins with a digit; 255 bytes at most.
func CheckID(id string) error {
	if len(id) == 0 || len(id) > 255 {
		return fmt.Errorf("%w: the id has %d bytes, not 1 to 255", ErrRef, len(id))
	}
	elements := strings.Split(id, ".")
	if len(elements) < 3 {
		return fmt.Errorf("%w: id %q has fewer than two periods", ErrRef, id)
	}
	for i, element := range elements {
		if element == "" {
			return fmt.Errorf("%w: id %q has an empty element", ErrRef, id)
		}
		for j := range len(element) {
			c := element[j]
			switch {
			case isLetter(c) || c == '_':
			case isDigit(c) && j > 0:
			case c == '-' && i == len(elements)-1:
			default:
				return fmt.Errorf("%w: id %q has %q where it cannot stand", ErrRef, id, c)
			}
		}
	}
	return nil
}

// CheckArch tells whether arch is made of letters, digits and underscores.
func CheckArch(arch string) error {
	if arch == "" {
		return fmt.Errorf("%w: the architecture is empty", ErrRef)
	}
	for i := range len(arch) {
		if c := arch[i]; !isLetter(c) && !isDigit(c) && c != '_' {
			return fmt.Errorf("%w: architecture %.80q has %q in it", ErrRef, arch, c)
		}
	}
	return nil
}

// CheckBranch tells whether branch is made of letters, digits, underscores,
// dashes and periods and does not begin with a period.
func CheckBranch(branch string) error {
	if branch == "" || branch[0] == '.' {
		return fmt.Errorf("%w: branch %.80q is empty or begins with a period", ErrRef, branch)
	}
	for i := range len(branch) {
		if c := branch[i]; !isLetter(c) && !isDigit(c) && c != '_' && c != '-' && c != '.' {
			return fmt.Errorf("%w: branch %.80q has %q in it", ErrRef, branch, c)
		}
	}
	return nil
}

// maxSubset is how many bytes the name of a subset has at most.
const maxSubset = 64

// CheckSubset tells whether name can name a subset: 1 to 64 letters, digits and
// underscores. It becomes a part of the names of branches and files.
func CheckSubset(name string) error {
	if name == "" || len(name) > maxSubset {
		return fmt.Errorf("%w: the name of a subset has %d bytes, not 1 to %d", ErrRef, len(name), maxSubset)
	}
	for i := range len(name) {
		if c := name[i]; !isLetter(c) && !isDigit(c) && c != '_' {
			return fmt.Errorf("%w: subset %q has %q in it", ErrRef, name, c)
		}
	}
	return nil
}

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// hasIDPrefix tells whether id is prefix or goes on after it with something that
// cannot belong to prefix's last element (flatpak_has_name_prefix).
func hasIDPrefix(id, prefix string) bool {
	rest, ok := strings.CutPrefix(id, prefix)
	return ok && (rest == "" || !isLetter(rest[0]) && !isDigit(rest[0]) && rest[0] != '_')
}

// AppstreamRef returns the name of the branch with the compressed catalogue.
func AppstreamRef(arch string) string { return "appstream/" + arch }

// Appstream2Ref returns the name of the branch with the plain catalogue, of
// everything when subset is empty.
func Appstream2Ref(subset, arch string) string { return "appstream2/" + subsummaryName(subset, arch) }

// subsummaryName is ARCH or SUBSET-ARCH.
func subsummaryName(subset, arch string) string {
	if subset == "" {
		return arch
	}
	return subset + "-" + arch
}

// refArch returns the architecture a ref is for; refs without one, which belong
// to every architecture, give "".
func refArch(ref string) string {
	if rest, ok := appstreamName(ref); ok {
		return rest[strings.LastIndexByte(rest, '-')+1:]
	}
	r, err := ParseRef(ref)
	if err != nil {
		return ""
	}
	return r.Arch
}

// appstreamName returns what follows appstream/ or appstream2/.
func appstreamName(ref string) (string, bool) {
	if rest, ok := strings.CutPrefix(ref, "appstream2/"); ok {
		return rest, true
	}
	return strings.CutPrefix(ref, "appstream/")
}

// appstreamSubset returns the subset of an appstream2 ref, if it has one.
func appstreamSubset(ref string) (subset string, ok bool) {
	rest, ok := strings.CutPrefix(ref, "appstream2/")
	if !ok {
		return "", false
	}
	i := strings.LastIndexByte(rest, '-')
	if i < 0 {
		return "", false
	}
	return rest[:i], true
}

// hasFlatpakData tells whether the summary has sizes and metadata for a ref:
// flatpak_is_app_runtime_or_appstream_ref.
func hasFlatpakData(ref string) bool {
	for _, prefix := range []string{"app/", "runtime/", "appstream/", "appstream2/"} {
		if strings.HasPrefix(ref, prefix) {
			return true
		}
	}
	return false
}

// hostArch returns the architecture that also runs applications of arch; "" for
// none.
func hostArch(arch string) string {
	switch arch {
	case "i386":
		return "x86_64"
	case "arm":
		return "aarch64"
	}
	return ""
}
