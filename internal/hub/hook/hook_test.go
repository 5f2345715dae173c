package hook_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"freshet/internal/hub/hook"
	"freshet/internal/peertest"
)

// shell runs a script; scripts are tests' business, not that of the hub.
func shell(script string, args ...string) hook.Command {
	return hook.Command{Args: append([]string{"/bin/sh", "-c", script, "sh"}, args...)}
}

func run(t *testing.T, c hook.Command) (string, error) {
	t.Helper()
	var output bytes.Buffer
	err := c.Run(t.Context(), &output)
	return output.String(), err
}

func TestEnvironment(t *testing.T) {
	t.Setenv("FRESHET_SECRET", "s3cret")
	dir := t.TempDir()
	c := shell(`pwd; echo "$1 $NUMBER"; ls -A "$HOME"; test "$HOME" = "$TMPDIR"; env; cat; echo err >&2; touch "$HOME/x" && echo "home $HOME"`, "two words; $(id)")
	c.Dir, c.Env = dir, []string{"NUMBER=7", "LANG=de_DE"}
	out, err := run(t, c)
	if err != nil {
		t.Fatal(err, out)
	}
	for _, want := range []string{dir + "\ntwo words; $(id) 7\n", "LANG=de_DE\n", "err\n", "home /"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %q", want, out)
		}
	}
	if strings.Contains(out, "s3cret") {
		t.Errorf("the hub's environment is seen: %q", out)
	}
	_, home, _ := strings.Cut(out, "home ")
	if _, err := os.Stat(strings.TrimSpace(home)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("home %q remains: %v", home, err)
	}
}

func TestEnds(t *testing.T) {
	for name, test := range map[string]struct {
		script string
		want   string
	}{
		"well":   {"exit 0", ""},
		"badly":  {"exit 3", "/bin/sh exited with status 3"},
		"signal": {"kill -9 $$", "/bin/sh was ended by signal killed"},
		"late":   {"sleep 600", "/bin/sh took longer than 100ms"},
	} {
		c := shell(test.script)
		if name == "late" { // to begin alone takes a busy machine longer
			c.Timeout = 100 * time.Millisecond
		}
		_, err := run(t, c)
		var exit *hook.ExitError
		if test.want == "" && err != nil || test.want != "" && (!errors.As(err, &exit) || err.Error() != test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, c := range []hook.Command{{}, {Args: []string{""}}, {Args: []string{"/nonexistent"}}, {Args: []string{"/bin/true"}, Dir: "/nonexistent"}} {
		var exit *hook.ExitError
		if _, err := run(t, c); err == nil || errors.As(err, &exit) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stopping := errors.New("stopping")
	time.AfterFunc(50*time.Millisecond, func() { cancel(stopping) })
	c := shell("sleep 600")
	if err := c.Run(ctx, os.Stderr); !errors.Is(err, stopping) {
		t.Errorf("cancelled: %v", err)
	}
}

// What a command leaves running ends with it, and does not hold up the end.
func TestLeavesNothingBehind(t *testing.T) {
	out, err := run(t, shell("sleep 600 & echo $!"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	const most = 120_000 // milliseconds
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, most); n != 1 {
		t.Errorf("process %d goes on: %v", pid, err)
	}
}

func TestConfinement(t *testing.T) {
	if !hook.Confines() {
		peertest.Missing(t, "Landlock")
	}
	dir := t.TempDir()
	for name, content := range map[string]string{"state/secret": "s3cret", "state/repos/file": "shown", "state/builds/7/file": "mine", "outside": "plain", "key.asc": "k3y"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("key.asc", filepath.Join(dir, "key")); err != nil {
		t.Fatal(err)
	}
	confined := func(script string) hook.Command {
		c := shell(script, strconv.Itoa(os.Getpid()))
		c.Dir = dir
		c.Hidden = []string{filepath.Join(dir, "state"), filepath.Join(dir, "key"), filepath.Join(dir, "absent")}
		c.Shown = []string{filepath.Join(dir, "state/repos")}
		c.Writable = []string{filepath.Join(dir, "state/builds/7")}
		return c
	}
	out, err := run(t, confined(`set -e
		cat outside state/repos/file state/builds/7/file
		echo new >state/builds/7/new; mkdir state/builds/7/d; mv state/builds/7/new state/builds/7/d/; rm state/builds/7/file
		echo x >/dev/null; ls / /usr/bin >/dev/null; date >"$HOME/date"; mkdir "$HOME/d"; mv "$HOME/date" "$HOME/d/"`))
	if err != nil || out != "plain\nshown\nmine\n" {
		t.Errorf("what it may: %v %q", err, out)
	}
	for _, script := range []string{
		"cat state/secret", "cat key.asc", "cat key",
		"echo x >outside", "echo x >state/repos/file", "touch new", "rm outside", "touch /tmp/freshet-must-not-be", "mkdir state/repos/d",
		"kill -0 $1", "cat /proc/$1/environ", "ls /proc/$1/root/",
		`mv state/repos/file state/builds/7/`,
	} {
		if out, err := run(t, confined(script)); err == nil {
			t.Errorf("%s is allowed: %q", script, out)
		}
	}
	if os.Getuid() == 0 {
		if out, err := run(t, confined("grep CapEff: /proc/self/status; grep NoNewPrivs: /proc/self/status")); err != nil ||
			!strings.Contains(out, "CapEff:\t0000000000000000") || !strings.Contains(out, "NoNewPrivs:\t1") {
			t.Errorf("privileges: %v %q", err, out)
		}
	}
	// The restrictions are those of the command alone.
	if err := os.WriteFile(filepath.Join(dir, "outside"), nil, 0o600); err != nil {
		t.Error(err)
	}
	if flags, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err != nil || flags != 0 {
		t.Errorf("we have them too: %d, %v", flags, err)
	}
}
