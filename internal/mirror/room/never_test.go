package room

import (
	"errors"
	"testing"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/engine"
	"freshet/internal/mirror/generation"
)

// For what is larger than the disk nothing goes: an upstream that says so of its files would take others
// off the disk.
func TestLargerThanTheDisk(t *testing.T) {
	t.Parallel()
	store, err := generation.Open(t.Context(), t.TempDir(), generation.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	var projects []Project
	for priority, name := range []string{"other", "huge"} {
		p, err := store.Project(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		projects = append(projects, Project{
			Name: name, Store: p, Priority: 1 + priority, Drain: true,
			Reports: func(int) ([]mirrorapi.Report, error) { return nil, nil }, Progress: func() mirrorapi.Progress { return mirrorapi.Progress{} },
		})
	}
	other := projects[0].Store
	st, err := other.Stage(t.Context())
	if err == nil {
		err = st.Symlink("a", "b")
	}
	if err == nil {
		_, err = st.Commit(t.Context(), generation.Meta{})
	}
	if err != nil {
		t.Fatal(err)
	}
	k := New(Options{Store: store, Reserve: func(int64) int64 { return 0 }, Projects: func() []Project { return projects }})
	if err := k.Room(t.Context(), "huge", engine.Need{Files: 1, Bytes: 1 << 60}); !errors.Is(err, ErrNoRoom) {
		t.Errorf("there is room for it: %v", err)
	}
	if other.Current() == nil {
		t.Error("another project was taken off the disk")
	}
}
