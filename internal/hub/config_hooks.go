package hub

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// HooksConfig is a table [hub.repos.NAME.hooks]: commands of yours that the hub
// runs. Each is a list of a program and its arguments; no shell is between.
// docs/hub-hooks.md says what they see and what they may do.
type HooksConfig struct {
	// Publish edits a build before it is published, in the build's folder, which
	// is an OSTree repository. It fails the publish when it does not exit with 0.
	// Default: none.
	Publish []string `toml:"publish"`

	// Checks are run when a build was committed, by name. The build can be
	// published when all have passed. Names are letters, digits, ".", "_" and
	// "-". Default: none.
	Checks map[string]CheckConfig `toml:"checks"`

	// PostPublish is told of each publish, with the name and the path of the
	// repository as further arguments. It runs beside everything, is repeated
	// when it fails, and holds up nothing. Default: none.
	PostPublish []string `toml:"post-publish"`

	// Timeout is the most that a command may take. Default "1h".
	Timeout time.Duration `toml:"timeout"`

	// Env are variables for the commands: "NAME=VALUE", or "NAME" for that of the
	// hub's own environment, of which they see nothing else but PATH.
	Env []string `toml:"env"`

	// UnixSockets lets the commands talk to services of this machine by unix
	// sockets: a gpg-agent, a database, a container engine. Default: they cannot.
	UnixSockets bool `toml:"unix-sockets"`

	// Ports are the TCP ports that the commands may connect to, on any machine,
	// from Linux 6.7 on. Default: all.
	Ports []int `toml:"ports"`
}

// CheckConfig is a table [hub.repos.NAME.hooks.checks.CHECK].
type CheckConfig struct {
	// Command is run in the build's folder, which it cannot change. The check has
	// passed when it exits with 0. Required.
	Command []string `toml:"command"`

	// Reviewable lets somebody decide when the command does not exit with 0, where
	// else the check has failed.
	Reviewable bool `toml:"reviewable"`
}

const defaultHookTimeout = time.Hour

// WithDefaults returns c with every setting left zero replaced by its default.
func (c HooksConfig) WithDefaults() HooksConfig {
	if c.Timeout == 0 {
		c.Timeout = defaultHookTimeout
	}
	return c
}

var (
	checkPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	envPattern   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(=[^\x00]*)?$`)
)

func (v *validation) hooks(key string, hooks HooksConfig) {
	v.command(key+".publish", hooks.Publish)
	v.command(key+".post-publish", hooks.PostPublish)
	v.notNegative(key+".timeout", int64(hooks.Timeout))
	for i, port := range hooks.Ports {
		if port < 1 || port > 65535 {
			v.problem(fmt.Sprintf("%s.ports[%d]", key, i), "must be 1 to 65535, is %d", port)
		}
	}
	for i, variable := range hooks.Env {
		if !envPattern.MatchString(variable) {
			v.problem(fmt.Sprintf("%s.env[%d]", key, i), `must be "NAME" or "NAME=VALUE"`)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(hooks.Checks)) {
		check := key + ".checks." + name
		if !checkPattern.MatchString(name) {
			v.problem(check, `%q is no name: want up to 64 letters, digits, ".", "_" and "-", beginning with a letter or digit`, name)
		}
		if len(hooks.Checks[name].Command) == 0 {
			v.problem(check+".command", "must name a program")
		}
		v.command(check+".command", hooks.Checks[name].Command)
	}
}

func (v *validation) command(key string, args []string) {
	switch {
	case len(args) > 0 && args[0] == "":
		v.problem(key+"[0]", "must name a program")
	case slices.ContainsFunc(args, func(arg string) bool { return strings.ContainsRune(arg, 0) }):
		v.problem(key, "must not contain NUL")
	}
}
