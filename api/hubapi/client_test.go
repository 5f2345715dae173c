package hubapi_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/memnet"
)

// serve runs a handler at http://hub.mem inside the test's bubble and returns
// a client of it.
func serve(t *testing.T, h http.Handler) *hubapi.Client {
	t.Helper()
	var network memnet.Network
	l, err := network.Listen("mem:hub")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Hour}
	go func() { _ = server.Serve(l) }()
	transport := &http.Transport{DialContext: network.DialContext}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = server.Close()
		synctest.Wait()
	})
	return &hubapi.Client{Base: "http://hub.mem", Token: "secret", HTTP: &http.Client{Transport: transport}}
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func TestErrorBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			answer(w, 400, hubapi.Error{
				Status: 400, Kind: hubapi.ErrWrongRepoState, Message: "no",
				CurrentState: "committing", ExpectedState: "uploading",
			})
		}))
		_, err := c.Commit(t.Context(), 7, hubapi.CommitRequest{})
		e, ok := errors.AsType[*hubapi.Error](err)
		if !ok || e.Kind != hubapi.ErrWrongRepoState || e.CurrentState != "committing" || hubapi.Retryable(err) {
			t.Fatalf("%#v", err)
		}
	})
}

// An error page of something between us and the hub is an *Error too.
func TestForeignErrorBody(t *testing.T) {
	for status, want := range map[int]hubapi.ErrorKind{
		401: hubapi.ErrInvalidToken, 403: hubapi.ErrInsufficient, 404: hubapi.ErrNotFound, 413: hubapi.ErrTooLarge,
		418: hubapi.ErrGeneric, 500: hubapi.ErrInternal, 502: hubapi.ErrUnavailable, 507: hubapi.ErrNoSpace,
	} {
		synctest.Test(t, func(t *testing.T) {
			c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				http.Error(w, "<html>", status)
			}))
			c.RetryFor = -1
			_, err := c.Build(t.Context(), 1)
			e, ok := errors.AsType[*hubapi.Error](err)
			if !ok || e.Kind != want || e.Status != status {
				t.Errorf("%d: %v", status, err)
			}
		})
	}
}

func TestRetries(t *testing.T) {
	type try func(w http.ResponseWriter, r *http.Request)
	status := func(code int) try {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	cut := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	half := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, `{"id":`)
		panic(http.ErrAbortHandler)
	}
	good := func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, hubapi.Build{ID: 7}) }
	for _, test := range []struct {
		name  string
		tries []try
		want  bool
	}{
		{"500", []try{status(500), good}, true},
		{"503 and 504", []try{status(503), status(504), status(429), good}, true},
		{"cut", []try{cut, cut, good}, true},
		{"answer cut", []try{half, good}, true},
		{"full disk", []try{status(507), good}, false},
		{"not found", []try{status(404), good}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n atomic.Int32
				c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					var req hubapi.CreateBuildRequest
					if err := json.NewDecoder(r.Body).Decode(&req); err != nil || req.Repo != "stable" {
						t.Errorf("attempt %d: body %+v: %v", n.Load(), req, err)
					}
					test.tries[n.Add(1)-1](w, r)
				}))
				told := 0
				c.Retrying = func(hubapi.Retry) { told++ }
				b, err := c.CreateBuild(t.Context(), hubapi.CreateBuildRequest{Repo: "stable"})
				if ok := err == nil && b.ID == 7; ok != test.want {
					t.Errorf("got %+v, %v", b, err)
				}
				if told != int(n.Load())-1 {
					t.Errorf("%d attempts, told of %d", n.Load(), told)
				}
			})
		})
	}
}

func TestRetryEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { n++; w.WriteHeader(503) }))
		started := time.Now()
		_, err := c.Build(t.Context(), 1)
		if e, ok := errors.AsType[*hubapi.Error](err); !ok || e.Status != 503 || !hubapi.Retryable(err) {
			t.Errorf("error %v", err)
		}
		if took := time.Since(started); took < 4*time.Minute || took > 5*time.Minute || n < 10 || n > 40 {
			t.Errorf("%d attempts in %v", n, took)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			switch n++; n {
			case 1:
				w.Header().Set("Retry-After", "100")
				w.WriteHeader(503)
			case 2:
				w.Header().Set("Retry-After", time.Now().Add(90*time.Second).UTC().Format(http.TimeFormat))
				w.WriteHeader(503)
			default:
				answer(w, 200, hubapi.Build{ID: 1})
			}
		}))
		started := time.Now()
		if _, err := c.Build(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(started); took < 189*time.Second || took > 192*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestRetryEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := c.Build(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
}

// A connection on which nothing moves is given up.
func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if n++; n == 1 {
				<-r.Context().Done()
				return
			}
			answer(w, 200, hubapi.Build{ID: 1})
		}))
		started := time.Now()
		if _, err := c.Build(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(started); took < 5*time.Minute || took > 6*time.Minute {
			t.Errorf("took %v", took)
		}
	})
}

func TestMissingObjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var sizes []int
		var refuses atomic.Bool
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != "GET" || r.URL.Path != "/api/v1/build/3/missing_objects" ||
				r.Header.Get("Content-Encoding") != "gzip" || r.Header.Get("Content-Type") != "application/json" {
				t.Errorf("request %s %s %v", r.Method, r.URL, r.Header)
			}
			var req hubapi.MissingObjectsRequest
			zr, err := gzip.NewReader(r.Body)
			if err == nil {
				err = json.NewDecoder(zr).Decode(&req)
			}
			if err != nil { // where one request is refused, the others are broken off
				if !refuses.Load() {
					t.Error(err)
				}
				return
			}
			mu.Lock()
			sizes = append(sizes, len(req.Wanted))
			mu.Unlock()
			if req.Wanted[0] == "refused" {
				answer(w, 400, hubapi.Error{Kind: hubapi.ErrGeneric, Message: "no name"})
				return
			}
			answer(w, 200, hubapi.MissingObjectsResponse{Missing: req.Wanted[:1]})
		}))
		names := make([]string, 4500)
		for i := range names {
			names[i] = fmt.Sprintf("%064x.filez", i)
		}
		missing, err := c.MissingObjects(t.Context(), 3, names)
		if err != nil || !slices.Equal(missing, []string{names[0], names[2000], names[4000]}) {
			t.Errorf("%v %v", missing, err)
		}
		slices.Sort(sizes) // they come in any order
		if !slices.Equal(sizes, []int{500, 2000, 2000}) {
			t.Errorf("asked for %v", sizes)
		}
		refuses.Store(true)
		names[2000] = "refused"
		missing, err = c.MissingObjects(t.Context(), 3, names)
		if e, ok := errors.AsType[*hubapi.Error](err); !ok || e.Message != "no name" || missing != nil {
			t.Errorf("one request refused: %v %v", missing, err)
		}
	})
}

func textPart(name, text string) hubapi.Part {
	return hubapi.Part{Name: name, Size: int64(len(text)), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(text)), nil
	}}
}

func TestUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if n++; n == 1 { // cut in the middle of the body: sent whole again
				_, _ = io.ReadFull(r.Body, make([]byte, 200))
				panic(http.ErrAbortHandler)
			}
			body, err := io.ReadAll(r.Body)
			if err != nil || int64(len(body)) != r.ContentLength {
				t.Errorf("%d bytes, announced %d: %v", len(body), r.ContentLength, err)
			}
			_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
			if err != nil {
				t.Error(err)
			}
			mr := multipart.NewReader(bytes.NewReader(body), params["boundary"])
			var stored []int
			var seen []string
			for {
				part, err := mr.NextPart()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Error(err)
					break
				}
				data, _ := io.ReadAll(part)
				seen = append(seen, part.FileName()+"="+string(data))
				stored = append(stored, len(data))
			}
			if !slices.Equal(seen, []string{"a.filez=hello", "b.filez=", "c.filez=\r\n--x"}) {
				t.Errorf("parts %q", seen)
			}
			answer(w, 200, stored)
		}))
		stored, err := c.Upload(t.Context(), 1, []hubapi.Part{
			textPart("a.filez", "hello"), textPart("b.filez", ""), textPart("c.filez", "\r\n--x"),
		})
		if err != nil || !slices.Equal(stored, []int64{5, 0, 5}) {
			t.Errorf("%v %v", stored, err)
		}
	})
}

// A file that is not as announced ends the upload with its name, at once.
func TestUploadChangedFile(t *testing.T) {
	for name, part := range map[string]hubapi.Part{
		"shorter": {Name: "a", Size: 6, Open: textPart("a", "hello").Open},
		"longer":  {Name: "a", Size: 4, Open: textPart("a", "hello").Open},
		"gone":    {Name: "a", Size: 4, Open: func() (io.ReadCloser, error) { return nil, errors.New("gone") }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if _, err := io.Copy(io.Discard, r.Body); err == nil {
						t.Error("the hub saw a whole body")
					}
					w.WriteHeader(500)
				}))
				started := time.Now()
				_, err := c.Upload(t.Context(), 1, []hubapi.Part{textPart("ok", "1"), part, textPart("ok2", "1")})
				if e, ok := errors.AsType[*hubapi.PartError](err); !ok || e.Name != "a" || hubapi.Retryable(err) {
					t.Errorf("%v", err)
				}
				if time.Since(started) > time.Second {
					t.Error("tried again")
				}
			})
		})
	}
}

func TestBadNames(t *testing.T) {
	c := &hubapi.Client{Base: "http://127.0.0.1:1"}
	for _, name := range []string{"", "..", "a/b", "a\"b", "a\r\nb", "a?b", "a b"} {
		if _, err := c.Upload(t.Context(), 1, []hubapi.Part{textPart(name, "")}); err == nil || hubapi.Retryable(err) {
			t.Errorf("part %q: %v", name, err)
		}
		if _, err := c.TreeInfo(t.Context(), name); err == nil || hubapi.Retryable(err) {
			t.Errorf("tree %q: %v", name, err)
		}
	}
	for _, base := range []string{"", "hub.example.org", "ftp://x", "http://", "http://%zz"} {
		c := &hubapi.Client{Base: base}
		if _, err := c.Build(t.Context(), 1); err == nil || hubapi.Retryable(err) {
			t.Errorf("base %q: %v", base, err)
		}
	}
}

func TestCancelTreeTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != "DELETE" || r.URL.Path != "/api/v1/tree/rpms/push/ab12" {
				t.Errorf("%s %s", r.Method, r.URL)
			}
			if n++; n == 1 {
				w.WriteHeader(204)
				return
			}
			answer(w, 404, hubapi.Error{Status: 404, Kind: hubapi.ErrNotFound})
		}))
		for range 2 {
			if err := c.CancelTree(t.Context(), "rpms", "ab12"); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestRedirects(t *testing.T) {
	var got atomic.Pointer[http.Request]
	record := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got.Store(r)
		answer(w, 200, hubapi.Build{ID: 9})
	})
	plain := httptest.NewServer(record)
	defer plain.Close()
	other := httptest.NewTLSServer(record)
	defer other.Close()

	var target atomic.Value
	var code atomic.Int32
	origin := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/here" {
			record(w, r)
			return
		}
		if r.Header.Get("Authorization") != "Bearer secret" {
			t.Error("no token for the hub itself")
		}
		http.Redirect(w, r, target.Load().(string), int(code.Load()))
	}))
	defer origin.Close()
	// httptest's certificates are good for 127.0.0.1 and example.com only, but
	// a different port is another host for us.
	c := hubapi.Client{Base: origin.URL, Token: "secret", HTTP: origin.Client(), RetryFor: -1}

	for _, test := range []struct {
		name  string
		to    string
		code  int32
		post  bool
		ok    bool
		token bool
	}{
		{"same host", origin.URL + "/here", 302, false, true, true},
		{"other host", other.URL + "/there", 302, false, true, false},
		{"to http", plain.URL + "/there", 302, false, false, false},
		{"POST with 302", origin.URL + "/here", 302, true, false, false},
		{"POST with 307", origin.URL + "/here", 307, true, true, true},
		{"POST with 307 to other host", other.URL + "/there", 307, true, true, false},
		{"POST with 308 to http", plain.URL + "/there", 308, true, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			got.Store(nil)
			target.Store(test.to)
			code.Store(test.code)
			var err error
			if test.post {
				_, err = c.CreateBuild(t.Context(), hubapi.CreateBuildRequest{Repo: "stable"})
			} else {
				_, err = c.Build(t.Context(), 9)
			}
			if (err == nil) != test.ok || hubapi.Retryable(err) {
				t.Errorf("error %v", err)
			}
			r := got.Load()
			if (r != nil) != test.ok {
				t.Errorf("request %v", r)
			}
			if r != nil && (r.Header.Get("Authorization") != "") != test.token {
				t.Errorf("Authorization %q", r.Header.Get("Authorization"))
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("token in %v", err)
			}
		})
	}
}

// A server whose certificate is not trusted will not be so a moment later.
func TestUntrustedServerIsFinal(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	server.Config.ErrorLog = nil
	c := hubapi.Client{Base: server.URL}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := c.Build(ctx, 1); err == nil || hubapi.Retryable(err) || ctx.Err() != nil {
		t.Errorf("error %v", err)
	}
}

func TestConnectErrorIsRetryable(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	c := hubapi.Client{Base: server.URL, RetryFor: -1}
	if _, err := c.Build(t.Context(), 1); !hubapi.Retryable(err) {
		t.Errorf("error %v", err)
	}
}

// What no repetition helps against is not repeated.
func TestFinalConnectErrors(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	foreign := httptest.NewServer(http.RedirectHandler("ftp://example.com/", http.StatusFound))
	defer foreign.Close()
	for name, test := range map[string]struct {
		client hubapi.Client
		want   string
	}{
		"HTTP behind https": {hubapi.Client{Base: strings.Replace(plain.URL, "http:", "https:", 1)}, "server gave HTTP response to HTTPS client"},
		"no such host": {hubapi.Client{Base: "http://hub.example", HTTP: &http.Client{Transport: &http.Transport{
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "hub.example", IsNotFound: true}}
			},
		}}}, "hub http://hub.example: dial tcp: lookup hub.example: no such host"},
		"redirect to another scheme": {hubapi.Client{Base: foreign.URL}, "redirect to ftp refused"},
	} {
		t.Run(name, func(t *testing.T) {
			c := test.client
			c.Retrying = func(r hubapi.Retry) { t.Errorf("tried again: %v", r.Err) }
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if _, err := c.Build(ctx, 1); err == nil || hubapi.Retryable(err) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// A hub that never answered is given up soon; one that did, in
// whatever way, is not.
func TestConnectFor(t *testing.T) {
	const connectFor = 15 * time.Second
	t.Run("refused", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var network memnet.Network // nobody listens
			c := hubapi.Client{Base: "http://hub.mem", HTTP: &http.Client{Transport: &http.Transport{DialContext: network.DialContext}}, ConnectFor: connectFor}
			var told []hubapi.Retry
			c.Retrying = func(r hubapi.Retry) { told = append(told, r) }
			begun := time.Now()
			_, err := c.Build(t.Context(), 1)
			if took := time.Since(begun); err == nil || took != connectFor || len(told) < 5 || told[0].Left != connectFor {
				t.Errorf("%v after %v, told %v", err, took, told)
			}
			for _, r := range told {
				if r.Pause <= 0 || r.Pause > r.Left {
					t.Errorf("told %+v", r)
				}
			}
		})
	})
	t.Run("no connection", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			over := make(chan struct{})
			defer func() { close(over); synctest.Wait() }()
			transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
				<-over // longer than anybody waits for it
				return nil, errors.New("over")
			}}
			c := hubapi.Client{Base: "http://hub.mem", HTTP: &http.Client{Transport: transport}, ConnectFor: connectFor}
			begun := time.Now()
			_, err := c.Build(t.Context(), 1)
			if took := time.Since(begun); err == nil || took != connectFor || !strings.Contains(err.Error(), "no connection in time") {
				t.Errorf("%v after %v", err, took)
			}
		})
	})
	for name, answered := range map[string]http.HandlerFunc{
		"503": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) },
		"answer cut": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "{")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := serve(t, answered)
				c.ConnectFor = connectFor
				begun := time.Now()
				_, err := c.Build(t.Context(), 1)
				if took := time.Since(begun); err == nil || took < 4*time.Minute {
					t.Errorf("%v after %v", err, took)
				}
			})
		})
	}
	t.Run("slow answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				time.Sleep(time.Minute)
				answer(w, 200, hubapi.Build{ID: 1})
			}))
			c.ConnectFor = connectFor
			if _, err := c.Build(t.Context(), 1); err != nil {
				t.Error(err)
			}
		})
	})
}
