package setup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The drop-in says what the unit does not, in systemd's words.
func TestDropIn(t *testing.T) {
	t.Parallel()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	linked := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("/root", linked); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"as the unit": {func(*Options) {}, ""},
		"another folder": {
			func(o *Options) { o.Directory = "/mnt/my mirror 100%" },
			"[Unit]\nRequiresMountsFor=\"/mnt/my mirror 100%%\"\n[Service]\nReadWritePaths=\nReadWritePaths=\"/mnt/my mirror 100%%\"\n",
		},
		"one of a home": {
			func(o *Options) { o.Directory = "/home/mirror" },
			"[Unit]\nRequiresMountsFor=\"/home/mirror\"\n[Service]\nReadWritePaths=\nReadWritePaths=\"/home/mirror\"\nProtectHome=tmpfs\nBindPaths=\"/home/mirror\"\n",
		},
		"one that is a link to a home": {
			func(o *Options) { o.Directory = linked },
			"[Unit]\nRequiresMountsFor=\"" + linked + "\"\n[Service]\nReadWritePaths=\nReadWritePaths=\"" + linked + "\"\nProtectHome=tmpfs\nBindPaths=\"/root\"\n",
		},
		"another user": {func(o *Options) { o.User = "bob" }, "[Service]\nUser=bob\nGroup=\n"},
		"another configuration": {
			func(o *Options) { o.Config = "/etc/my $mirror.toml" },
			"[Service]\nExecStart=\nExecStart=\"" + program + "\" mirror --config \"/etc/my $$mirror.toml\"\n",
		},
	} {
		o := Options{Directory: unitDirectory, Config: unitConfig, User: ServiceUser}
		c.change(&o)
		if got := o.dropIn(); got != c.want {
			t.Errorf("%s:\n%s\nis not\n%s", name, got, c.want)
		}
	}
}

// What a service could not use is refused before anything is done, with what to do instead.
func TestFits(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		directory, config, want string
	}{
		"a configuration of a home":  {unitDirectory, "/root/mirror.toml", "another with --config"},
		"a temporary folder":         {"/tmp/mirror", unitConfig, "another with --directory"},
		"a folder of odd characters": {"/srv/a\"b", unitConfig, "another with --directory"},
		"this program":               {unitDirectory, "/etc/mirror.toml", "install it"}, // a test's, in a temporary folder
	} {
		o := Options{Directory: c.directory, Config: c.config, User: ServiceUser}
		if err := o.fits(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The program stands in the unit by its path, whatever its name is.
func TestUnitNamesProgram(t *testing.T) {
	t.Parallel()
	text := Unit("/opt/a b/freshet-2")
	for _, line := range []string{
		"ExecStart=\"/opt/a b/freshet-2\" mirror --config /etc/freshet/mirror.toml\n",
		"ExecReload=\"/opt/a b/freshet-2\" handover $MAINPID\n",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("no %q in\n%s", line, text)
		}
	}
}
