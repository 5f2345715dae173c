package main

import (
	"testing"

	"freshet/api/directorapi"
	"freshet/internal/director/catalogue"
)

// Every key that can be set is explained, and nothing else is.
func TestKeyHelp(t *testing.T) {
	unknown := make(map[string]bool)
	for key := range keyHelp {
		unknown[key] = true
	}
	for _, item := range []any{new(directorapi.Project), new(directorapi.Site), new(directorapi.Mirror)} {
		for _, key := range catalogue.Keys(item)[1:] {
			if keyHelp[key] == "" {
				t.Errorf("%s is not explained", key)
			}
			delete(unknown, key)
		}
	}
	for key := range unknown {
		t.Errorf("%s is explained, and there is no such key", key)
	}
}
