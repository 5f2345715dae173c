package node

import (
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"

	"freshet/internal/accesslog"
	"freshet/internal/config"
)

// Where access records go, apart from files.
const (
	toLog    = "log"
	toStdout = "stdout"
	toOff    = "off"
)

// LogConfig says what is logged and how. The log goes to standard error.
type LogConfig struct {
	// Level is the least severe level that is logged: "debug", "info", "warn" or
	// "error".
	Level slog.Level `toml:"level"`
	// Format is "text" or "json".
	Format string `toml:"format"`
	// Access is about the records of requests.
	Access AccessLogConfig `toml:"access"`
}

// AccessLogConfig is the table [log.access]: one line for each request.
type AccessLogConfig struct {
	// To says where the lines go: "log": to standard error among the log, those
	// of requests that failed with 5xx at the level warn, all others at info;
	// "stdout": to standard output; "off": nowhere; or the absolute name of a
	// file, which is opened anew at SIGHUP, so that it can be rotated. A disk
	// that is slow or full never makes a request wait: lines are dropped, and
	// counted by freshet_access_log_dropped_lines_total. Default "log".
	To string `toml:"to"`
	// Format is "text", "json" or "combined": the format of nginx and Apache of
	// that name with further fields behind, which GoAccess and others read.
	// Default: that of the log.
	Format string `toml:"format"`
	// Addresses says what is written of clients' addresses. "prefix": the
	// network, /24 of IPv4 and /48 of IPv6 (of this machine's own, all); "full": all of it; "none": nothing,
	// which is 0.0.0.0 in the combined format. Default "prefix".
	Addresses string `toml:"addresses"`
}

// WithDefaults fills in what is not set.
func (c LogConfig) WithDefaults() LogConfig {
	if c.Format == "" {
		c.Format = "text"
	}
	if c.Access.To == "" {
		c.Access.To = toLog
	}
	if c.Access.Format == "" {
		c.Access.Format = c.Format
	}
	if c.Access.Addresses == "" {
		c.Access.Addresses = "prefix"
	}
	return c
}

// Validate reports an unknown format.
func (c LogConfig) Validate() []config.Problem {
	switch c.Format {
	case "", "text", "json":
		return nil
	}
	return []config.Problem{{Key: "format", Message: fmt.Sprintf(`want "text" or "json", got %q`, c.Format)}}
}

// Validate reports words that are not known, and files that are not absolute.
func (c AccessLogConfig) Validate() []config.Problem {
	var problems []config.Problem
	switch c.To {
	case "", toLog, toStdout, toOff:
	default:
		if !filepath.IsAbs(c.To) {
			problems = append(problems, config.Problem{Key: "to", Message: fmt.Sprintf(`want "log", "stdout", "off" or the absolute name of a file, got %q`, c.To)})
		}
	}
	if c.Format != "" {
		if _, err := accesslog.ParseFormat(c.Format); err != nil {
			problems = append(problems, config.Problem{Key: "format", Message: err.Error()})
		}
	}
	if _, err := c.addresses(); err != nil {
		problems = append(problems, config.Problem{Key: "addresses", Message: err.Error()})
	}
	return problems
}

func (c AccessLogConfig) addresses() (accesslog.Addresses, error) {
	switch c.Addresses {
	case "", "prefix":
		return accesslog.AddressPrefix, nil
	case "full":
		return accesslog.AddressFull, nil
	case "none":
		return accesslog.AddressNone, nil
	}
	return 0, fmt.Errorf(`want "prefix", "full" or "none", got %q`, c.Addresses)
}

// Logs are the logs of a process.
type Logs struct {
	// Log takes what happens, at once.
	Log *slog.Logger
	// Access takes the records of requests, many at once, at most a fifth of a
	// second late, because a system call for each costs a busy edge more than
	// the answers. Nil: nobody wants them. The caller of [OpenLogs] closes it
	// before the process ends.
	Access *accesslog.Log
}

// OpenLogs opens the logs that c describes, which must be valid; stderr and
// stdout are the process's own.
func OpenLogs(stderr, stdout io.Writer, c LogConfig) (Logs, error) {
	c = c.WithDefaults()
	out := &sharedWriter{w: stderr}
	options := &slog.HandlerOptions{Level: c.Level}
	var h slog.Handler = slog.NewTextHandler(out, options)
	if c.Format == "json" {
		h = slog.NewJSONHandler(out, options)
	}
	logs := Logs{Log: slog.New(h)}
	format, err := accesslog.ParseFormat(c.Access.Format)
	if err != nil {
		return Logs{}, fmt.Errorf("log.access.format: %w", err)
	}
	addresses, err := c.Access.addresses()
	if err != nil {
		return Logs{}, fmt.Errorf("log.access.addresses: %w", err)
	}
	opt := accesslog.Options{Format: format, Addresses: addresses}
	switch c.Access.To {
	case toLog:
		opt.Writer, opt.Level = out, c.Level
	case toStdout:
		opt.Writer = stdout
	case toOff:
		opt.Writer, opt.Level = io.Discard, slog.LevelError+1
	default:
		opt.Path = c.Access.To
		opt.Failed = func(err error) {
			if err != nil {
				logs.Log.Error("access log cannot be written: lines are dropped", slog.Any("error", err))
				return
			}
			logs.Log.Info("access log is written again")
		}
	}
	if logs.Access, err = accesslog.Open(opt); err != nil {
		return Logs{}, err
	}
	return logs, nil
}

// sharedWriter keeps the lines of two logs apart.
type sharedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// Write implements [io.Writer].
func (s *sharedWriter) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}
