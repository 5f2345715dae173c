package s3_test

import (
	"testing"

	"freshet/internal/store/storetest"
)

func TestFake(t *testing.T) {
	t.Parallel()
	storetest.Objects(t, storetest.Fake(t, nil).Open(t))
}

func TestReal(t *testing.T) {
	t.Parallel()
	storetest.Objects(t, storetest.Real(t).Open(t))
}
