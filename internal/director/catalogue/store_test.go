package catalogue_test

import (
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

// A change is in Current when it is made, and there after a restart.
func TestUpdate(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, newDSN func() string) {
		t.Helper()
		dsn := newDSN()
		s := open(t, dsn)
		if c := s.Current(); c.Serial != 0 || c.ID == "" || len(c.Mirrors) != 0 {
			t.Fatalf("a new catalogue is %+v", c)
		}
		changed := s.Changed()
		change, err := s.Update(t.Context(), catalogue.Edit{Actor: "ada", Change: func(c *directorapi.Catalogue) error {
			c.Sites = append(c.Sites, directorapi.Site{Name: "b", Country: "DE"}, directorapi.Site{Name: "a", Country: "FR"})
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		if change.Serial != 1 || len(change.Items) != 2 || change.Items[0].Name != "a" || change.Items[0].Action != directorapi.ActionAdd {
			t.Errorf("the change is %+v", change)
		}
		<-changed
		again := open(t, dsn)
		if c := again.Current(); c.Serial != 1 || c.ID != s.Current().ID || len(c.Sites) != 2 || c.Sites[0].Name != "a" {
			t.Errorf("after a restart: %+v", c)
		}
	})
}
