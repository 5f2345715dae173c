package forwarded

import (
	"fmt"
	"time"

	"freshet/internal/config"
)

// Config is the table proxy-protocol of a role.
type Config struct {
	// From are the networks of the balancers that begin each connection with a
	// header of the PROXY protocol, version 1 or 2 ("10.0.0.0/24"). From there
	// it must come; nobody else is believed. Default: none.
	From []string `toml:"from"`

	// Others says what becomes of connections from elsewhere. "direct": they are
	// served, and such a header is a malformed request; "refuse": they are
	// closed. Default "direct".
	Others string `toml:"others"`

	// Timeout is how long the header may take. Default "5s".
	Timeout time.Duration `toml:"timeout"`
}

const (
	othersDirect   = "direct"
	othersRefuse   = "refuse"
	defaultTimeout = 5 * time.Second
)

// WithDefaults returns c with every setting left zero replaced by its default.
func (c Config) WithDefaults() Config {
	if c.Others == "" {
		c.Others = othersDirect
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	return c
}

// Validate reports what is wrong; see [config.Validator].
func (c Config) Validate() []config.Problem {
	var problems []config.Problem
	problem := func(key, format string, args ...any) {
		problems = append(problems, config.Problem{Key: key, Message: fmt.Sprintf(format, args...)})
	}
	problems = append(problems, config.CheckNetworks("from", c.From)...)
	switch c.Others {
	case "", othersDirect, othersRefuse:
	default:
		problem("others", `want "direct" or "refuse", got %q`, c.Others)
	}
	if c.Others == othersRefuse && len(c.From) == 0 {
		problem("others", "nobody could connect: there are no networks in from")
	}
	if c.Timeout < 0 {
		problem("timeout", "must not be negative")
	}
	return problems
}
