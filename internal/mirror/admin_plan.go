package mirror

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"net/http"
	"path/filepath"

	"freshet/api/mirrorapi"
	"freshet/internal/durable"
	"freshet/internal/layout"
	"freshet/internal/mirror/generation"
	"freshet/internal/mirror/kind"
	"freshet/internal/mirror/plan"
)

// answerPlan finds out what a project will take.
func (m *mirror) answerPlan(w http.ResponseWriter, r *http.Request, v *visit) error {
	p, err := m.held(v)
	if err != nil {
		return err
	}
	if !m.planning.TryLock() {
		return refuse(http.StatusConflict, "conflict", "another plan is being made: try again soon")
	}
	defer m.planning.Unlock()
	now := m.now.Load()
	cfg, synced := now.cfg.Projects[v.project], now.projects[v.project]
	if synced == nil {
		return m.known(v) // it is not any more
	}
	held, err := heldFiles(m.store, p)
	if err != nil {
		return err
	}
	made, err := plan.Make(r.Context(), plan.Options{
		Kind: synced.Kind, Upstream: &synced.Upstream, Folder: filepath.Join(now.cfg.Directory, "state", "plan"),
		Held: held, Shelf: p, Rate: int64(cmp.Or(cfg.Limit, now.cfg.Limits.Bandwidth)),
	})
	switch {
	case durable.IsNoSpace(err):
		return full("the metadata cannot be read")
	case err != nil:
		return refuse(http.StatusBadGateway, "unavailable", "the metadata cannot be read: %v", err)
	}
	disk, err := m.disk()
	if err != nil {
		return err
	}
	made.Project, made.Free = v.project, disk.ForNew
	if p.Current() != nil {
		made.Free = max(disk.Free-disk.Reserve-disk.UnderWay, 0)
	}
	switch {
	case made.Fetch.Bytes > made.Free:
		made.Room = mirrorapi.RoomShort
	case made.Unsized > 0:
		made.Room = mirrorapi.RoomUnknown
	default:
		made.Room, made.Fits = mirrorapi.RoomEnough, true
	}
	if cfg.HotSet > 0 {
		made.Notes = append(made.Notes, fmt.Sprintf("a hot set: what is asked for most is fetched as it is asked for, up to %s, and not counted here", cfg.HotSet))
	}
	if len(cfg.Keys) == 0 && cfg.Kind != string(kind.Plain) { // which has none
		made.Notes = append(made.Notes, "signatures will not be checked: there are no keys")
	}
	writeJSON(w, http.StatusOK, made)
	return nil
}

// heldFile is what tells a file of the current generation from others.
type heldFile struct {
	size    int64
	modTime int64  // in seconds since 1970
	sum     uint64 // of its SHA-256
}

// heldFiles says of which files a project needs nothing from upstream: its current
// generation has them, or any project does under their hash.
func heldFiles(store *generation.Store, p *generation.Project) (func(kind.File, bool) (int64, bool), error) {
	seed, files := maphash.MakeSeed(), make(map[uint64]heldFile)
	if now := p.Current(); now != nil {
		for f, err := range now.Files() {
			if err != nil {
				return nil, err
			}
			files[maphash.String(seed, f.Path)] = heldFile{f.Size, f.ModTime.Unix(), maphash.Bytes(seed, f.SHA256[:])}
		}
	}
	return func(f kind.File, current bool) (int64, bool) {
		if f.Link != "" {
			return 0, true // there is nothing to fetch
		}
		have, ok := files[maphash.String(seed, f.Path)]
		ok = ok && (f.Size < 0 || f.Size == have.size)
		sum, known := f.Sum.SHA256()
		switch {
		case !ok:
		case known:
			ok = have.sum == maphash.Bytes(seed, sum[:])
		case f.Sum.Value != "": // to compare it, the file would have to be read
		case !f.ModTime.IsZero():
			ok = f.ModTime.Unix() == have.modTime
		default: // what nothing is told of does not change under its name, or may
			ok = current || f.Class == layout.Payload
		}
		if ok {
			return have.size, true
		}
		if !known {
			return 0, false
		}
		object, err := store.Object(sum)
		if err != nil {
			return 0, false
		}
		defer object.Close() //nolint:errcheck // read only
		info, err := object.Stat()
		if err != nil {
			return 0, false
		}
		return info.Size(), true
	}, nil
}
