package tree

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"freshet/api/hubapi"
)

// A chain of links costs no more than its length, and is followed as far as
// Linux does.
func TestLongChainOfLinks(t *testing.T) {
	const links = 20_000
	files := make([]hubapi.TreeFile, 0, links+1)
	files = append(files, hubapi.TreeFile{Path: "Release", SHA256: strings.Repeat("a", 64)})
	for i := range links {
		to := "Release"
		if i > 0 {
			to = fmt.Sprintf("l%06d", i-1)
		}
		files = append(files, hubapi.TreeFile{Path: fmt.Sprintf("l%06d", i), Link: to})
	}
	files, err := checkFiles(files)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		mutableSums(files)
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Minute): // it took hours
		t.Fatal("still following links")
	}
}

// Open pushes are bounded, and looking at one does not keep it.
func TestOpenPushesAreBounded(t *testing.T) {
	trees, err := Open(t.TempDir(), Options{PushTTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = trees.Close() })
	file := []hubapi.TreeFile{{Path: "a", Size: 1, SHA256: strings.Repeat("b", 64)}}
	var last hubapi.TreePush
	for range maxPushes {
		if last, err = trees.Begin(t.Context(), "files", file); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := trees.Begin(t.Context(), "files", file); !errors.Is(err, ErrBusy) {
		t.Errorf("one more: %v", err)
	}
	if _, err := trees.Begin(t.Context(), "other", file); err != nil {
		t.Errorf("of another tree: %v", err)
	}
	if err := trees.Cancel(last.ID); err != nil {
		t.Fatal(err)
	}
	p, err := trees.Begin(t.Context(), "files", file)
	if err != nil {
		t.Errorf("after one was cancelled: %v", err)
	}
	touched := trees.pushes[p.ID].touched
	if _, err := trees.Push(t.Context(), p.ID); err != nil {
		t.Fatal(err)
	}
	if !trees.pushes[p.ID].touched.Equal(touched) {
		t.Error("looking at a push prolonged its life")
	}
}
