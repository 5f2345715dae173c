package repository

import (
	"errors"
	"fmt"
	"strings"

	"freshet/internal/flatpak"
)

// ErrForeignMedia says that a build brings screenshots or icons for an
// application that is not its own.
var ErrForeignMedia = errors.New("media of another application")

// mediaName returns the part of a path below mediaDir that says whose file it
// is. It begins with the id of a component. Tools lay out their media in two
// ways: flatpak-builder has ID-BRANCH/SIZE/ID-HASH.png or the like, and
// appstream's compose org/example/App/HASH/…, or o/or/org.example.App/HASH/…
// where the id does not begin with a top-level domain.
func mediaName(path string) string {
	parts := strings.SplitN(strings.TrimPrefix(path, mediaDir), "/", 4)
	if len(parts) < 4 || strings.Contains(parts[0]+parts[1], ".") {
		return parts[0]
	}
	if id := parts[2]; len(id) > 2 && parts[0] == id[:1] && parts[1] == id[:2] {
		return id
	}
	return strings.Join(parts[:3], ".")
}

// ids is a set of ids of applications and runtimes.
type ids map[string]bool

// idsOf returns the ids that a build is about: that it was created for and those
// of its refs.
func idsOf(appID string, refs map[string]string) ids {
	all := ids{}
	if appID != "" {
		all[appID] = true
	}
	for ref := range refs {
		all.add(ref)
	}
	return all
}

// add adds the id of a ref, if it has one.
func (all ids) add(ref string) {
	if parsed, err := flatpak.ParseRef(ref); err == nil {
		all[parsed.ID] = true
	}
}

// owner returns the id that a name belongs to: the longest one that it is, or goes
// on after with a period or dash; "" for none of them.
func (all ids) owner(name string) string {
	for end := len(name); end > 0; end = strings.LastIndexAny(name[:end], ".-") {
		if all[name[:end]] {
			return name[:end]
		}
	}
	return ""
}

// checkOwner tells whether the files belong to ids of the build. A name that
// belongs to a longer id among the others is theirs: org.test.App-Extra/1.png
// is org.test.App's only as long as there is no org.test.App-Extra.
func (all ids) checkOwner(files []medium, others ids) error {
	for _, file := range files {
		name := mediaName(file.path)
		mine := all.owner(name)
		if theirs := others.owner(name); mine == "" || len(theirs) > len(mine) {
			return fmt.Errorf("%w: %.200q is not named after an id of the build", ErrForeignMedia, file.path)
		}
	}
	return nil
}

// known returns the ids of what is published and planned.
func (p *publication) known() ids {
	all := ids{}
	for ref := range p.r.index.Refs() {
		all.add(ref)
	}
	for ref := range p.refs {
		all.add(ref)
	}
	return all
}
