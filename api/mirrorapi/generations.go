package mirrorapi

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// GenerationsPrefix begins the paths on the public listener by which mirrors downstream
// follow a project and fetch whole generations of it.
const GenerationsPrefix = "/.freshet/generations/"

// HeadPath answers GET with the [Head] of a project. With the query parameters after, the
// name of a generation, and wait, a duration, the answer is held back while that one is
// served, for so long at most. A project of which nothing is served yet is 503.
func HeadPath(project string) string { return GenerationsPrefix + url.PathEscape(project) }

// ManifestPath is the manifest of a generation, as it is on the disk of the mirror. A
// generation that the mirror has not any more is 410.
func ManifestPath(project, generation string) string {
	return HeadPath(project) + "/" + url.PathEscape(generation) + "/manifest"
}

// DeltaPath is what leads from the manifest of one generation, base, to that of another. A
// mirror that has one of them not any more, or finds too much that differs, has none: 410, 404.
func DeltaPath(project, generation, base string) string {
	return HeadPath(project) + "/" + url.PathEscape(generation) + "/delta/" + url.PathEscape(base)
}

// TreePath begins the paths of the files of a generation. It ends in a slash.
func TreePath(project, generation string) string {
	return HeadPath(project) + "/" + url.PathEscape(generation) + "/tree/"
}

// MaxHeadWait bounds how long the answer with a [Head] is held back.
const MaxHeadWait = time.Minute

// Head says which generation of a project a mirror serves.
type Head struct {
	Project string `json:"project"`
	// Generation is its name in the world, Manifest the SHA-256 of the text of its
	// manifest, in hexadecimal.
	Generation string `json:"generation"`
	Manifest   string `json:"manifest"`
	// Switched is since when it is served. It grows with each generation of the project,
	// also with one that is taken up again.
	Switched time.Time `json:"switched"`
	Files    int64     `json:"files"`
	Links    int64     `json:"links"`
	Bytes    int64     `json:"bytes"`
	// Stamps are the paths of files in the tree that are in no manifest, and change within
	// a generation.
	Stamps []string `json:"stamps,omitempty"`
}

// Head returns which generation of a project the mirror serves: at once, or, if it is that
// named after, when there is another one or so much time has passed. Base is the
// URL of the public listener.
func (c *Client) Head(ctx context.Context, project, after string, wait time.Duration) (h Head, err error) {
	path := HeadPath(project)
	if wait > 0 {
		path += "?" + url.Values{"after": {after}, "wait": {wait.String()}}.Encode()
	}
	err = c.callBounded(ctx, maxHead, http.MethodGet, path, nil, &h)
	return h, err
}
