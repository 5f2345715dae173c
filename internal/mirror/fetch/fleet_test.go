package fetch_test

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/memnet"
	"freshet/internal/mirror/fetch"
)

// box is a mirror of a fleet: it serves by hash what it has fetched.
type box struct {
	mu   sync.Mutex
	have map[string]string // content by the path of its hash
}

func (b *box) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	text, ok := b.have[r.URL.Path]
	b.mu.Unlock()
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	content(w, r, `"x"`, text)
}

func (b *box) add(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.have["/"+fetch.ByHashPath(sha256.Sum256([]byte(text)))] = text
}

// Mirrors that fetch the same at the same moment ask the upstream for each file once,
// as long as all of them do their part, and get everything whatever the others do.
func TestFleet(t *testing.T) {
	t.Parallel()
	const boxes, files = 5, 120
	for name, tt := range map[string]struct {
		others map[string]http.HandlerFunc // siblings that do something else; nil: there is nobody
		begins func(box int) time.Duration
		most   int // requests to the upstream
		within time.Duration
	}{
		"at once": {most: files, within: 20 * time.Second},
		"one after the other": {
			begins: func(box int) time.Duration { return time.Duration(box) * time.Minute }, most: files, within: 8 * time.Minute,
		},
		"not quite at once": {
			begins: func(box int) time.Duration { return time.Duration(box) * time.Second }, most: files, within: 30 * time.Second,
		},
		"with one that is away": {others: map[string]http.HandlerFunc{"away": nil}, most: files + files/4, within: 40 * time.Second},
		"with one that is not syncing": {others: map[string]http.HandlerFunc{
			"idle": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) },
		}, most: files + files/4, within: time.Minute},
		"with one that is silent": {others: map[string]http.HandlerFunc{
			"silent": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		}, most: files + files/4, within: time.Minute},
		"with one that is busy": {others: map[string]http.HandlerFunc{
			"busy": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		}, most: files + files/4, within: time.Minute},
		// What it sends is thrown away; its share is fetched by everybody for themselves.
		"with one that lies": {others: map[string]http.HandlerFunc{
			"liar": func(w http.ResponseWriter, r *http.Request) { content(w, r, `"x"`, "content no") },
		}, most: files + boxes*files/4, within: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folders := make([]string, boxes)
			for i := range folders {
				folders[i] = t.TempDir()
			}
			synctest.Test(t, func(t *testing.T) {
				all := make(tree)
				for i := range files {
					all[fmt.Sprintf("d/%03d", i)] = fmt.Sprint("content ", 100+i)
				}
				var network memnet.Network
				listen := func(host string, h http.Handler) {
					l, err := network.Listen(host)
					if err != nil {
						t.Fatal(err)
					}
					s := &http.Server{Handler: h}
					go func() { _ = s.Serve(l) }()
					t.Cleanup(func() { _ = s.Close() })
				}
				var mu sync.Mutex
				asked := 0
				listen("up", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					mu.Lock()
					asked++
					mu.Unlock()
					time.Sleep(100 * time.Millisecond)
					content(w, r, `"a"`, all[strings.TrimPrefix(r.URL.Path, "/tree/")])
				}))
				var urls []string
				for other, h := range tt.others {
					urls = append(urls, "http://"+other+".mem/")
					if h != nil {
						listen(other, h)
					}
				}
				mirrors := make([]box, boxes)
				for i := range mirrors {
					mirrors[i].have = make(map[string]string)
					host := fmt.Sprint("m", i)
					listen(host, &mirrors[i])
					urls = append(urls, "http://"+host+".mem")
				}
				begun := time.Now()
				var working sync.WaitGroup
				for i := range mirrors {
					o := fetch.Options{Dial: network.DialContext, Connections: 4}
					var siblings []fetch.Source
					for _, u := range urls {
						s, err := fetch.OpenSibling(u, o)
						if err != nil {
							t.Fatal(err)
						}
						siblings = append(siblings, s)
					}
					j := fetch.Job{
						Folder: folders[i], Siblings: fetch.NewFleet(fmt.Sprintf("http://M%d.mem/", i), siblings...),
						Sources: []fetch.Source{open(t, "http://up.mem/tree/", o)},
					}
					working.Go(func() {
						if tt.begins != nil {
							time.Sleep(tt.begins(i))
						}
						results := make(map[string]fetch.Result)
						err := j.Fetch(t.Context(), each(all.wants()), func(r fetch.Result) {
							if _, ok := results[r.Want.Path]; ok {
								t.Errorf("%s is reported twice", r.Want.Path)
							}
							results[r.Want.Path] = r
							if r.Outcome == fetch.Fetched {
								mirrors[i].add(all[r.Want.Path])
							}
						})
						if err != nil {
							t.Error(err)
						}
						check(t, folders[i], all, results)
					})
				}
				working.Wait()
				took := time.Since(begun)
				t.Logf("%d requests for %d files in %v", asked, files, took)
				if asked < files || asked > tt.most || took > tt.within {
					t.Errorf("%d requests in %v, want at most %d in %v", asked, took, tt.most, tt.within)
				}
			})
		})
	}
}

// A mirror of a fleet that has nobody gets everything, and says what the upstream lacks.
func TestFleetAlone(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		up := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
			if path.Base(r.URL.Path) != "a" {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			content(w, r, `"a"`, "aaa")
		})
		o := fetch.Options{Dial: up.network.DialContext}
		var siblings []fetch.Source
		for i := range 3 {
			s, err := fetch.OpenSibling(fmt.Sprintf("http://gone%d.mem", i), o)
			if err != nil {
				t.Fatal(err)
			}
			siblings = append(siblings, s)
		}
		j := fetch.Job{Folder: folder, Siblings: fetch.NewFleet("http://self.mem", siblings...), Sources: []fetch.Source{up.source(t, fetch.Options{})}}
		results := run(t, j, tree{"a": "aaa", "b": "bbb", "c": "ccc", "d": "ddd"}.wants())
		check(t, folder, tree{"a": "aaa"}, results)
		for _, name := range []string{"b", "c", "d"} {
			if r := results[name]; r.Outcome != fetch.Absent || !strings.Contains(r.Err.Error(), fs.ErrNotExist.Error()) {
				t.Errorf("%s: %s, %v", name, r.Outcome, r.Err)
			}
		}
		if len(up.asked) != 4 {
			t.Errorf("the upstream is asked for %q", up.asked)
		}
	})
}
