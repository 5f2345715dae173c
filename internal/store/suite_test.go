package store_test

import (
	"testing"

	"freshet/internal/store/storetest"
)

func TestLocal(t *testing.T) {
	t.Parallel()
	storetest.Store(t, storetest.Local)
}

func TestMirroredFake(t *testing.T) {
	t.Parallel()
	objects := storetest.Fake(t, nil).Open(t)
	storetest.Store(t, storetest.MirroredIn(objects))
}

func TestMirroredReal(t *testing.T) {
	t.Parallel()
	objects := storetest.Real(t).Open(t)
	storetest.Store(t, storetest.MirroredIn(objects))
}
