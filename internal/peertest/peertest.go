// Package peertest lets tests speak with the real programs of the field
// (ostree, flatpak, gpg, dnf, …) and decides what happens when one of them is
// not installed: normally the test is skipped with the reason; when the
// environment variable FRESHET_REQUIRE is "all", or lists the program's name
// among others separated by commas, its absence is a failure. Continuous
// integration sets FRESHET_REQUIRE=all, so that an interop test is never
// skipped there without anybody noticing.
//
// It is imported by tests only.
package peertest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// RequireEnv is the name of the environment variable that turns the absence of
// a program into a failure.
const RequireEnv = "FRESHET_REQUIRE"

// Require ends the test early unless every program is found in PATH (or, for a
// name with a slash, is executable). The test is skipped, or fails when
// [RequireEnv] demands one of the missing programs.
func Require(tb testing.TB, programs ...string) {
	tb.Helper()
	var absent []string
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			absent = append(absent, program)
		}
	}
	Missing(tb, absent...)
}

// Missing ends the test early unless peers is empty. It serves tests that find
// out by themselves that something they speak with is not there, such as a
// Python module or a server; the rule is that of [Require].
func Missing(tb testing.TB, peers ...string) {
	tb.Helper()
	if len(peers) == 0 {
		return
	}
	demanded := os.Getenv(RequireEnv)
	for _, peer := range peers {
		if demands(demanded, peer) {
			tb.Fatalf("%s is not installed, and %s=%s demands it", peer, RequireEnv, demanded)
		}
	}
	tb.Skipf("not installed: %s", strings.Join(peers, ", "))
}

func demands(demanded, peer string) bool {
	for name := range strings.SplitSeq(demanded, ",") {
		if name = strings.TrimSpace(name); name == "all" || name == peer {
			return true
		}
	}
	return false
}

// limit is how long a program may take, on a busy machine too.
const limit = 5 * time.Minute

// Command is a program that the test may start. It is killed when it is not done after
// five minutes, and when the test ends: one that hangs fails its own test, and does not
// hold up the others.
func Command(tb testing.TB, program string, args ...string) *exec.Cmd {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), limit)
	tb.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = time.Minute // for what it has started, and left behind with its output
	return cmd
}

// Server is a program that runs until the test ends, however long that takes. Then it is
// told to end, with the processes that it has started, and killed after a minute. Its caller
// waits for that.
func Server(tb testing.TB, program string, args ...string) *exec.Cmd {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), program, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	return cmd
}

// Run runs a program in dir ("" is the current one) with env added to the
// environment, and returns its standard output. When the program fails, the
// test ends with what it wrote to standard error.
func Run(tb testing.TB, dir string, env []string, program string, args ...string) []byte {
	tb.Helper()
	out, err := Try(tb, dir, env, program, args...)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// Try is [Run] for programs that may fail: the error holds the command line
// and its standard error. One that takes five minutes is killed.
func Try(tb testing.TB, dir string, env []string, program string, args ...string) ([]byte, error) {
	tb.Helper()
	var stderr strings.Builder
	cmd := Command(tb, program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, stderr.String())
	}
	return out, nil
}

// GLib returns a Python interpreter that has GLib's introspection bindings,
// which serve as the reference for its formats; without one the test ends as by
// [Require]. The system's interpreter is tried too, since another one that
// comes first in PATH does not see the system's modules.
func GLib(tb testing.TB) (python string) {
	tb.Helper()
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if _, err := Try(tb, "", nil, python, "-c", "from gi.repository import GLib"); err == nil {
			return python
		}
	}
	Missing(tb, "python3-gi")
	return ""
}
