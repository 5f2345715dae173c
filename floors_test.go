// Package freshet holds no code: it is where the test of the floors lives.
package freshet

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"

	"freshet/internal/peertest"
)

// listed is what go list tells about a package.
type listed struct {
	ImportPath string
	GoFiles    []string // without those of tests
	Imports    []string
	Doc        string
}

const module = "freshet"

// Every package has a floor in ARCHITECTURE.md, imports only downwards, or
// sideways below floor 3, and has a package comment.
func TestFloors(t *testing.T) {
	floors := readFloors(t)
	used := make(map[string]bool)
	for _, pkg := range listPackages(t) {
		name := strings.TrimPrefix(strings.TrimPrefix(pkg.ImportPath, module), "/")
		if name == "" {
			continue
		}
		if pkg.Doc == "" && len(pkg.GoFiles) > 0 {
			t.Errorf("%s has no package comment", name)
		}
		floor, row, ok := floorOf(floors, name)
		if !ok {
			t.Errorf("%s has no floor: add it to the table in ARCHITECTURE.md", name)
			continue
		}
		used[row] = true
		for _, imported := range pkg.Imports {
			target, inside := strings.CutPrefix(imported, module+"/")
			if !inside {
				if strings.HasPrefix(name, "api/") && strings.Contains(strings.Split(imported, "/")[0], ".") {
					t.Errorf("%s imports %s: api packages import the standard library only", name, imported)
				}
				continue
			}
			below, targetRow, ok := floorOf(floors, target)
			switch {
			case !ok:
				continue // reported above
			case testOnly(target) && !testOnly(name):
				t.Errorf("%s imports %s, which is for tests", name, target)
			case strings.HasPrefix(name, "api/"):
				t.Errorf("%s imports %s: api packages import the standard library only", name, target)
			case below > floor:
				t.Errorf("%s (floor %d) imports %s (floor %d): imports go down", name, floor, target, below)
			case below == floor && floor >= 3 && row != targetRow && !testOnly(target):
				t.Errorf("%s imports its neighbour %s: roles meet in api/", name, target)
			}
		}
	}
	for row := range floors {
		if !used[row] {
			t.Errorf("ARCHITECTURE.md lists %s, which does not exist", row)
		}
	}
}

// testOnly tells packages that only tests may import.
func testOnly(name string) bool { return strings.HasSuffix(path.Base(name), "test") }

// floorOf finds the row of a package: its own, or that of the nearest folder
// around it.
func floorOf(floors map[string]int, name string) (floor int, row string, ok bool) {
	for row = name; row != "." && row != "/"; row = path.Dir(row) {
		if floor, ok = floors[row]; ok {
			return floor, row, true
		}
	}
	return 0, "", false
}

// readFloors reads the rows "| `internal/ostree` | 1 | … |" of the table.
func readFloors(t *testing.T) map[string]int {
	t.Helper()
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	floors := make(map[string]int)
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9/-]+)` \\| ([0-5]) \\|").FindAllStringSubmatch(string(text), -1) {
		floors[m[1]] = int(m[2][0] - '0')
	}
	if len(floors) == 0 {
		t.Fatal("found no table of floors in ARCHITECTURE.md")
	}
	return floors
}

func listPackages(t *testing.T) []listed {
	t.Helper()
	out, err := peertest.Command(t, "go", "list", "-json=ImportPath,GoFiles,Imports,Doc", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}
