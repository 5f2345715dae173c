package ostree

import (
	"fmt"
	"strings"
)

// MaxRefLength bounds the length of ref names, in bytes.
const MaxRefLength = 1024

// ValidateRef tells what is wrong with a ref name, which is one or more
// fragments of letters, digits, "_", "-" and "." separated by slashes, as
// OSTREE_REF_REGEXP of libostree has it. Fragments that begin with a dot are
// refused too, and so are those longer than a file name may be: a ref is a path
// below refs/heads.
func ValidateRef(ref string) error {
	if len(ref) > MaxRefLength {
		return fmt.Errorf("%w: ref of %d bytes", ErrName, len(ref))
	}
	for fragment := range strings.SplitSeq(ref, "/") {
		if fragment == "" || fragment[0] == '.' || len(fragment) > 255 {
			return fmt.Errorf("%w: ref %.200q", ErrName, ref)
		}
		for i := range len(fragment) {
			if c := fragment[i]; !word(c) && c != '-' && c != '.' {
				return fmt.Errorf("%w: ref %.200q", ErrName, ref)
			}
		}
	}
	return nil
}

// ValidateCollectionID tells what is wrong with a collection ID: a reverse
// domain name of at least two elements, none of which begins with a digit, and
// at most 255 bytes (ostree_validate_collection_id).
func ValidateCollectionID(id string) error {
	elements := 0
	for element := range strings.SplitSeq(id, ".") {
		elements++
		if element == "" || element[0] >= '0' && element[0] <= '9' {
			return fmt.Errorf("%w: collection ID %.260q", ErrName, id)
		}
		for i := range len(element) {
			if !word(element[i]) {
				return fmt.Errorf("%w: collection ID %.260q", ErrName, id)
			}
		}
	}
	if elements < 2 || len(id) > 255 {
		return fmt.Errorf("%w: collection ID %.260q", ErrName, id)
	}
	return nil
}

func word(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
}

// RefPath returns the place of a ref: "refs/heads/<ref>". The ref must be valid.
func RefPath(ref string) string { return "refs/heads/" + ref }

// MirrorRefPath returns the place of a ref of another collection than the
// repository's own: "refs/mirrors/<collection>/<ref>". Both must be valid.
func MirrorRefPath(collection, ref string) string {
	return "refs/mirrors/" + collection + "/" + ref
}

// RefFile returns the content of a ref's file.
func RefFile(commit Checksum) []byte { return []byte(commit.String() + "\n") }

// ParseRefFile reads the content of a ref's file.
func ParseRefFile(data []byte) (Checksum, error) {
	return ParseChecksum(strings.TrimRight(string(data), " \t\r\n"))
}
