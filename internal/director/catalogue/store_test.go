package catalogue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"freshet/api/directorapi"
	"freshet/internal/director/catalogue"
	"freshet/internal/sqldb/sqldbtest"
)

func open(t *testing.T, dsn string) *catalogue.Store {
	t.Helper()
	s, err := catalogue.Open(t.Context(), catalogue.Config{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// sample is a catalogue with one of each.
func sample() directorapi.Catalogue {
	return directorapi.Catalogue{
		Projects: []directorapi.Project{{
			Name: "fedora", Path: "/fedora/", Origins: []string{"https://origin.example.org/fedora/"},
			Repositories: []directorapi.Repository{{Path: "40/os/", Kind: directorapi.KindRPM}},
		}},
		Sites: []directorapi.Site{{Name: "uni", Country: "DE", Contact: "admin@uni.example", ASN: 680}},
		Mirrors: []directorapi.Mirror{{
			Name: "uni", Site: "uni", Capacity: 10_000,
			Carries: []directorapi.Carried{{
				Project: "fedora", HTTPS: "https://mirror.uni.example/fedora/", RSYNC: "rsync://mirror.uni.example/fedora/",
				Inventory: directorapi.Source{How: directorapi.HowRsync},
			}},
		}},
	}
}

// fill puts the sample into a store.
func fill(t *testing.T, s *catalogue.Store) {
	t.Helper()
	edit(t, s, "ada", func(c *directorapi.Catalogue) { *c = sample() })
}

func edit(t *testing.T, s *catalogue.Store, actor string, change func(*directorapi.Catalogue)) directorapi.Change {
	t.Helper()
	done, err := s.Update(t.Context(), catalogue.Edit{Actor: actor, Note: "because", Change: func(c *directorapi.Catalogue) error {
		change(c)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// told is a change in short.
func told(c directorapi.Change) (lines []string) {
	for _, i := range c.Items {
		lines = append(lines, fmt.Sprintf("%d %s %s.%s %v", c.Serial, i.Action, i.Items, i.Name, i.Keys))
	}
	return lines
}

// What every engine must do.
func TestStore(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, newDSN func() string) {
		t.Helper()
		for name, test := range map[string]func(*testing.T, string){
			"update": testUpdate, "refused": testRefused, "history": testHistory, "together": testTogether, "others": testOthers,
		} {
			t.Run(name, func(t *testing.T) { test(t, newDSN()) })
		}
	})
}

// A change is in Current when it is made, and there after a restart.
func testUpdate(t *testing.T, dsn string) {
	t.Helper()
	s := open(t, dsn)
	if c := s.Current(); c.Serial != 0 || c.ID == "" || len(c.Mirrors) != 0 {
		t.Fatalf("a new catalogue is %+v", c)
	}
	changed, empty := s.Changed(), s.Current()
	done := edit(t, s, "ada", func(c *directorapi.Catalogue) {
		*c = sample()
		c.Sites = append(c.Sites, directorapi.Site{Name: "abc", Country: "FR"})
	})
	want := []string{"1 add projects.fedora []", "1 add sites.abc []", "1 add sites.uni []", "1 add mirrors.uni []"}
	if got := told(done); !slices.Equal(got, want) {
		t.Errorf("the change is %q", got)
	}
	<-changed
	if len(empty.Mirrors) != 0 {
		t.Error("a catalogue that was given out has changed")
	}
	again := open(t, dsn)
	c := again.Current()
	if c.Serial != 1 || c.ETag() != s.Current().ETag() || c.Sites[0].Name != "abc" || c.Mirror("uni").Carries[0].Inventory.How != directorapi.HowRsync {
		t.Errorf("after a restart: %+v", c)
	}
	if done := edit(t, again, "ada", func(*directorapi.Catalogue) {}); done.Serial != 1 || len(done.Items) != 0 {
		t.Errorf("a change of nothing is %+v", done)
	}
	done = edit(t, again, "bob", func(c *directorapi.Catalogue) { c.Mirrors[0].Disabled, c.Mirrors[0].Capacity = true, 5 })
	if got := told(done); !slices.Equal(got, []string{"2 change mirrors.uni [capacity disabled]"}) {
		t.Errorf("the change is %q", got)
	}
}

// What is refused changes nothing, and says all that is wrong.
func testRefused(t *testing.T, dsn string) {
	t.Helper()
	s := open(t, dsn)
	fill(t, s)
	etag := s.Current().ETag()
	own := errors.New("my own")
	for name, test := range map[string]struct {
		edit  catalogue.Edit
		check func(error) bool
	}{
		"an error of its own": {
			catalogue.Edit{Change: func(*directorapi.Catalogue) error { return own }},
			func(err error) bool { return errors.Is(err, own) },
		},
		"problems": {
			catalogue.Edit{Change: func(c *directorapi.Catalogue) error {
				c.Sites, c.Mirrors[0].Capacity = nil, -1
				return nil
			}},
			func(err error) bool {
				e, ok := errors.AsType[*catalogue.InvalidError](err)
				return ok && len(e.Problems) == 2
			},
		},
		"another catalogue": {
			catalogue.Edit{IfMatch: `"x-1"`, Change: func(c *directorapi.Catalogue) error { c.Mirrors = nil; return nil }},
			func(err error) bool { return errors.Is(err, catalogue.ErrConflict) },
		},
		"a note of two lines": {
			catalogue.Edit{Note: "a\nb", Change: func(c *directorapi.Catalogue) error { c.Mirrors = nil; return nil }},
			func(err error) bool { return err != nil },
		},
		"a dry run": {
			catalogue.Edit{DryRun: true, Change: func(c *directorapi.Catalogue) error { c.Mirrors = nil; return nil }},
			func(err error) bool { return err == nil },
		},
	} {
		if _, err := s.Update(t.Context(), test.edit); !test.check(err) {
			t.Errorf("%s: %v", name, err)
		}
		if now := s.Current(); now.ETag() != etag || len(now.Mirrors) != 1 {
			t.Errorf("%s: the catalogue is now %+v", name, now)
		}
	}
	if again := open(t, dsn).Current(); again.ETag() != etag || len(again.Mirrors) != 1 {
		t.Errorf("after a restart: %+v", again)
	}
}

// The history says who changed what, newest first, in pages.
func testHistory(t *testing.T, dsn string) {
	t.Helper()
	s := open(t, dsn)
	fill(t, s)
	edit(t, s, "bob", func(c *directorapi.Catalogue) { c.Mirrors[0].Comment = "slow disk" })
	edit(t, s, "eve", func(c *directorapi.Catalogue) { c.Mirrors = nil })
	for _, test := range []struct {
		query catalogue.HistoryQuery
		want  string
		next  int64
	}{
		{catalogue.HistoryQuery{Limit: 9}, "[3 eve 1][2 bob 1][1 ada 3]", 0},
		{catalogue.HistoryQuery{Limit: 2}, "[3 eve 1][2 bob 1]", 2},
		{catalogue.HistoryQuery{Limit: 2, Before: 2}, "[1 ada 3]", 0},
		{catalogue.HistoryQuery{Limit: 9, Items: directorapi.Sites}, "[1 ada 1]", 0},
		{catalogue.HistoryQuery{Limit: 9, Items: directorapi.Mirrors, Name: "uni"}, "[3 eve 1][2 bob 1][1 ada 1]", 0},
		{catalogue.HistoryQuery{Limit: 9, Name: "nobody"}, "", 0},
	} {
		h, err := s.History(t.Context(), test.query)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, e := range h.Entries {
			got += fmt.Sprintf("[%d %s %d]", e.Serial, e.Actor, len(e.Items))
		}
		if got != test.want || h.Next != test.next {
			t.Errorf("%+v: %s, then %d", test.query, got, h.Next)
		}
	}
	h, err := s.History(t.Context(), catalogue.HistoryQuery{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	if i := h.Entries[0].Items[0]; i.Action != directorapi.ActionRemove || len(i.Before) == 0 || i.After != nil || h.Entries[0].Note != "because" {
		t.Errorf("the newest entry is %+v", h.Entries[0])
	}
}

// Many changes at once, through several stores: none is lost, and serials have no gap.
func testTogether(t *testing.T, dsn string) {
	t.Helper()
	const stores, changes = 3, 8
	var group sync.WaitGroup
	for n := range stores {
		s := open(t, dsn)
		group.Go(func() {
			for i := range changes {
				_, err := s.Update(t.Context(), catalogue.Edit{Actor: "x", Change: func(c *directorapi.Catalogue) error {
					c.Sites = append(c.Sites, directorapi.Site{Name: fmt.Sprintf("s%d-%d", n, i), Country: "DE"})
					return nil
				}})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if c := open(t, dsn).Current(); c.Serial != stores*changes || len(c.Sites) != stores*changes {
		t.Errorf("serial %d with %d sites", c.Serial, len(c.Sites))
	}
}

// A store takes over what another one changes.
func testOthers(t *testing.T, dsn string) {
	t.Helper()
	writer, reader := open(t, dsn), open(t, dsn)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- reader.Run(ctx) }()
	changed := reader.Changed()
	fill(t, writer)
	<-changed
	if c := reader.Current(); c.ETag() != writer.Current().ETag() || len(c.Mirrors) != 1 {
		t.Errorf("the other one has %+v", c)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
