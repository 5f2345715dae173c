package rsyncd

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"freshet/internal/config"
)

// Config is the table [mirror.rsyncd].
type Config struct {
	// Listen is the address of the rsync server (":873"). Its modules are the projects.
	// Default: none, and nothing is served by rsync.
	Listen string `toml:"listen"`

	// Connections is how many clients are served at once. Each is a process of its own.
	// Default 60.
	Connections int `toml:"connections"`

	// ConnectionsPerAddress is how many of them may come from one IPv4 address or one
	// IPv6 /64, those of this machine apart. Default 4.
	ConnectionsPerAddress int `toml:"connections-per-address"`

	// Timeout is how long a client may stay silent. Default "10m".
	Timeout time.Duration `toml:"timeout"`

	// Message is shown to clients that ask for the list of modules. Default: none.
	Message string `toml:"message"`
}

// Defaults of Config.
const (
	defaultConnections = 60
	defaultPerAddress  = 4
	defaultTimeout     = 10 * time.Minute
)

// WithDefaults returns c with every setting left zero replaced by its default.
func (c Config) WithDefaults() Config {
	c.Connections = cmp.Or(c.Connections, defaultConnections)
	c.ConnectionsPerAddress = cmp.Or(c.ConnectionsPerAddress, defaultPerAddress)
	c.Timeout = cmp.Or(c.Timeout, defaultTimeout)
	return c
}

// Validate returns every problem of the table; see [config.Validator].
func (c Config) Validate() []config.Problem {
	problems := config.CheckNotNegative(
		config.Number{Key: "connections", Value: int64(c.Connections)},
		config.Number{Key: "connections-per-address", Value: int64(c.ConnectionsPerAddress)},
		config.Number{Key: "timeout", Value: int64(c.Timeout)},
	)
	if c.Listen != "" {
		if err := config.CheckAddress(c.Listen); err != nil {
			problems = append(problems, config.Problem{Key: "listen", Message: err.Error()})
		}
	}
	if strings.ContainsFunc(c.Message, func(r rune) bool { return r < ' ' && r != '\n' }) {
		problems = append(problems, config.Problem{Key: "message", Message: "want text: there is a control character in it"})
	}
	return problems
}

// Module is a project that is served.
type Module struct {
	// Name is that of the project.
	Name string
	// Path is the folder: one that leads to the tree of the current generation when a
	// client comes.
	Path string
	// Away, if not nil, tells why clients cannot have the project now. It is asked for each
	// client, by one goroutine at a time.
	Away func() Absence
}

// Absence is why a project is not there. The zero value says that it is.
type Absence struct {
	// Reason is the word for it, Why is what clients are told: one line.
	Reason, Why string
}

// refused are the options that cost more than a mirror has to give: checksums of all
// files are read from the disk for one client. Compression is not refused, since clients
// ask for it by habit, and not done either: packages are compressed.
const refused = "checksum"

// nobody is the user and the group of rsync where this process may choose.
const nobody = "65534"

// render is the file rsyncd.conf(5) of the modules, some of which are away, by name. message
// is the path of a file, or empty; privileged says whether this process may change root and
// user.
func render(c Config, modules []Module, away map[string]Absence, message string, privileged bool) (string, error) {
	var b strings.Builder
	line := func(key, value string) { fmt.Fprintf(&b, "%s = %s\n", key, value) }
	line("use chroot", yes(privileged))
	if privileged {
		line("uid", nobody)
		line("gid", nobody)
	}
	line("read only", "yes")
	line("list", "yes")
	line("reverse lookup", "no")
	line("munge symlinks", "no")
	line("ignore nonreadable", "yes")
	line("max verbosity", "1")
	line("timeout", fmt.Sprint(int64(max(c.Timeout, time.Second)/time.Second)))
	line("refuse options", refused)
	line("dont compress", "*")
	if message != "" {
		line("motd file", message)
	}
	for _, m := range modules {
		// In a path "%" begins the name of a variable, and a line that ends in a backslash
		// goes on.
		if strings.ContainsAny(m.Path, "%\n\\") || strings.TrimSpace(m.Path) != m.Path {
			return "", fmt.Errorf("rsync cannot serve the folder %q: a path with \"%%\", a backslash or space at its ends cannot be told to it", m.Path)
		}
		fmt.Fprintf(&b, "[%s]\n", m.Name)
		line("path", m.Path)
		if absence, gone := away[m.Name]; gone {
			line("comment", absence.Why)
			line("max connections", "-1")  // rsync's way to turn a module off: "try again later"
			line("lock file", "/dev/null") // it is opened, and not used
		}
	}
	return b.String(), nil
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
