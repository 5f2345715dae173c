package fetch

import (
	"fmt"
	"strings"
)

// Each is what sources have said, one after the other, of what none of them gave: its text names
// each of them.
type Each []error

// Said adds to e what the source at a URL has said, and returns it. An error that names the
// URL itself stays as it is.
func (e Each) Said(url string, err error) Each {
	if err == nil {
		return e
	}
	if !strings.Contains(err.Error(), strings.TrimRight(url, "/")) {
		err = fmt.Errorf("%s: %w", url, err)
	}
	return append(e, err)
}

// Err is nil for none, and the one error if there is one.
func (e Each) Err() error {
	switch len(e) {
	case 0:
		return nil
	case 1:
		return e[0]
	}
	return e
}

func (e Each) Error() string {
	texts := make([]string, len(e))
	for i, err := range e {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap implements [errors.Is] for each of them.
func (e Each) Unwrap() []error { return e }
