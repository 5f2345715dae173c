package fetch_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/memnet"
	"freshet/internal/mirror/fetch"
)

// server is an upstream inside the process that behaves as a test says.
type server struct {
	network memnet.Network
	mu      sync.Mutex
	asked   []string // path and range of each request
}

// serve starts a server in a bubble; it ends with the test.
func serve(t *testing.T, handle func(w http.ResponseWriter, r *http.Request, n int)) *server {
	t.Helper()
	s := new(server)
	l, err := s.network.Listen("up")
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked = append(s.asked, strings.TrimSpace(r.URL.Path+" "+r.Header.Get("Range")))
		n := len(s.asked)
		s.mu.Unlock()
		handle(w, r, n)
	})}
	go func() { _ = h.Serve(l) }()
	t.Cleanup(func() { _ = h.Close() })
	return s
}

func (s *server) source(t *testing.T, o fetch.Options) fetch.Source {
	t.Helper()
	o.Dial = s.network.DialContext
	return open(t, "http://up.mem/tree/", o)
}

// content serves a file with ranges and conditions.
func content(w http.ResponseWriter, r *http.Request, tag, text string) {
	w.Header().Set("ETag", tag)
	http.ServeContent(w, r, "", stamp(), strings.NewReader(text))
}

// cut sends the beginning of a file, and ends the connection.
func cut(w http.ResponseWriter, tag, text string, at int) {
	w.Header().Set("ETag", tag)
	w.Header().Set("Last-Modified", stamp().Format(http.TimeFormat))
	w.Header().Set("Content-Length", fmt.Sprint(len(text)))
	_, _ = io.WriteString(w, text[:at])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// Whatever a server does, a file that is told to be there is the one that was wanted, and
// what is wrong with others is told.
func TestFaults(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("0123456789", 50_000)
	other := strings.Repeat("9876543210", 50_000)
	good := fetch.Want{Path: "f", Size: int64(len(text)), Sum: sumOf(text)}
	for name, tt := range map[string]struct {
		handle  func(w http.ResponseWriter, r *http.Request, n int)
		want    fetch.Want // zero: good
		outcome fetch.Outcome
		asked   []string
		says    string
		took    time.Duration
	}{
		"cut, and gone on with": {handle: func(w http.ResponseWriter, r *http.Request, n int) {
			if n == 1 {
				cut(w, `"a"`, text, 123_456)
			}
			content(w, r, `"a"`, text)
		}, outcome: fetch.Fetched, asked: []string{"/tree/f", "/tree/f bytes=123456-"}, took: time.Second},
		"cut, and changed": {handle: func(w http.ResponseWriter, r *http.Request, n int) {
			if n == 1 {
				cut(w, `"a"`, other, 123_456)
			}
			content(w, r, `"b"`, text)
		}, outcome: fetch.Fetched, asked: []string{"/tree/f", "/tree/f bytes=123456-"}, took: time.Second},
		"cut, with a weak tag": {handle: func(w http.ResponseWriter, r *http.Request, n int) {
			if n == 1 {
				cut(w, `W/"a"`, text, 1000)
			}
			content(w, r, `W/"a"`, text)
		}, outcome: fetch.Fetched, asked: []string{"/tree/f", "/tree/f"}, took: time.Second},
		"cut, and another part": {handle: func(w http.ResponseWriter, r *http.Request, n int) {
			switch n {
			case 1:
				cut(w, `"a"`, text, 1000)
			case 2:
				w.Header().Set("Content-Range", fmt.Sprintf("bytes 900-%d/%d", len(text)-1, len(text)))
				w.WriteHeader(http.StatusPartialContent)
				_, _ = io.WriteString(w, text[900:])
			default:
				content(w, r, `"a"`, text)
			}
		}, outcome: fetch.Fetched, asked: []string{"/tree/f", "/tree/f bytes=1000-", "/tree/f"}},
		"cut again and again": {handle: func(w http.ResponseWriter, r *http.Request, n int) {
			if n > 20 {
				content(w, r, `"a"`, text)
				return
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", 1000*(n-1), len(text)-1, len(text)))
			if n > 1 {
				w.Header().Set("Content-Length", fmt.Sprint(len(text)-1000*(n-1)))
				w.WriteHeader(http.StatusPartialContent)
			}
			cut(w, `"a"`, text[1000*(n-1):], 1000)
		}, outcome: fetch.Fetched, says: "", took: 20 * time.Second},
		"cut always, and begun anew each time": {handle: func(w http.ResponseWriter, _ *http.Request, _ int) {
			w.Header().Set("Content-Length", fmt.Sprint(len(text)))
			_, _ = io.WriteString(w, text[:1000])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, outcome: fetch.Failed, says: "unexpected EOF", asked: []string{"/tree/f", "/tree/f", "/tree/f"}},
		"another length": {handle: func(w http.ResponseWriter, r *http.Request, _ int) {
			content(w, r, `"a"`, text[1:])
		}, outcome: fetch.Wrong, says: "499999 bytes, not 500000"},
		"without end": {handle: func(w http.ResponseWriter, _ *http.Request, _ int) {
			for {
				if _, err := io.WriteString(w, text); err != nil {
					return
				}
			}
		}, outcome: fetch.Wrong, says: "more than 500000 bytes"},
		"too short, without a length": {handle: func(w http.ResponseWriter, _ *http.Request, _ int) {
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, text[:100])
		}, outcome: fetch.Wrong, says: "100 bytes, not 500000"},
		"other bytes": {handle: func(w http.ResponseWriter, r *http.Request, _ int) {
			content(w, r, `"a"`, other)
		}, outcome: fetch.Wrong, says: "its SHA-256 is"},
		"busy once": {handle: func(w http.ResponseWriter, r *http.Request, n int) {
			if n == 1 {
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			content(w, r, `"a"`, text)
		}, outcome: fetch.Fetched, took: 7 * time.Second},
		"busy": {handle: func(w http.ResponseWriter, _ *http.Request, _ int) {
			w.WriteHeader(http.StatusTooManyRequests)
		}, outcome: fetch.Failed, says: "429", asked: []string{"/tree/f", "/tree/f", "/tree/f"}, took: 5 * time.Second},
		"silent": {handle: func(_ http.ResponseWriter, r *http.Request, _ int) {
			<-r.Context().Done()
		}, outcome: fetch.Failed, says: "silent for too long", took: 3*time.Minute + 5*time.Second},
		"silent in the middle": {handle: func(w http.ResponseWriter, r *http.Request, n int) {
			if n == 1 {
				w.Header().Set("Content-Length", fmt.Sprint(len(text)))
				_, _ = io.WriteString(w, text[:100_000])
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
				return
			}
			content(w, r, `"a"`, text)
		}, outcome: fetch.Fetched, took: time.Minute + time.Second},
		"moved": {handle: func(w http.ResponseWriter, r *http.Request, _ int) {
			if r.URL.Path == "/tree/f" {
				http.Redirect(w, r, "/elsewhere", http.StatusFound)
				return
			}
			content(w, r, `"a"`, text)
		}, outcome: fetch.Fetched, asked: []string{"/tree/f", "/elsewhere"}},
		"moved in a circle": {handle: func(w http.ResponseWriter, r *http.Request, _ int) {
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		}, outcome: fetch.Failed, says: "redirects"},
		"not for us": {handle: func(w http.ResponseWriter, _ *http.Request, _ int) {
			w.WriteHeader(http.StatusForbidden)
		}, outcome: fetch.Denied, says: "403", asked: []string{"/tree/f"}},
		"of unknown size": {handle: func(w http.ResponseWriter, r *http.Request, _ int) {
			content(w, r, `"a"`, text)
		}, want: fetch.Want{Path: "f", Size: -1}, outcome: fetch.Fetched},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				up := serve(t, tt.handle)
				if tt.want.Path == "" {
					tt.want = good
				}
				begun := time.Now()
				j := fetch.Job{Folder: folder, Sources: []fetch.Source{up.source(t, fetch.Options{})}, Attempts: 1}
				r := run(t, j, []fetch.Want{tt.want})["f"]
				took := time.Since(begun)
				if r.Outcome != tt.outcome || (r.Err == nil) != (tt.says == "") || r.Err != nil && !strings.Contains(r.Err.Error(), tt.says) {
					t.Errorf("%s, %v, want %s with %q", r.Outcome, r.Err, tt.outcome, tt.says)
				}
				if tt.asked != nil && strings.Join(up.asked, "|") != strings.Join(tt.asked, "|") {
					t.Errorf("asked for %q, want %q", up.asked, tt.asked)
				}
				if tt.took > 0 && took != tt.took {
					t.Errorf("it took %v, want %v", took, tt.took)
				}
				if r.Outcome == fetch.Fetched {
					check(t, folder, tree{"f": text}, map[string]fetch.Result{"f": r})
				} else if _, err := os.Lstat(filepath.Join(folder, "f")); !os.IsNotExist(err) {
					t.Errorf("it is there: %v", err)
				}
				left, err := os.ReadDir(filepath.Join(folder, fetch.PartsFolder))
				if err != nil || len(left) != 0 {
					t.Errorf("left behind: %v, %v", left, err)
				}
			})
		})
	}
}

// A source that is not there is not asked for each of a thousand files, and the next one
// has them all.
func TestNextSource(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		all := make(tree)
		for i := range 1000 {
			all[fmt.Sprintf("d/%d", i)] = fmt.Sprint("content ", i)
		}
		busy := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) { w.WriteHeader(http.StatusBadGateway) })
		half := serve(t, func(w http.ResponseWriter, r *http.Request, n int) {
			name := strings.TrimPrefix(r.URL.Path, "/tree/")
			if n%2 == 0 {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			content(w, r, `"a"`, all[name])
		})
		whole := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
			content(w, r, `"a"`, all[strings.TrimPrefix(r.URL.Path, "/tree/")])
		})
		j := fetch.Job{Folder: folder, Sources: []fetch.Source{
			busy.source(t, fetch.Options{}), half.source(t, fetch.Options{}), whole.source(t, fetch.Options{}),
		}}
		check(t, folder, all, run(t, j, all.wants()))
		if len(busy.asked) > 100 || len(half.asked) != 1000 || len(whole.asked) != 500 {
			t.Errorf("asked %d, %d and %d times", len(busy.asked), len(half.asked), len(whole.asked))
		}
	})
}

// All sources are asked again for what failed, a few times, and not for what they lack.
func TestAttempts(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		up := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
			switch {
			case r.URL.Path == "/tree/absent":
				w.WriteHeader(http.StatusNotFound)
			case time.Since(begun) < 10*time.Second || r.URL.Path == "/tree/never":
				w.WriteHeader(http.StatusBadGateway)
			default:
				content(w, r, `"a"`, "late")
			}
		})
		j := fetch.Job{Folder: folder, Sources: []fetch.Source{up.source(t, fetch.Options{})}, Progress: new(fetch.Progress)}
		results := run(t, j, []fetch.Want{{Path: "late", Size: 4}, {Path: "absent", Size: 1}, {Path: "never", Size: 1}})
		check(t, folder, tree{"late": "late"}, results)
		if results["absent"].Outcome != fetch.Absent || results["never"].Outcome != fetch.Failed || !errors.Is(results["never"].Err, fetch.ErrUnreachable) {
			t.Errorf("%+v", results)
		}
		if j.Progress.Files.Load() != 1 || j.Progress.Problems.Load() != 2 {
			t.Errorf("%d files, %d problems", j.Progress.Files.Load(), j.Progress.Problems.Load())
		}
	})
}

// Siblings are asked by hash, and not believed; what they lack comes from upstream, and one
// that has nothing is not asked for everything.
func TestSiblings(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		all := make(tree)
		for i := range 500 {
			all[fmt.Sprintf("d/%d", i)] = fmt.Sprint("content ", i)
		}
		byHash := make(map[string]string)
		for _, w := range all.wants() {
			sum, _ := w.Sum.SHA256()
			byHash["/base/"+fetch.ByHashPath(sum)] = all[w.Path]
		}
		empty := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) { w.WriteHeader(http.StatusNotFound) })
		liar := serve(t, func(w http.ResponseWriter, r *http.Request, n int) {
			if n%5 == 0 {
				content(w, r, `"x"`, "something else")
				return
			}
			content(w, r, `"x"`, byHash[r.URL.Path])
		})
		up := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
			content(w, r, `"a"`, all[strings.TrimPrefix(r.URL.Path, "/tree/")])
		})
		var siblings []fetch.Source
		for base, s := range map[string]*server{"empty": empty, "base": liar} {
			sibling, err := fetch.OpenSibling("http://up.mem/"+base, fetch.Options{Dial: s.network.DialContext})
			if err != nil {
				t.Fatal(err)
			}
			siblings = append(siblings, sibling)
		}
		wants := all.wants()
		for i := range wants {
			wants[i].ModTime = stamp()
		}
		wants[0].Sum.Value = "" // nobody can be asked for it by hash
		j := fetch.Job{Folder: folder, Siblings: fetch.NewFleet("", siblings...), Sources: []fetch.Source{up.source(t, fetch.Options{})}}
		check(t, folder, all, run(t, j, wants))
		if len(empty.asked) > 80 || len(liar.asked) != 499 || len(up.asked) != 1+499/5 {
			t.Errorf("asked %d, %d and %d times", len(empty.asked), len(liar.asked), len(up.asked))
		}
	})
}

// Small files are read on condition, and within a limit.
func TestReadHTTP(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		up := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
			switch r.URL.Path {
			case "/tree/repomd.xml":
				content(w, r, `"a"`, "<repomd/>")
			case "/tree/secret":
				w.WriteHeader(http.StatusForbidden)
			default:
				w.WriteHeader(http.StatusNotFound)
			}
		})
		testRead(t, up.source(t, fetch.Options{}), "repomd.xml", "<repomd/>")
		if _, err := up.source(t, fetch.Options{}).Read(t.Context(), "secret", 10, fetch.Validator{}); !errors.Is(err, os.ErrPermission) {
			t.Errorf("a secret: %v", err)
		}
		gone := open(t, "http://nobody.mem/", fetch.Options{Dial: up.network.DialContext})
		if _, err := gone.Read(t.Context(), "x", 10, fetch.Validator{}); !errors.Is(err, fetch.ErrUnreachable) {
			t.Errorf("nobody there: %v", err)
		}
	})
}

// testRead reads a file of a source in all ways.
func testRead(t *testing.T, s fetch.Source, name, want string) {
	t.Helper()
	f, err := s.Read(t.Context(), name, int64(len(want)), fetch.Validator{})
	if err != nil || string(f.Data) != want || f.Same || !f.Validator.ModTime.Equal(stamp()) || f.Validator.Size != int64(len(want)) {
		t.Errorf("read %q, %+v, %v", f.Data, f, err)
	}
	again, err := s.Read(t.Context(), name, int64(len(want)), f.Validator)
	if same := again.Same && again.Data == nil; err != nil || !same && string(again.Data) != want || again.Validator != f.Validator {
		t.Errorf("a second time: %+v, %v", again, err)
	}
	old := fetch.Validator{ETag: `"older"`, ModTime: stamp().Add(-time.Hour), Size: 1}
	if f, err = s.Read(t.Context(), name, int64(len(want)), old); err != nil || f.Same || !bytes.Equal(f.Data, []byte(want)) {
		t.Errorf("after an older one: %+v, %v", f, err)
	}
	if f, err := s.Read(t.Context(), name, int64(len(want)-1), fetch.Validator{}); err == nil {
		t.Errorf("one that is too long is read: %q", f.Data)
	}
	if _, err := s.Read(t.Context(), "absent", 10, fetch.Validator{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("one that is absent: %v", err)
	}
}
