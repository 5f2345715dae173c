package versions

import (
	"slices"
	"time"
)

const (
	// hold is for how long no client is sent backwards.
	hold = time.Hour
	// watch is for how long a mirror that went back is looked at more closely.
	watch = 7 * 24 * time.Hour
	// remembered is how many versions of a repository are.
	remembered = 64
)

// sum is the SHA-256 of a pointer; zero is none.
type sum [32]byte

// version is one that the origin was seen with.
type version struct {
	Sum sum `json:"sum"`
	// Since is when it became the current one, and Until when another did.
	Since time.Time `json:"since"`
	Until time.Time `json:"until,omitzero"`
	// NotBefore is when it may be offered; zero: from Since on.
	NotBefore time.Time `json:"not_before,omitzero"`
	// Serial rises from one to the next.
	Serial int64 `json:"serial"`
}

// history are the versions of a repository, the current one last, none twice.
type history struct {
	Versions []version `json:"versions"`
	// Back is a superseded version that the origin shows again, BackSince since when
	// it has shown nothing else. Zero: it does not.
	Back      sum       `json:"back,omitzero"`
	BackSince time.Time `json:"back_since,omitzero"`
}

// current returns the last version, which is zero if there is none.
func (h *history) current() version {
	if len(h.Versions) == 0 {
		return version{}
	}
	return h.Versions[len(h.Versions)-1]
}

// find returns a version, and the one after it, which may be zero.
func (h *history) find(s sum) (v, next version, ok bool) {
	i := slices.IndexFunc(h.Versions, func(v version) bool { return v.Sum == s })
	if i < 0 {
		return version{}, version{}, false
	}
	if i+1 < len(h.Versions) {
		next = h.Versions[i+1]
	}
	return h.Versions[i], next, true
}

// serial returns that of a version, 0 for one that is not known.
func (h *history) serial(s sum) int64 {
	v, _, _ := h.find(s)
	return v.Serial
}

// saw takes what the origin shows now, and tells whether the history has changed, and
// whether there is another current version.
func (h *history) saw(s sum, now time.Time) (changed, newer bool) {
	last := h.current()
	if s == last.Sum && last.Serial != 0 {
		changed = h.Back != sum{}
		h.Back, h.BackSince = sum{}, time.Time{}
		return changed, false
	}
	next := version{Sum: s, Since: now, Serial: last.Serial + 1}
	if h.serial(s) != 0 {
		if h.Back != s {
			h.Back, h.BackSince = s, now
			return true, false
		}
		if now.Before(h.BackSince.Add(hold)) {
			return false, false
		}
		next.NotBefore = now.Add(hold)
		h.Versions = slices.DeleteFunc(h.Versions, func(v version) bool { return v.Sum == s })
	}
	if n := len(h.Versions); n > 0 {
		h.Versions[n-1].Until = now
	}
	h.Versions = append(h.Versions, next)
	if extra := len(h.Versions) - remembered; extra > 0 {
		h.Versions = slices.Delete(h.Versions, 0, extra)
	}
	h.Back, h.BackSince = sum{}, time.Time{}
	return true, true
}

// sighting is what was seen of a mirror.
type sighting struct {
	sum   sum
	since time.Time // of the first look that showed it, and nothing else since
	at    time.Time // of the last look
	// newest is the serial of the newest version that it has shown.
	newest int64
	// listed says that it was not seen, but listed.
	listed bool
	// back is when it last went back to an older version; zero: it has not.
	back time.Time
}

// saw takes a look, and tells whether the mirror went back by it.
func (m *sighting) saw(h *history, s sum, at time.Time) (wentBack bool) {
	if at.Before(m.at) {
		return false
	}
	former := h.serial(m.sum)
	m.newest = max(m.newest, former) // it may have been ahead of the origin's last look
	serial := h.serial(s)
	switch {
	case serial == 0:
	case serial < m.newest:
		wentBack = true
	case serial == m.newest && m.sum != s && m.sum != sum{} && former == 0:
		wentBack = true // from a pointer that the origin never showed
	}
	if wentBack {
		m.back = at
	}
	if s != m.sum || m.at.IsZero() {
		m.sum, m.since = s, at
	}
	m.at, m.newest = at, max(m.newest, serial)
	return wentBack
}

// standing tells whether the mirror shows the current version and has done so for long
// enough, and if not, why and since when. A look counts for as long as it is fresh.
func (m *sighting) standing(h *history, now time.Time, fresh time.Duration) (why Reason, since time.Time) {
	seen, next, known := h.find(m.sum)
	switch {
	case m.at.IsZero():
		return Unseen, time.Time{}
	case now.Sub(m.at) > fresh:
		return Unseen, m.at.Add(fresh)
	case !known:
		return Unknown, m.since
	case next.Serial != 0:
		return Older, seen.Until
	case !m.back.IsZero() && now.Sub(m.back) < watch && m.at.Sub(m.since) < hold:
		return WentBack, m.back
	}
	return Current, m.since
}
