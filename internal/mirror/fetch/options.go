package fetch

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"sync/atomic"
	"syscall"
	"time"

	"freshet/internal/mirror/budget"
	"freshet/internal/rsync"

	"golang.org/x/sys/unix"
)

// Options are those of a source. The zero value is for HTTP.
type Options struct {
	// Rsync is required for URLs of rsync.
	Rsync *rsync.Program
	// Network is what comes in over the network, Disk what is read again to be hashed.
	// Nil: without a limit.
	Network, Disk *budget.Share
	// DSCP marks what is sent, and by that what servers that copy the mark answer: 0 to 63,
	// 8 being CS1, for what everybody else goes before.
	DSCP int
	// Dial connects, in the form of [net.Dialer.DialContext]; nil: to the network.
	Dial rsync.Dial
	// TLS are the settings for https; nil: the system's.
	TLS *tls.Config
	// Connections is how many there are at most to one server of HTTP; 0: 6.
	Connections int
	// Silence is how long a server may say nothing; 0: a minute.
	Silence time.Duration
	// UserAgent is what servers of HTTP read; "": "freshet-mirror".
	UserAgent string
	// FileList is the path of a list of all files, in the format of quick-fedora-mirror, in
	// the tree of a server of HTTP; "": folders are listed one by one.
	FileList string
	// Scratch is a folder for small files; "": that of the system.
	Scratch string
	// IdleDisk lets everybody else come before rsync at the disk.
	IdleDisk bool
}

const (
	defaultSilence = time.Minute
	dialLimit      = 30 * time.Second
)

// Check returns what is wrong with the URL of a source: "rsync://host/module/path/",
// "https://host/path/" or the same with http.
func Check(text string) error {
	u, err := url.Parse(text)
	if err != nil {
		return err
	}
	switch {
	case u.Scheme == "rsync":
		return rsync.CheckURL(text)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("%q: want rsync://host/module/, https://host/path/ or http://host/path/", u.Redacted())
	case u.User != nil:
		return fmt.Errorf("%q: want no user", u.Redacted())
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return fmt.Errorf(`%q: want no "?" and no "#"`, text)
	}
	return nil
}

// Open opens the source at a URL, see [Check]. Nothing is asked of it yet.
func Open(text string, o Options) (Source, error) {
	if err := Check(text); err != nil {
		return nil, err
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "rsync" {
		return openWeb(u, text, o), nil
	}
	if o.Rsync == nil {
		return nil, fmt.Errorf("%s: %w", text, rsync.ErrAbsent)
	}
	return &rsyncSource{url: text, o: o}, nil
}

func (o *Options) silence() time.Duration { return cmp.Or(o.Silence, defaultSilence) }

// dial connects, marks what is sent and makes what comes in one of the budget, counted by
// received too.
func (o *Options) dial(ctx context.Context, network, addr string, received ...*atomic.Int64) (net.Conn, error) {
	dial := o.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialLimit, Control: o.mark}).DialContext
	}
	c, err := dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return o.Network.Conn(c, received...), nil
}

// mark sets the DSCP of a socket: the upper six bits of the former type of service
// (RFC 2474 §3).
func (o *Options) mark(network, _ string, c syscall.RawConn) (err error) {
	if o.DSCP == 0 {
		return nil
	}
	failed := c.Control(func(fd uintptr) {
		if network == "tcp6" {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_TCLASS, o.DSCP<<2)
		} else {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TOS, o.DSCP<<2)
		}
	})
	return cmp.Or(failed, err)
}
