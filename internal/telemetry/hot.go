package telemetry

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"freshet/api/watchapi"
)

const (
	// hotPaths is how many paths of a project are told of, hotRoom how many are told
	// apart until then.
	hotPaths = 1000
	hotRoom  = 20_000
	// hotEvery is how often they are told.
	hotEvery = minute
)

// pathID is that of a path, see [watchapi.CubeHot].
type pathID [8]byte

func pathIDOf(project, path string) (id pathID) {
	sum := sha256.Sum256([]byte(project + "/" + path))
	copy(id[:], sum[:])
	return id
}

// hot counts which files of a project are asked for.
type hot struct {
	paths map[pathID]*cell
	rest  cell
}

func (h *hot) add(id pathID, requests, bytes int64) {
	c := h.paths[id]
	if c == nil {
		if c = &h.rest; len(h.paths) < hotRoom {
			if h.paths == nil {
				h.paths = make(map[pathID]*cell)
			}
			c = new(cell)
			h.paths[id] = c
		}
	}
	c.requests += requests
	c.bytes += bytes
}

// take appends the files from which most bytes were sent, and what all others come to.
func (h *hot) take(to []watchapi.Line, project string, at int64) []watchapi.Line {
	ids := make([]pathID, 0, len(h.paths))
	for id := range h.paths {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b pathID) int {
		return cmp.Or(-cmp.Compare(h.paths[a].bytes, h.paths[b].bytes), slices.Compare(a[:], b[:]))
	})
	line := func(path string, c *cell) {
		to = append(to, watchapi.Line{Count: &watchapi.Count{
			Cube: watchapi.CubeHot, Width: hour, At: at - at%hour, Labels: []string{project, path}, Requests: c.requests, Bytes: c.bytes,
		}})
	}
	for i, id := range ids {
		if c := h.paths[id]; i < hotPaths {
			line(hex.EncodeToString(id[:]), c)
		} else {
			h.rest.requests += c.requests
			h.rest.bytes += c.bytes
		}
	}
	if h.rest.requests > 0 || h.rest.bytes > 0 {
		line("rest", &h.rest)
	}
	*h = hot{}
	return to
}
