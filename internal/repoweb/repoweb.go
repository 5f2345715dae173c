// Package repoweb reads the files of a repository over HTTP as a file system, for
// readers that know of no network. A repository behind a URL has no lists of its
// folders: [FS] opens files, and tells their length.
package repoweb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
)

// timeout is how long a server may take to connect, and to begin an answer.
const timeout = 30 * time.Second

// FS is a repository at an http or https URL. It implements [fs.FS] and
// [fs.StatFS], and may be used by several goroutines at once. A file that the
// server answers with 404 or 410 is [fs.ErrNotExist], with 401 or 403
// [fs.ErrPermission]; other refusals are errors with the server's status.
type FS struct {
	ctx    context.Context //nolint:containedctx // the methods of fs.FS take none
	base   string
	token  string
	client *http.Client
}

// New returns the repository at a URL. Its requests end when ctx does, and carry
// the bearer token unless that is empty; a redirect to another host is followed
// without it.
func New(ctx context.Context, base, token string) (*FS, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q is not the URL of a repository (https://…)", base)
	}
	return &FS{ctx: ctx, base: strings.TrimRight(base, "/"), token: token, client: &http.Client{Transport: &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: timeout}).DialContext,
		TLSHandshakeTimeout:   timeout,
		ResponseHeaderTimeout: timeout,
		IdleConnTimeout:       timeout,
		MaxIdleConnsPerHost:   16,
		DisableCompression:    true,
		ForceAttemptHTTP2:     true,
	}}}, nil
}

// Open implements [fs.FS].
func (f *FS) Open(name string) (fs.File, error) { return f.open(f.ctx, name) }

// Get opens a file, with a context of its own.
func (f *FS) Get(ctx context.Context, name string) (io.ReadCloser, error) { return f.open(ctx, name) }

// Stat implements [fs.StatFS].
func (f *FS) Stat(name string) (fs.FileInfo, error) {
	resp, err := f.do(f.ctx, http.MethodHead, name)
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return info{resp, name}, resp.Body.Close()
}

func (f *FS) open(ctx context.Context, name string) (fs.File, error) {
	resp, err := f.do(ctx, http.MethodGet, name) //nolint:bodyclose // the file that is returned closes it
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &file{resp.Body, info{resp, name}}, nil
}

func (f *FS) do(ctx context.Context, method, name string) (*http.Response, error) {
	if !fs.ValidPath(name) {
		return nil, fs.ErrInvalid
	}
	// A "+", which names of deltas have, means a space to some servers.
	where := f.base + "/" + strings.ReplaceAll((&url.URL{Path: name}).EscapedPath(), "+", "%2B")
	req, err := http.NewRequestWithContext(ctx, method, where, nil)
	if err != nil {
		return nil, err
	}
	if f.token != "" {
		req.Header.Set("Authorization", "Bearer "+f.token)
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return resp, nil
	case http.StatusNotFound, http.StatusGone:
		err = fs.ErrNotExist
	case http.StatusUnauthorized, http.StatusForbidden:
		err = fs.ErrPermission
	default:
		err = fmt.Errorf("the server answered %s", resp.Status)
	}
	return nil, errors.Join(fmt.Errorf("%s: %w", where, err), resp.Body.Close())
}

// file is an answer that is being read.
type file struct {
	io.ReadCloser

	info info
}

func (f *file) Stat() (fs.FileInfo, error) { return f.info, nil }

// info is what the head of an answer tells.
type info struct {
	resp *http.Response
	name string
}

func (i info) Name() string { return path.Base(i.name) }

// Size is 0 when the server does not tell.
func (i info) Size() int64     { return max(0, i.resp.ContentLength) }
func (info) Mode() fs.FileMode { return 0o444 }
func (info) IsDir() bool       { return false }
func (info) Sys() any          { return nil }

func (i info) ModTime() time.Time {
	t, _ := http.ParseTime(i.resp.Header.Get("Last-Modified")) // the zero time when it does not say
	return t
}
