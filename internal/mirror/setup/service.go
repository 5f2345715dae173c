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
	"strconv"
	"strings"
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

// obstacle is why this process cannot install a service; "" if it can.
func obstacle() string {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return "systemd does not run on this box"
	}
	if os.Geteuid() != 0 {
		return "only root can install a service"
	}
	return ""
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
	if o.User == "" {
		o.User = ServiceUser
	}
	if why := obstacle(); why != "" {
		return errors.New(why)
	}
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

// begin installs the unit, unless it is there, and starts it. It returns when the mirror is ready.
func (o *Options) begin(ctx context.Context) error {
	if run(ctx, "systemctl", "cat", unitName) != nil {
		program, err := os.Executable()
		if err != nil {
			return err
		}
		if err := o.writeUnit(unitName, Unit(filepath.Dir(program))); err != nil {
			return err
		}
		o.Say("service: wrote " + filepath.Join(unitFolder, unitName))
	}
	if text := o.dropIn(); text != "" {
		if err := o.writeUnit(unitName+".d/setup.conf", text); err != nil {
			return err
		}
		o.Say("service: wrote " + filepath.Join(unitFolder, unitName+".d/setup.conf"))
	}
	if err := run(ctx, "systemctl", "daemon-reload"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 16*time.Minute) // as long as the unit may take
	defer cancel()
	if err := run(ctx, "systemctl", "enable", "--now", unitName); err != nil {
		return fmt.Errorf("%w; journalctl -u %s says why", err, unitName)
	}
	o.Say("service: " + unitName + " runs, and begins with the box")
	return nil
}

const unitFolder = "/etc/systemd/system"

// Unit is the unit of a mirror whose program is in a folder.
func Unit(folder string) string { return strings.ReplaceAll(units.Mirror, "@BINDIR@", folder) }

// dropIn is what the unit does not say of this mirror; "" if it says all.
func (o *Options) dropIn() string {
	var b strings.Builder
	if o.Directory != unitDirectory {
		fmt.Fprintf(&b, "[Unit]\nRequiresMountsFor=%s\n", o.Directory)
	}
	if o.Directory == unitDirectory && o.Config == unitConfig && o.User == ServiceUser {
		return ""
	}
	b.WriteString("[Service]\n")
	if o.Directory != unitDirectory {
		fmt.Fprintf(&b, "ReadWritePaths=%s\n", o.Directory)
	}
	if o.User != ServiceUser {
		fmt.Fprintf(&b, "User=%s\nGroup=\n", o.User)
	}
	if program, err := os.Executable(); err == nil && o.Config != unitConfig {
		fmt.Fprintf(&b, "ExecStart=\nExecStart=%s mirror --config %s\n", program, o.Config)
	}
	return b.String()
}

// writeUnit writes a file of systemd's.
func (o *Options) writeUnit(name, text string) (err error) {
	dir, err := durable.Open(unitFolder)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Root.Close()) }()
	if folder := filepath.Dir(name); folder != "." {
		if err := dir.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	return dir.WriteFile(name, []byte("# Written by freshet mirror setup.\n"+text), 0o644)
}
