package mirror

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/durable"
	"freshet/internal/mirror/generation"
	"freshet/internal/page"
)

// maxDamages bounds how many damaged files of a project are remembered by name.
const maxDamages = 1000

// damages remembers which files checks have found damaged, until they are as they should be:
// in the file damage-PROJECT.json of the state. It is safe for concurrent use.
type damages struct {
	dir durable.Dir

	mu sync.Mutex
	of map[string]*damage // by project, of those that were read
}

// damage is what is wrong with the files of a project.
type damage struct {
	Files []damagedFile `json:"files"`
	// More is how many others there are.
	More int64 `json:"more,omitempty"`
}

// damagedFile is a file that is not what it should be.
type damagedFile struct {
	mirrorapi.BadFile

	SHA256 string    `json:"sha256,omitempty"` // that it should have
	Found  time.Time `json:"found"`
	// Removed says that it was taken out of service: when it is there again, it is right.
	Removed bool `json:"removed,omitempty"`
}

// damageFile is the name of the file with what is damaged of a project.
func damageFile(project string) string { return "damage-" + project + ".json" }

// load returns what is damaged of a project. It is called with mu.
func (d *damages) load(project string) (*damage, error) {
	if known := d.of[project]; known != nil {
		return known, nil
	}
	found := new(damage)
	text, err := d.dir.Root.ReadFile(damageFile(project))
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: %w", damageFile(project), err)
	case err == nil && json.Unmarshal(text, found) != nil:
		found = new(damage) // the next check finds it again
	}
	if d.of == nil {
		d.of = make(map[string]*damage)
	}
	d.of[project] = found
	return found, nil
}

// save keeps what is damaged of a project. It is called with mu.
func (d *damages) save(project string) error {
	now := d.of[project]
	if len(now.Files) == 0 && now.More == 0 {
		return d.dir.Remove(damageFile(project))
	}
	text, err := json.Marshal(now)
	if err != nil {
		return err
	}
	return d.dir.WriteFile(damageFile(project), append(text, '\n'), 0o644)
}

// begin takes note that all files are going to be read: what is not known by name is found
// again.
func (d *damages) begin(project string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	now, err := d.load(project)
	if err != nil || now.More == 0 {
		return err
	}
	now.More = 0
	return d.save(project)
}

// found takes note of a file that is damaged.
func (d *damages) found(project string, f damagedFile) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	now, err := d.load(project)
	if err != nil {
		return err
	}
	switch i := slices.IndexFunc(now.Files, func(other damagedFile) bool { return other.Path == f.Path }); {
	case i >= 0:
		now.Files[i] = f
	case len(now.Files) < maxDamages:
		now.Files = append(now.Files, f)
	default:
		now.More++
	}
	return d.save(project)
}

// right takes note of a file that is as it should be.
func (d *damages) right(project, path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	now, err := d.load(project)
	if err != nil || len(now.Files) == 0 {
		return err
	}
	left := slices.DeleteFunc(now.Files, func(f damagedFile) bool { return f.Path == path })
	if len(left) == len(now.Files) {
		return nil
	}
	now.Files = left
	return d.save(project)
}

// forget forgets a project.
func (d *damages) forget(project string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.of, project)
	return d.dir.Remove(damageFile(project))
}

// left is what is damaged of the generation that is served: without what was fetched again,
// or is not in it any more.
func (d *damages) left(project string, g *generation.Generation) (damage, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now, err := d.load(project)
	if err != nil || g == nil || len(now.Files) == 0 && now.More == 0 {
		return damage{}, err
	}
	finder, err := g.Finder()
	if err != nil {
		return damage{}, err
	}
	defer finder.Close() //nolint:errcheck // opened for reading
	before := len(now.Files)
	now.Files = slices.DeleteFunc(now.Files, func(f damagedFile) bool {
		over, ferr := isOver(f, g, finder)
		err = errors.Join(err, ferr)
		return over
	})
	if len(now.Files) < before {
		err = errors.Join(err, d.save(project))
	}
	return damage{Files: slices.Clone(now.Files), More: now.More}, err
}

// isOver reports whether a file that was damaged is so no more.
func isOver(f damagedFile, g *generation.Generation, finder *generation.Finder) (bool, error) {
	want, ok, err := finder.Find(f.Path)
	if err != nil {
		return false, err
	}
	if !ok || !want.IsLink() && hex.EncodeToString(want.SHA256[:]) != f.SHA256 {
		return true, nil // it is another one, or none
	}
	if !f.Removed && f.Reason != badMissing {
		return false, nil
	}
	file, err := g.Open(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = file.Close()
	}
	return err == nil, nil // what cannot be opened is not right
}

// count is how many files are damaged.
func (d *damage) count() int64 { return int64(len(d.Files)) + d.More }

// finding says what is damaged.
func (d *damage) finding(project string, held bool) mirrorapi.Finding {
	const named = 5
	f := mirrorapi.Finding{
		Level: mirrorapi.LevelError, About: "project " + project,
		Do: "freshet mirror verify " + project + " --repair takes them out of service and fetches them again; see whether the disk is failing",
	}
	var names []string
	removed := d.More == 0
	var last time.Time
	for i, bad := range d.Files {
		if i < named {
			names = append(names, fmt.Sprintf("%s: %q", bad.Reason, bad.Path))
		}
		removed = removed && bad.Removed
		if bad.Found.After(last) {
			last = bad.Found
		}
	}
	if more := d.count() - int64(len(names)); more > 0 {
		names = append(names, page.Plural(more, "other", "others"))
	}
	f.Message = fmt.Sprintf("%s, as a check found at %s: %s",
		page.Plural(d.count(), "file is not what it should be", "files are not what they should be"), last.Format(time.RFC3339), strings.Join(names, ", "))
	switch {
	case removed && held:
		f.Do = "they are out of service, and fetched again when the project is released: freshet mirror release " + project
	case removed:
		f.Do = "they are out of service until the next sync has fetched them: freshet mirror sync " + project + " --force"
	}
	return f
}
