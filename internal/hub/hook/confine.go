package hook

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"freshet/internal/landlock"

	"golang.org/x/sys/unix"
)

// Confines reports whether this kernel confines commands.
func Confines() bool { return landlock.Confines() }

// ConfinesPorts reports whether this kernel confines commands to ports.
func ConfinesPorts() bool { return landlock.ConfinesPorts() }

// confine takes from this thread, and from whatever it starts, what the command
// has no need of.
func (c *Command) confine(home string) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	dropCapabilities()
	if !c.Sockets {
		if err := denySockets(); err != nil {
			return err
		}
	}
	if !Confines() {
		return nil
	}
	hidden, err := realPaths(c.Hidden)
	if err != nil {
		return err
	}
	rules, err := landlock.New(landlock.Scope{Ports: c.Ports != nil, Sockets: !c.Sockets})
	if err != nil {
		return err
	}
	defer rules.Close()
	// Names are no secret: a rule for a folder is one for all below, and so those
	// on the way to what is hidden could not be listed otherwise.
	rules.Allow("/", landlock.List)
	for _, path := range visible("/", hidden) {
		rules.Allow(path, landlock.Read)
	}
	for _, path := range c.Shown {
		rules.Allow(path, landlock.Read)
	}
	for _, path := range append([]string{home}, c.Writable...) {
		rules.Allow(path, landlock.All)
	}
	rules.Allow("/dev", landlock.Read|landlock.Write|landlock.Devices)
	for _, port := range c.Ports {
		rules.AllowPort(port)
	}
	return rules.Enforce()
}

// dropCapabilities sees to it that a program started as root gets none of its
// capabilities. Others have none to drop, and may not: that is no error.
func dropCapabilities() {
	for capability := range uintptr(64) {
		if unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0) != nil {
			return // beyond the last one, or not root
		}
	}
}

// visible returns paths that together hold everything below dir but what is
// hidden.
func visible(dir string, hidden []string) []string {
	if !slices.ContainsFunc(hidden, func(path string) bool { return below(path, dir) }) {
		return []string{dir}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // what cannot be listed is not shown either
	}
	var all []string
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		// Of a link its target counts, which is found in its own place.
		if entry.Type()&fs.ModeSymlink == 0 && !slices.Contains(hidden, path) {
			all = append(all, visible(path, hidden)...)
		}
	}
	return all
}

// below reports whether a path lies in a folder, and is not the folder itself.
func below(path, dir string) bool {
	return path != dir && strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// realPaths resolves links, and leaves out what does not exist.
func realPaths(paths []string) ([]string, error) {
	var all []string
	for _, path := range paths {
		path, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		path, err = filepath.EvalSymlinks(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, err
		default:
			all = append(all, path)
		}
	}
	return all, nil
}
