// Package rsync runs the system's rsync, which is the client of rsync servers that
// Freshet knows: no shell is involved, nothing of the caller's environment is handed
// on, and what comes from a server is bounded.
//
//	List    the tree below a folder
//	Fetch   files by their names, into a folder
//
// Where the kernel has Landlock, the process reads what programs need, writes below the
// one folder that it is given, and, if the caller dials for it, reaches no TCP port but one
// on loopback, behind which the caller's connection is.
package rsync

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Program is an rsync that has been found. It may be used by several goroutines at
// once; each call runs a process of its own.
type Program struct {
	path    string
	version Version
}

// Version is that of an rsync, "3.4.3" for instance.
type Version struct{ Major, Minor, Patch int }

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// Before reports whether v is older than other.
func (v Version) Before(other Version) bool {
	if v.Major != other.Major {
		return v.Major < other.Major
	}
	if v.Minor != other.Minor {
		return v.Minor < other.Minor
	}
	return v.Patch < other.Patch
}

// Floor is the oldest version that speaks with servers of others. Those before it
// have holes that a server can use against its client; twelve of them were closed up
// to this one.
func Floor() Version { return Version{3, 4, 3} }

// ErrAbsent is wrapped by the error of [Find] if there is no rsync, ErrOld if it is
// older than [Floor].
var (
	ErrAbsent = errors.New("rsync is not installed")
	ErrOld    = errors.New("rsync is too old")
)

// Options say which rsync to use: the table rsync of a role. The zero value is the one
// in PATH, of version [Floor] or newer.
type Options struct {
	// Path is the program. Default: "rsync", looked for in PATH.
	Path string `toml:"path"`

	// AnyVersion takes a program that is older than 3.4.3, of a system that mends old
	// versions without giving them a new number. Default false.
	AnyVersion bool `toml:"any-version"`
}

// Find finds rsync and asks it for its version, which takes a few milliseconds.
func Find(ctx context.Context, o Options) (*Program, error) {
	name := o.Path
	if name == "" {
		name = "rsync"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, fmt.Errorf("%w: install it, or set where it is: %w", ErrAbsent, err)
	}
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.Env = environment()
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("ask %s for its version: %w", path, err)
	}
	v, err := parseVersion(string(out))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if v.Before(Floor()) && !o.AnyVersion {
		return nil, fmt.Errorf("%w: %s is version %v, and servers can attack those before %v: upgrade it, or set any-version if your system mends old versions", ErrOld, path, v, Floor())
	}
	return &Program{path: path, version: v}, nil
}

// Version is that of the program.
func (p *Program) Version() Version { return p.version }

// parseVersion reads what "rsync --version" says: "rsync  version v3.4.3 …".
func parseVersion(out string) (Version, error) {
	line, _, _ := strings.Cut(out, "\n")
	words := strings.Fields(line)
	if len(words) < 3 || words[0] != "rsync" || words[1] != "version" {
		return Version{}, fmt.Errorf("it does not tell its version: %.60q", line)
	}
	var v Version
	parts := []*int{&v.Major, &v.Minor, &v.Patch}
	for i, text := range strings.SplitN(strings.TrimPrefix(words[2], "v"), ".", len(parts)) {
		digits := text[:len(text)-len(strings.TrimLeft(text, "0123456789"))] // "0pre1" is before 0, and counts as it
		n, err := strconv.Atoi(digits)
		if err != nil {
			return Version{}, fmt.Errorf("version %.60q: %w", words[2], err)
		}
		*parts[i] = n
	}
	return v, nil
}

// environment is all that rsync sees of one: times in UTC, names as bytes, and no
// proxy, password or program to connect with.
func environment() []string { return []string{"LC_ALL=C", "TZ=UTC"} }

// CheckURL returns what is wrong with the URL of a folder on an rsync server:
// "rsync://HOST[:PORT]/MODULE/[PATH/]".
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return err
	case u.Scheme != "rsync" || u.Host == "" || u.Hostname() == "" || u.Opaque != "":
		return fmt.Errorf("%q: want rsync://host/module/", text)
	case u.User != nil:
		return fmt.Errorf("%q: want no user: only what is public is listed", u.Redacted())
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(text, "#"):
		return fmt.Errorf("%q: want no \"?\" and no \"#\"", text)
	case strings.Trim(u.Path, "/") == "":
		return fmt.Errorf("%q: want the name of a module", text)
	case strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("%q: want no control characters", text)
	}
	return nil
}

// seconds is a duration for an option of rsync: rounded up, at least 1.
func seconds(d time.Duration) string {
	return strconv.FormatInt(max(1, int64((d+time.Second-1)/time.Second)), 10)
}
