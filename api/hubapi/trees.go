package hubapi

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"strings"
)

// TreeReason says in a word why a file stops the publish of a tree.
type TreeReason string

// The reasons.
const (
	// TreeMissing: the metadata name the file, and it is not in the tree.
	TreeMissing TreeReason = "missing"
	// TreeSize: the file has another size than the metadata say.
	TreeSize TreeReason = "size"
	// TreeChecksum: the file has another checksum than the metadata say.
	TreeChecksum TreeReason = "checksum"
	// TreeOutside: the metadata name a path that leads out of the tree.
	TreeOutside TreeReason = "outside"
	// TreeMalformed: the file is not what its name promises.
	TreeMalformed TreeReason = "malformed"
	// TreeUnsigned: the tree has keys in the hub's configuration, and the file
	// has no signature.
	TreeUnsigned TreeReason = "unsigned"
	// TreeSignature: the file has a signature, and it is not a good one of one
	// of the tree's keys.
	TreeSignature TreeReason = "signature"
)

// TreeProblem is one thing that stops the publish of a tree.
type TreeProblem struct {
	// File is the path in the tree, cut off after some 1000 bytes. Of a path
	// that leads out of the tree it is what the metadata say.
	File   string     `json:"file"`
	Reason TreeReason `json:"reason"`
	// By is the metadata file that names File; absent if File itself is wrong.
	By string `json:"by,omitempty"`
	// Want is what By says and Got what was found: a number of bytes, or a
	// checksum as "sha256:0a1b…".
	Want string `json:"want,omitempty"`
	Got  string `json:"got,omitempty"`
	// Detail says more, for a person.
	Detail string `json:"detail,omitempty"`
}

// String is the problem in one line, without By.
func (p TreeProblem) String() string {
	file := quoteOdd(p.File)
	switch p.Reason {
	case TreeMissing:
		return file + " is not in the tree"
	case TreeSize:
		return fmt.Sprintf("%s has %s bytes, but should have %s", file, p.Got, p.Want)
	case TreeChecksum:
		kind, want, _ := strings.Cut(p.Want, ":")
		return fmt.Sprintf("%s has the %s %s, but should have %s", file, kind, strings.TrimPrefix(p.Got, kind+":"), want)
	case TreeOutside:
		return file + " is outside the tree"
	case TreeUnsigned:
		return file + " is not signed" + detail(", ", p.Detail)
	case TreeMalformed, TreeSignature:
	}
	return file + detail(": ", p.Detail)
}

// ProblemLines yields the problems as lines for people, each with the file that
// names what is missing or different.
func (e *Error) ProblemLines() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, p := range e.Problems {
			line := p.String()
			if p.By != "" {
				line += " (named by " + quoteOdd(p.By) + ")"
			}
			if !yield(line) {
				return
			}
		}
		if e.MoreProblems > 0 {
			yield(fmt.Sprintf("and %d more that are not listed", e.MoreProblems))
		}
	}
}

func detail(separator, text string) string {
	if text == "" {
		return ""
	}
	return separator + text
}

// quoteOdd quotes a path that would not show as it is.
func quoteOdd(file string) string {
	if quoted := fmt.Sprintf("%q", file); quoted != `"`+file+`"` {
		return quoted
	}
	return file
}

// TreeRollbackRequest asks that a tree has again what an older generation had.
type TreeRollbackRequest struct {
	// Generation is the number of the older one, which is still readable.
	Generation int64 `json:"generation"`
}

// RollbackTree publishes the content of an older generation, which must be
// readable still, as a new one. Asking again, when the answer was lost, changes
// nothing more: the answer is the current generation, with Unchanged.
func (c *Client) RollbackTree(ctx context.Context, tree string, generation int64) (Generation, error) {
	var g Generation
	if err := checkName("tree", tree); err != nil {
		return g, err
	}
	return g, treeErr("roll back", tree, c.send(ctx, http.MethodPost, TreePath(tree, "rollback"), TreeRollbackRequest{Generation: generation}, &g))
}
