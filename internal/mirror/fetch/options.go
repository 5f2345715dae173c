package fetch

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"strings"
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
	// Network is what comes in over the network, Disk what is read again to be hashed. What
	// comes in is written: Network may lead through Disk.
	// Nil: without a limit.
	Network, Disk *budget.Share
	// DSCP marks what is sent, and by that what servers that copy the mark answer: 0 to 63,
	// 8 being CS1, for what everybody else goes before.
	DSCP int
	// Token returns the token that a hub is shown; it is asked for each time, and nobody else
	// than the hub itself gets it. Nil: none.
	Token func() (string, error)
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

// Teller says who tells of changes at an upstream, by what stands before the scheme of its
// URL: "hub+https://…".
type Teller string

// Who tells of changes.
const (
	// Nobody does: it is looked now and then.
	Nobody Teller = ""
	// Hub is a Freshet hub: its event log does.
	Hub Teller = "hub"
	// Mirror is another mirror of this kind, of which whole generations are fetched.
	Mirror Teller = "mirror"
)

// Split parts the URL of a source in who tells of its changes and where it is.
func Split(text string) (Teller, string) {
	for _, t := range [...]Teller{Hub, Mirror} {
		if rest, ok := strings.CutPrefix(text, string(t)+"+"); ok {
			return t, rest
		}
	}
	return Nobody, text
}

// Check returns what is wrong with the URL of a source: "rsync://host/module/path/",
// "https://host/path/" or the same with http, and of these two with hub+ or mirror+ before
// it: "hub+https://host/repo/NAME/", "mirror+https://host/PROJECT/".
func Check(text string) error {
	teller, plain := Split(text)
	u, err := url.Parse(plain)
	if err != nil {
		return err
	}
	switch {
	case u.Scheme == "rsync" && teller == Nobody:
		return rsync.CheckURL(text)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("%q: want rsync://host/module/, https://host/path/ or http://host/path/, the last two also with hub+ or mirror+ before it", u.Redacted())
	case u.User != nil:
		return fmt.Errorf("%q: want no user", u.Redacted())
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return fmt.Errorf(`%q: want no "?" and no "#"`, text)
	}
	switch teller {
	case Hub:
		if _, _, ok := SplitHub(u); !ok {
			return fmt.Errorf("%q: want hub+https://host/repo/NAME/ or hub+https://host/tree/NAME/", text)
		}
	case Mirror:
		if _, project := SplitMirror(u); project == "" {
			return fmt.Errorf("%q: want mirror+https://host/PROJECT/", text)
		}
	case Nobody:
	}
	return nil
}

// SplitHub parts the URL of what a hub publishes in the hub's own and the path there, which
// begins and ends with a slash: "/repo/NAME/", or "/tree/NAME/" and perhaps more.
func SplitHub(u *url.URL) (root, path string, ok bool) {
	all := strings.TrimRight(u.Path, "/") + "/"
	at := strings.Index(all, "/repo/")
	if tree := strings.Index(all, "/tree/"); at < 0 || tree >= 0 && tree < at {
		at = tree
	}
	if at < 0 || len(all) == at+len("/repo/") {
		return "", "", false
	}
	base := url.URL{Scheme: u.Scheme, Host: u.Host, Path: all[:at]}
	return base.String(), all[at:], true
}

// SplitMirror parts the URL of a project of a mirror in the mirror's own and the name of the
// project.
func SplitMirror(u *url.URL) (root, project string) {
	all := strings.TrimRight(u.Path, "/")
	at := strings.LastIndexByte(all, '/')
	if at < 0 {
		return "", ""
	}
	base := url.URL{Scheme: u.Scheme, Host: u.Host, Path: all[:at]}
	return base.String(), all[at+1:]
}

// Open opens the source at a URL, see [Check]. Nothing is asked of it yet.
func Open(text string, o Options) (Source, error) {
	if err := Check(text); err != nil {
		return nil, err
	}
	teller, plain := Split(text)
	u, err := url.Parse(plain)
	if err != nil {
		return nil, err
	}
	if teller != Hub {
		o.Token = nil
	}
	switch {
	case teller == Mirror:
		return openMirror(u, text, o)
	case u.Scheme != "rsync":
		return openWeb(u, text, o), nil
	case o.Rsync == nil:
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
