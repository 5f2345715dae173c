package sqldb

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// source is a parsed DSN.
type source interface {
	open(ctx context.Context, cfg Config) (*DB, error)
	name() string
}

func parseDSN(cfg Config) (source, error) {
	dsn := cfg.DSN
	if dsn == "" {
		dsn = cfg.Default
	}
	if dsn == "" {
		return nil, errors.New("open database: no DSN given")
	}
	scheme, rest, found := strings.Cut(dsn, ":")
	switch {
	case !found || strings.ContainsAny(scheme, "/.\\"):
		return sqliteFile(dsn), nil
	case scheme == "sqlite":
		// sqlite:///abs/path and sqlite:/abs/path name the same file.
		if after, ok := strings.CutPrefix(rest, "//"); ok && strings.HasPrefix(after, "/") {
			rest = after
		}
		if rest == "" {
			return nil, errors.New("open database sqlite: the path is missing")
		}
		return sqliteFile(rest), nil
	case scheme == "postgres" || scheme == "postgresql":
		u, err := url.Parse(dsn)
		if err != nil {
			// The error of url.Parse quotes its input, password and all.
			return nil, fmt.Errorf("open database %s://…: the DSN is not a URL", scheme)
		}
		return postgresURL{u}, nil
	default:
		return nil, fmt.Errorf("open database %s:…: scheme is neither sqlite nor postgres", scheme)
	}
}

// redact returns the URL without the passwords that a PostgreSQL DSN can hold.
func redact(u *url.URL) string {
	shown := *u
	if u.User != nil {
		shown.User = url.User(u.User.Username())
	}
	query := shown.Query()
	for key := range query {
		if strings.Contains(strings.ToLower(key), "password") {
			query.Del(key)
		}
	}
	shown.RawQuery = query.Encode()
	return shown.String()
}
