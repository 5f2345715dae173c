package generation

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"freshet/internal/durable"
)

// Meta is what whoever makes a generation says of it.
type Meta struct {
	// Reason is why it was made, in one line.
	Reason string `json:"reason,omitempty"`
	// Repositories are the versions of the repositories in the tree.
	Repositories []Repository `json:"repositories,omitempty"`
	// Upstream is the generation of another mirror that all of it was taken from; nil: it is
	// from elsewhere, or from several.
	Upstream *Upstream `json:"upstream,omitempty"`
	// Selection describes what was wanted of the upstream, as the configuration says it.
	Selection string `json:"selection,omitempty"`
	// Notes say what could not be checked, each in one line.
	Notes []string `json:"notes,omitempty"`
}

// Upstream is a generation of another mirror: the URL of the project there, the
// generation's name, and when it was switched to.
type Upstream struct {
	URL        string    `json:"url"`
	Generation string    `json:"generation"`
	Switched   time.Time `json:"switched"`
}

// Repository is a version of a repository in a tree.
type Repository struct {
	// Path is that of its folder; empty: the whole tree.
	Path string `json:"path"`
	// Pointer is the path of its pointer, such as repodata/repomd.xml, and SHA256
	// that of the pointer in hexadecimal.
	Pointer string `json:"pointer"`
	SHA256  string `json:"sha256"`
	// Version is what the ecosystem calls it, such as a revision; Time is when it
	// was made. An older one is a rollback.
	Version string    `json:"version,omitempty"`
	Time    time.Time `json:"time,omitzero"`
	// Files and Bytes are those of the repository, as its indexes name them: what several
	// of them name counts several times.
	Files int64 `json:"files"`
	Bytes int64 `json:"bytes"`
	// Held says that the upstream had another version when this generation was made, and
	// that it was not taken over.
	Held bool `json:"held,omitempty"`
}

// Info tells of a generation.
type Info struct {
	Project string `json:"project"`
	// ID is a number with leading zeros. IDs grow, and none is given twice.
	ID string `json:"id"`
	// Manifest is the SHA-256 of the text of the manifest, in hexadecimal.
	Manifest string `json:"manifest"`
	// Begun is when its staging was begun, Switched when it became current the last
	// time, Superseded when another one took its place; zero while it is current.
	Begun      time.Time `json:"begun"`
	Switched   time.Time `json:"switched"`
	Superseded time.Time `json:"superseded,omitzero"`
	// Files and Links are the regular files and symbolic links, Folders the folders
	// that it needs, which are the inodes that it costs; Bytes are those of all
	// contents.
	Files   int64 `json:"files"`
	Links   int64 `json:"links"`
	Folders int64 `json:"folders"`
	Bytes   int64 `json:"bytes"`
	// AddedFiles and AddedBytes are what was fetched for it.
	AddedFiles int64 `json:"added_files"`
	AddedBytes int64 `json:"added_bytes"`
	// Stamps are the paths of files that the mirror has written into the tree itself.
	// They are in no manifest.
	Stamps []string `json:"stamps,omitempty"`
	Meta
}

// Name is the generation's name in the world: unlike the ID it is another one when
// the mirror was set up anew.
func (i Info) Name() string { return i.ID + "-" + i.Manifest[:min(12, len(i.Manifest))] }

const (
	infoName     = "generation.json"
	manifestName = "manifest.zst"
	treeName     = "tree"
)

type infoFile struct {
	Version int `json:"version"`
	Info
}

func readInfo(d durable.Dir, name string) (Info, error) {
	data, err := d.Root.ReadFile(name)
	if err != nil {
		return Info{}, err
	}
	var f infoFile
	if err := json.Unmarshal(data, &f); err != nil {
		return Info{}, fmt.Errorf("%s: %w: %w", name, errBroken, err)
	}
	if f.Version != 1 {
		return Info{}, fmt.Errorf("%s: %w %d", name, errVersion, f.Version)
	}
	return f.Info, nil
}

// errBroken says that a generation is none any more.
var errBroken = errors.New("it is broken")

// errVersion keeps a program from removing what a later one has written.
var errVersion = errors.New("this program knows format version 1, and not")

func (i Info) encode() ([]byte, error) {
	data, err := json.MarshalIndent(infoFile{Version: 1, Info: i}, "", " ")
	return append(data, '\n'), err
}
