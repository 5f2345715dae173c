package kind

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// Probe names the small files that tell whether anything has changed: as long as none of
// them has, neither has any repository. When complete is false, what lies beside the
// repositories may have, and only a listing tells.
func (k *Kind) Probe(repositories []Repository) (names []string, complete bool) {
	names = slices.Clone(k.config.Probe)
	for _, r := range repositories {
		names = append(names, r.Pointer)
		if r.Format == OSTree {
			// Clients of Flatpak read this one, and a repository may have no other.
			names = append(names, path.Join(path.Dir(r.Pointer), "summary.idx"))
		}
	}
	slices.Sort(names)
	named := len(k.config.Repositories) > 0 && !slices.ContainsFunc(k.patterns(), func(p string) bool { return strings.Contains(p, "*") })
	switch {
	case len(k.config.Probe) > 0:
		complete = true
	case k.config.Format == OSTree:
		complete = true
	default:
		complete = named && k.isPartial() && len(k.config.Include) == 0
	}
	return slices.Compact(names), complete
}

// Stamps names the files that the upstream writes anew all the time so that others can
// judge how fresh a mirror is. They are read before everything else, and put in place
// after it, also when nothing else has changed.
func (k *Kind) Stamps() []string {
	names := slices.Clone(k.config.Stamps)
	switch k.config.Format {
	case Arch:
		names = append(names, "lastsync", "lastupdate")
	case Alpine:
		names = append(names, "last-updated")
	case RPM, Deb, Images, OSTree, Plain: // only those of some projects
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Trace is what a mirror says of a sync in project/trace/HOST, which mirrors of Debian
// have.
type Trace struct {
	// Host is the mirror's name as its project knows it, Upstream that of the one that it
	// was synced from, and Software what did it.
	Host, Upstream, Software string
	Began, Ended             time.Time
	Bytes                    int64 // that were received
}

// Trace returns the file by which the project judges mirrors like this one; "" for a
// format that has none. The fields are those that ftpsync of archvsync writes.
func (k *Kind) Trace(t Trace) (name string, content []byte) {
	if k.config.Format != Deb || t.Host == "" || strings.ContainsAny(t.Host, "/\x00\n") || t.Host[0] == '.' {
		return "", nil
	}
	const form = "Mon Jan _2 15:04:05 UTC 2006"
	ended := t.Ended.UTC()
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", ended.Format(form))
	fmt.Fprintf(&b, "Date: %s\n", ended.Format(time.RFC1123Z))
	fmt.Fprintf(&b, "Date-Started: %s\n", t.Began.UTC().Format(time.RFC1123Z))
	for _, f := range [...]struct{ name, value string }{
		{"Creator", t.Software},
		{"Running on host", t.Host},
		{"Architectures", strings.Join(k.config.Architectures, " ")},
		{"Upstream-mirror", t.Upstream},
	} {
		if value := strings.Map(oneLine, f.value); value != "" {
			fmt.Fprintf(&b, "%s: %s\n", f.name, value)
		}
	}
	fmt.Fprintf(&b, "Total bytes received: %d\n", t.Bytes)
	fmt.Fprintf(&b, "Total time spent: %d\n", int64(t.Ended.Sub(t.Began)/time.Second))
	return path.Join("project/trace", t.Host), []byte(b.String())
}

func oneLine(r rune) rune {
	if r < ' ' {
		return -1
	}
	return r
}
