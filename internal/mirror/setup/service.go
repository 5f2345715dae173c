package setup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	units "freshet/contrib/systemd"
	"freshet/internal/durable"
)

// ServiceUser is the user that the unit of the mirror runs as.
const ServiceUser = "freshet-mirror"

// The unit of the mirror, and what it says of folder and configuration.
const (
	unitName      = "freshet-mirror.service"
	unitDirectory = "/srv/mirror"
	unitConfig    = "/etc/freshet/mirror.toml"
)

// ErrByHand says that the service was not begun: what is to be done was said.
var ErrByHand = errors.New("the mirror was not begun as a service: do the above")

// account is who the mirror runs as.
type account struct{ uid, gid int }

// lookUp finds a user of the machine.
func lookUp(name string) (a account, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		return a, err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return a, err
	}
	gid, err := strconv.Atoi(u.Gid)
	return account{uid, gid}, err
}

// own gives what was written to the user that the mirror runs as: its folder, and its token to read.
// The token for orders stays that of whoever sets up.
func (o *Options) own(folder string) error {
	if o.User == "" {
		return nil
	}
	a, err := lookUp(o.User)
	if err != nil {
		return err
	}
	token := filepath.Join(folder, tokenName)
	if a.uid != os.Geteuid() {
		if os.Geteuid() != 0 {
			return fmt.Errorf("what the mirror of user %s needs can be given to it by root only: again with sudo", o.User)
		}
		// It may read its token, and not change it.
		if err := errors.Join(os.Lchown(token, 0, a.gid), os.Chmod(token, 0o640)); err != nil {
			return err
		}
	}
	root, err := os.OpenRoot(o.Directory) // the user could make links to elsewhere in it meanwhile
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // nothing is written
	return fs.WalkDir(root.FS(), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path != "." && entry.IsDir() && entry.Name() == "tree" {
			return fs.SkipDir // files that are served, which are the mirror's already
		}
		return root.Lchown(path, a.uid, a.gid)
	})
}

// run runs a program, and says what it has said if it fails.
func run(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// obstacle is why this process cannot install a service; nil if it can.
func obstacle() error {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return errors.New("systemd does not run on this box")
	}
	if os.Geteuid() != 0 {
		return errors.New("only root can install a service")
	}
	return nil
}

// ByHand are the commands that begin the mirror as a service, one a line, for somebody with the rights
// that this process lacks.
func (o *Options) ByHand() []string {
	return []string{
		"sudo systemd-sysusers && sudo systemd-tmpfiles --create     # after make install",
		"sudo freshet mirror setup CLAIM --directory " + o.Directory + " --config " + o.Config + " --service",
		"# without systemd, as user " + o.User + ", restarted when it ends:",
		"freshet mirror --config " + o.Config,
	}
}

// prepare makes the user of the service, or says what is to be done instead.
func (o *Options) prepare(ctx context.Context) error {
	if _, err := lookUp(o.User); err == nil {
		return nil
	}
	var line string
	for text := range strings.Lines(units.Users) {
		if strings.HasPrefix(text, "u "+ServiceUser+" ") {
			line = strings.TrimSpace(text)
		}
	}
	if o.User != ServiceUser || line == "" {
		return fmt.Errorf("there is no user %s", o.User)
	}
	return run(ctx, "systemd-sysusers", "--inline", line)
}

// isHome reports whether a path is where the unit shows no files but those that are bound into it,
// isTemporary whether it is where a service has a folder of its own.
func isHome(path string) bool      { return isWithin(path, "/home", "/root", "/run/user") }
func isTemporary(path string) bool { return isWithin(path, "/tmp", "/var/tmp") }

// isWithin reports whether a path is one of these, or leads to below one, whatever links it goes through.
func isWithin(path string, tops ...string) bool {
	path = realPath(path)
	return slices.ContainsFunc(tops, func(top string) bool { return path == top || strings.HasPrefix(path, top+"/") })
}

// realPath is an absolute path without links, of which the end need not be there.
func realPath(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil || path == "/" {
		return real
	}
	return filepath.Join(realPath(filepath.Dir(path)), filepath.Base(path))
}

// fits is an error if a service cannot use what is where these options say, whoever it runs as.
func (o *Options) fits(ctx context.Context) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	type place struct{ what, path, do string }
	places := []place{
		{"configuration", o.Config, "name another with --config"},
		{"program", program, "install it, in /usr/local/bin for instance, and set up with that"},
	}
	if o.Config == unitConfig && hasUnit(ctx) {
		places = places[:1] // the unit that is there names a program
	}
	folder := place{"folder", o.Directory, "name another with --directory"}
	for _, p := range append(places, folder) {
		if strings.ContainsAny(p.path, `\"':`) {
			return fmt.Errorf("the %s %q cannot be written into a unit of systemd: %s", p.what, p.path, p.do)
		}
	}
	if isTemporary(folder.path) {
		return fmt.Errorf("the folder %s is one of temporary files, and a service has others: %s", folder.path, folder.do)
	}
	for _, p := range places {
		if isHome(p.path) || isTemporary(p.path) {
			return fmt.Errorf("a service does not see the %s %s, since homes and temporary folders are hidden from it: %s", p.what, p.path, p.do)
		}
	}
	return nil
}

// hasUnit reports whether systemd has a unit of the mirror.
func hasUnit(ctx context.Context) bool { return run(ctx, "systemctl", "cat", unitName) == nil }

// reach is an error if the user that the mirror runs as cannot come to its folder.
func (o *Options) reach(ctx context.Context) error {
	a, err := lookUp(o.User)
	if err != nil || a.uid == os.Geteuid() || o.Service && isHome(o.Directory) {
		return err // a folder of a home is bound into an empty one
	}
	for at := filepath.Dir(o.Directory); ; at = filepath.Dir(at) {
		if _, err := os.Stat(at); errors.Is(err, fs.ErrNotExist) {
			continue // it is made, for all to enter
		}
		enter := exec.CommandContext(ctx, "test", "-x", at)
		enter.Dir = "/"
		enter.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}}
		if err := enter.Run(); err != nil {
			return fmt.Errorf("user %s cannot enter %s, on the way to %s: let him (chmod o+x, from the uppermost folder on), or name another folder with --directory", o.User, at, o.Directory)
		}
		return nil // nobody comes here but through those above
	}
}

// begin installs the unit, unless it is there, and starts the mirror, or has one that runs take over
// what is new. It returns when the mirror is ready.
func (o *Options) begin(ctx context.Context) error {
	changed := false
	if !hasUnit(ctx) {
		program, err := os.Executable()
		if err != nil {
			return err
		}
		if changed, err = o.writeUnit(unitName, Unit(program)); err != nil {
			return err
		}
	}
	dropped, err := o.writeUnit(unitName+".d/setup.conf", o.dropIn())
	if err != nil {
		return err
	}
	if err := run(ctx, "systemctl", "daemon-reload"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 16*time.Minute) // as long as the unit may take
	defer cancel()
	do := "start"
	if run(ctx, "systemctl", "is-active", unitName) == nil {
		do = "reload-or-restart"
		if changed || dropped {
			do = "restart"
		}
	}
	begun := time.Now()
	for _, do := range []string{"enable", do} {
		if err := run(ctx, "systemctl", do, unitName); err != nil {
			return fmt.Errorf("%w%s", err, lastWords(ctx, begun))
		}
	}
	o.Say("service: " + unitName + " runs, and begins with the box")
	return nil
}

// lastWords is what the service, or systemd of it, has said last since then.
func lastWords(ctx context.Context, since time.Time) string {
	said, err := exec.CommandContext(ctx, "journalctl", "--unit="+unitName, fmt.Sprintf("--since=@%d", since.Unix()), "--lines=5", "--output=cat", "--no-pager").Output()
	if text := strings.TrimSpace(string(said)); err == nil && text != "" && text != "-- No entries --" {
		return "\n" + text
	}
	return "; journalctl -u " + unitName + " says why"
}

const unitFolder = "/etc/systemd/system"

// Unit is the unit of a mirror with this program, by its absolute path.
func Unit(program string) string {
	return strings.ReplaceAll(units.Mirror, "@BINDIR@/freshet", quote(program))
}

// quote writes a path, of which [Options.fits] has said that it may be in a unit, into one.
func quote(path string) string { return `"` + strings.ReplaceAll(path, "%", "%%") + `"` }

// dropIn is what the unit does not say of this mirror; "" if it says all.
func (o *Options) dropIn() string {
	var unit, service strings.Builder
	if path := quote(o.Directory); o.Directory != unitDirectory {
		fmt.Fprintf(&unit, "RequiresMountsFor=%s\n", path)
		fmt.Fprintf(&service, "ReadWritePaths=\nReadWritePaths=%s\n", path)
	}
	if isHome(o.Directory) { // all else of homes stays hidden
		fmt.Fprintf(&service, "ProtectHome=tmpfs\nBindPaths=%s\n", quote(realPath(o.Directory)))
	}
	if o.User != ServiceUser {
		fmt.Fprintf(&service, "User=%s\nGroup=\n", o.User)
	}
	if program, err := os.Executable(); err == nil && o.Config != unitConfig {
		fmt.Fprintf(&service, "ExecStart=\nExecStart=%s mirror --config %s\n", quote(program), strings.ReplaceAll(quote(o.Config), "$", "$$"))
	}
	var text string
	if unit.Len() > 0 {
		text = "[Unit]\n" + unit.String()
	}
	if service.Len() > 0 {
		text += "[Service]\n" + service.String()
	}
	return text
}

// writeUnit writes a file of systemd's, or removes it if there is nothing to be said. It reports whether
// that has changed anything.
func (o *Options) writeUnit(name, text string) (changed bool, err error) {
	dir, err := durable.Open(unitFolder)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, dir.Root.Close()) }()
	there, err := dir.Root.ReadFile(name)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, err
	case text == "" && err != nil:
		return false, nil
	case text == "":
		o.Say("service: removed " + filepath.Join(unitFolder, name))
		return true, dir.Root.Remove(name)
	}
	text = "# Written by freshet mirror setup.\n" + text
	if err == nil && string(there) == text {
		return false, nil
	}
	if folder := filepath.Dir(name); folder != "." {
		if err := dir.MkdirAll(folder, 0o755); err != nil {
			return false, err
		}
	}
	if err := dir.WriteFile(name, []byte(text), 0o644); err != nil {
		return false, err
	}
	o.Say("service: wrote " + filepath.Join(unitFolder, name))
	return true, nil
}
