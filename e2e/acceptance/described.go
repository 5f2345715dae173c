package acceptance

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Described looks whether the checks are numbered from 1, each has its row in a page of
// the documentation, and every test that shows one exists. root is the folder of the
// module.
func Described(checks []Check, root, page string) error {
	docs, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		return err
	}
	var problems []error
	code := make(map[Tests]string)
	for i, c := range checks {
		if c.Number != i+1 || !strings.Contains(string(docs), fmt.Sprintf("\n| %d | %s |", c.Number, c.Name)) {
			problems = append(problems, fmt.Errorf("check %d, %q, is not described", c.Number, c.Name))
		}
		for _, p := range c.Proofs {
			where, ok := p.Step.(Tests)
			if !ok {
				continue
			}
			if code[where] == "" {
				if code[where], err = testsOf(filepath.Join(root, string(where))); err != nil {
					return err
				}
			}
			name, inside, _ := strings.Cut(p.Name, "/")
			if !strings.Contains(code[where], "func "+name+"(t *testing.T)") || inside != "" && !strings.Contains(code[where], fmt.Sprintf("t.Run(%q", inside)) {
				problems = append(problems, fmt.Errorf("check %d: %s has no test %s", c.Number, where, p.Name))
			}
		}
	}
	return errors.Join(problems...)
}

// testsOf is the code of the tests in a folder.
func testsOf(folder string) (string, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		return "", err
	}
	var code strings.Builder
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		code.Write(text)
	}
	return code.String(), nil
}
