package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
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
				ctx, w := watch(t.Context(), Order{Least: 1000, Progress: new(Progress)}, share)
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
		raw, err := c.(interface {
			SyscallConn() (syscall.RawConn, error)
		}).SyscallConn()
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
