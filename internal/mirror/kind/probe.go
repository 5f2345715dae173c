package kind

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
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

// Trace is what a mirror says of a sync in project/trace/NAME, which mirrors of Debian
// have. What is left zero is not told.
type Trace struct {
	// Host is the name by which clients know the mirror, which names the file; Machine its
	// own name, "" if that is the same.
	Host, Machine string
	// Upstream is the host that it was synced from, Software what did it, and with which
	// version.
	Upstream, Software string
	// Rsync says that it came by rsync.
	Rsync bool
	// Serial is that of the archive, as [ArchiveSerial] finds it.
	Serial string
	// Trigger is why the mirror was synced: "schedule", "trigger (master)".
	Trigger string
	// Architectures are those that the mirror has, sorted.
	Architectures []string
	// Maintainer, Sponsor, Country (two letters), Location and Throughput ("1Gb") are what the operator
	// tells of himself.
	Maintainer, Sponsor, Country, Location, Throughput string

	Began, Ended time.Time
	Bytes        int64 // that were received
}

// MasterTrace is the path of the file in which the archive tells its serial.
const MasterTrace = "project/trace/master"

// ArchiveSerial finds the serial in a [MasterTrace], "" if there is none.
func ArchiveSerial(master []byte) string {
	const most = 64 // of digits, and so of a file that is none
	for line := range strings.Lines(string(master[:min(len(master), 64<<10)])) {
		name, value, ok := strings.Cut(line, ":")
		if value = strings.TrimSpace(value); ok && strings.EqualFold(name, "Archive serial") && len(value) <= most {
			return strings.Map(oneLine, value)
		}
	}
	return ""
}

// ArchitectureOf is the architecture of which a file of a Debian archive is an index: "amd64",
// "all", "source"; "" if it is none.
func ArchitectureOf(name string) string {
	folder, base := path.Split(name)
	folder = path.Base(folder)
	arch, binary := strings.CutPrefix(folder, "binary-")
	switch {
	case binary && strings.HasPrefix(base, "Packages"):
		return arch
	case folder == "source" && strings.HasPrefix(base, "Sources"):
		return folder
	}
	return ""
}

// Trace returns the file by which the project judges mirrors like this one; "" for a
// format that has none. The fields are those that archvsync defines for ftpsync.
func (k *Kind) Trace(t Trace) (name string, content []byte) {
	if k.config.Format != Deb || t.Host == "" || strings.ContainsAny(t.Host, "/\x00\n") || t.Host[0] == '.' || t.Host[0] == '_' {
		return "", nil
	}
	const form = "Mon Jan _2 15:04:05 UTC 2006"
	ended := t.Ended.UTC()
	took := int64(t.Ended.Sub(t.Began) / time.Second)
	transport := ""
	if t.Rsync {
		transport = "plain"
	}
	wanted := "ALL"
	if len(k.config.Architectures) > 0 {
		wanted = "INCLUDE " + strings.Join(k.config.Architectures, " ")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", ended.Format(form))
	for _, f := range [...]struct{ name, value string }{
		{"Date", ended.Format(time.RFC1123Z)},
		{"Date-Started", t.Began.UTC().Format(time.RFC1123Z)},
		{"Archive serial", t.Serial},
		{"Creator", t.Software},
		{"Running on host", cmp.Or(t.Machine, t.Host)},
		{"Maintainer", t.Maintainer},
		{"Sponsor", t.Sponsor},
		{"Country", t.Country},
		{"Location", t.Location},
		{"Throughput", t.Throughput},
		{"Trigger", t.Trigger},
		{"Architectures", strings.Join(t.Architectures, " ")},
		{"Architectures-Configuration", wanted},
		{"Upstream-mirror", t.Upstream},
		{"Rsync-Transport", transport},
		{"Total bytes received in rsync", strconv.FormatInt(t.Bytes, 10)},
		{"Total time spent in rsync", strconv.FormatInt(took, 10)},
		{"Average rate", fmt.Sprintf("%d B/s", t.Bytes/max(took, 1))},
	} {
		if value := strings.Map(oneLine, f.value); value != "" {
			fmt.Fprintf(&b, "%s: %s\n", f.name, value)
		}
	}
	return path.Join("project/trace", t.Host), []byte(b.String())
}

func oneLine(r rune) rune {
	if r < ' ' {
		return -1
	}
	return r
}
