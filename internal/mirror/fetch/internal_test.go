package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/closure"
	"freshet/internal/mirror/budget"
	"freshet/internal/rsync"

	"golang.org/x/sys/unix"
)

// A source is given up when too little comes, but not while the budget is what holds it back.
func TestWatch(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		perSecond int64
		rate      int64
		slow      bool
	}{
		"enough":             {perSecond: 1100, slow: false},
		"too little":         {perSecond: 900, slow: true},
		"nothing":            {slow: true},
		"held by the budget": {perSecond: 0, rate: 500, slow: false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := budget.New(tt.rate)
				share := b.Share(1)
				ctx, w := watch(t.Context(), Order{Least: 1000, Progress: new(Progress)}, share, 0)
				for range 100 {
					if tt.rate > 0 {
						if share.Take(ctx, tt.rate) != nil {
							break
						}
					} else {
						time.Sleep(time.Second)
					}
					for _, c := range w.counters {
						c.Add(tt.perSecond)
					}
				}
				if slow := errors.Is(context.Cause(ctx), ErrSlow); slow != tt.slow {
					t.Errorf("slow: %v, %v", slow, context.Cause(ctx))
				}
				w.stop()
			})
		})
	}
}

// A source that sends much more than it has told of is given up; how much that is follows from what it has
// told of.
func TestFlood(t *testing.T) {
	t.Parallel()
	_, most := bounds([]Want{{Path: "a", Size: 1 << 20}, {Path: "b", Size: 3 << 20}})
	if longest, all := bounds([]Want{{Size: -1}}); longest < maxUnknown || all < maxUnknown || most < 2*(4<<20) || most > 2<<30 {
		t.Errorf("%d bytes of files with 4 MiB, %d of one of any length, which may be %d long", most, all, longest)
	}
	if longest, all := bounds(slices.Repeat([]Want{{Size: 1 << 53}}, 2000)); longest <= 1<<53 || all <= 1<<53 {
		t.Errorf("a sum that is too large: %d, %d", longest, all)
	}
	for came, flood := range map[int64]bool{most: false, most + 1: true} {
		synctest.Test(t, func(t *testing.T) {
			ctx, w := watch(t.Context(), Order{}, nil, most)
			w.received.Store(came)
			time.Sleep(time.Hour)
			if err := context.Cause(ctx); errors.Is(err, ErrAnswer) != flood || (err != nil) != flood {
				t.Errorf("after %d of %d bytes: %v", came, most, err)
			}
			w.stop()
		})
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		from, to string
		hops     int
		ok       bool
	}{
		{"http://a/", "http://b/", 1, true},
		{"http://a/", "https://a/", 1, true},
		{"https://a/", "https://b/", maxRedirects, true},
		{"https://a/", "http://a/", 1, false},
		{"http://a/", "ftp://a/", 1, false},
		{"http://a/", "file:///etc/passwd", 1, false},
		{"http://a/", "http://b/", maxRedirects + 1, false},
	} {
		from, _ := url.Parse(tt.from)
		to, _ := url.Parse(tt.to)
		via := make([]*http.Request, tt.hops)
		for i := range via {
			via[i] = &http.Request{URL: from}
		}
		if err := mayRedirect(&http.Request{URL: to}, via); (err == nil) != tt.ok || err != nil && !errors.Is(err, errRedirect) {
			t.Errorf("%s to %s: %v", tt.from, tt.to, err)
		}
	}
}

// What is sent is marked, over both families.
func TestMark(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", host)
		if err != nil {
			t.Log(err) // no such family here
			continue
		}
		o := Options{DSCP: 8}
		c, err := o.dial(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		under := reflect.ValueOf(c).Elem().FieldByName("Conn").Interface() // it is wrapped, to be counted
		raw, err := under.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.Control(func(fd uintptr) {
			tos, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TOS)
			if host[0] == '[' {
				tos, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_TCLASS)
			}
			if tos != 0x20 || err != nil {
				t.Errorf("%s: marked with %#x, %v", host, tos, err)
			}
		})
		_ = c.Close()
		_ = l.Close()
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for text, ok := range map[string]bool{
		"rsync://mirror.example/debian/":   true,
		"https://mirror.example/debian/":   true,
		"http://mirror.example":            true,
		"https://mirror.example:8443/a%20": true,
		"rsync://mirror.example/":          false,
		"ftp://mirror.example/debian/":     false,
		"https://user:pw@mirror.example/":  false,
		"https://mirror.example/?x":        false,
		"https:///debian/":                 false,
		"/srv/mirror":                      false,
		"":                                 false,
	} {
		if err := Check(text); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := Open("rsync://mirror.example/debian/", Options{}); !errors.Is(err, rsync.ErrAbsent) {
		t.Errorf("without rsync: %v", err)
	}
	if _, err := OpenSibling("rsync://mirror.example/debian/", Options{}); err == nil {
		t.Error("a sibling speaks rsync")
	}
}

// The codes of rsync mean what its manual says.
func TestExplainRsync(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]error{5: ErrUnreachable, 10: ErrUnreachable, 12: ErrUnreachable, 30: ErrUnreachable, 35: ErrUnreachable, 11: syscall.ENOSPC} {
		err := explainRsync(&rsync.ExitError{Code: code, Detail: `rsync: write failed on "x": No space left on device (28)`})
		if !errors.Is(err, want) {
			t.Errorf("%d: %v", code, err)
		}
	}
	if err := explainRsync(&rsync.ExitError{Code: 1}); errors.Is(err, ErrUnreachable) || err == nil {
		t.Errorf("1: %v", err)
	}
}

// A file is read to its end, whatever its length; one with another length than it had when
// it was looked at is not the one that is wanted.
func TestReadWhole(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, readSize - 1, readSize, readSize + 1, 3 * readSize} {
		name := filepath.Join(t.TempDir(), "file")
		data := bytes.Repeat([]byte{7}, size)
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		for told := max(0, size-1); told <= size+1; told++ {
			f, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			i := inspector{buffer: make([]byte, readSize)}
			got := newSums(closure.Sum{})
			err = i.read(file(f.Fd()), int64(told), got)
			if told != size && !errors.Is(err, errWrong) {
				t.Errorf("%d bytes instead of %d: %v", size, told, err)
			}
			if told == size {
				if sum, _ := got.check(); err != nil || sum != sha256.Sum256(data) {
					t.Errorf("%d bytes: another sum, %v", size, err)
				}
			}
			_ = f.Close()
		}
	}
}

// placed is a connection to somewhere.
type placed struct {
	net.Conn

	at netip.AddrPort
}

func (c placed) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.at) }

// A server on the Internet redirects to no address inside, since all would be published that
// is read there; one that is inside itself does. Others get no token.
func TestRedirectsStayOutside(t *testing.T) {
	t.Parallel()
	var token atomic.Pointer[string]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/file" {
			http.Redirect(w, r, "http://"+strings.TrimPrefix(r.URL.Path, "/")+"/file", http.StatusFound)
			return
		}
		token.Store(new(r.Header.Get("Authorization")))
		_, _ = io.WriteString(w, "secret")
	}))
	t.Cleanup(server.Close)
	places := map[string]string{
		"public.example:80": "192.0.2.1:80", "other.example:80": "[2001:db8::1]:80", "lan.example:80": "10.0.0.1:80", "lan6.example:80": "[fd00::1]:80",
		"shared.example:80": "100.64.0.1:80", "cloud.example:80": "169.254.169.254:80", "self.example:80": "127.0.0.1:80", "self6.example:80": "[::1]:80",
		"sub.public.example:80": "192.0.2.2:80", "mapped.example:80": "[::ffff:127.0.0.1]:80", "any.example:80": "0.0.0.0:80",
	}
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
		if err != nil {
			return nil, err
		}
		return placed{c, netip.MustParseAddrPort(places[addr])}, nil
	}
	for from, tos := range map[string]map[string]bool{
		"public": {"other": true, "sub.public": true, "lan": false, "lan6": false, "shared": false, "cloud": false, "self": false, "self6": false, "mapped": false, "any": false},
		"lan":    {"other": true, "lan6": true, "shared": true, "cloud": false, "self": false},
		"cloud":  {"lan": true, "self": false},
		"self":   {"other": true, "lan": true, "cloud": true, "self6": true},
	} {
		for to, ok := range tos {
			s, err := Open("http://"+from+".example/", Options{Dial: dial})
			if err != nil {
				t.Fatal(err)
			}
			s.(*webSource).o.Token = func() (string, error) { return "mine", nil }
			f, err := s.Read(t.Context(), to+".example", 100, Validator{})
			if (err == nil && string(f.Data) == "secret") != ok || err != nil && !errors.Is(err, errRedirect) {
				t.Errorf("%s to %s: %q, %v", from, to, f.Data, err)
			}
			if got := token.Swap(nil); got != nil && *got != "" {
				t.Errorf("%s to %s: it gets the token", from, to)
			}
		}
	}
}
