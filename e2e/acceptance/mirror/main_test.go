package main

import (
	"testing"

	"freshet/e2e/acceptance"
)

func TestTable(t *testing.T) {
	if err := acceptance.Described(checks(), "../../..", "docs/mirror-acceptance.md"); err != nil {
		t.Error(err)
	}
}
