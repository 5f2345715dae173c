package repository

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"freshet/internal/ostree"
)

// TestEditThatFailed has a program change an object wrongly and fail, or be killed with
// the hub: a later edit, or a publish without any, does not take the object for one
// that was verified.
func TestEditThatFailed(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]func(h *hub, b *Build, request PublishRequest) error{
		"edited again": func(_ *hub, b *Build, _ PublishRequest) error {
			_, err := b.Edit(t.Context(), func(string) error { return nil })
			return err
		},
		"published": func(h *hub, b *Build, request PublishRequest) error {
			request.Build = b
			result, err := h.repo.Publish(t.Context(), []PublishRequest{request}, nil, h.cache.save)
			return errors.Join(err, result.Failed[request.Key])
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHub(t)
			ref := appRef("org.test.Hello")
			u := uploader{}
			request := h.commit(u, map[string]string{ref: u.commit(t, ref, appTree("org.test.Hello", "v1"))})
			b := request.Build
			broken := errors.New("the program has failed")
			_, err := b.Edit(t.Context(), func(dir string) error {
				changed := changeFile(t, u, dir)
				for { // the clock of the file system ticks slowly
					now := touched(t, dir)
					if now.Nano() > changed.Nano() {
						return broken
					}
				}
			})
			if !errors.Is(err, broken) {
				t.Fatal(err)
			}
			h.reopen()
			if b, err = h.repo.Build(b.id); err != nil {
				t.Fatal(err)
			}
			if err := again(h, b, request); err == nil {
				t.Error("it has an object that is not what its name says")
			}
		})
	}
}

// touched is the time by the clock of the file system.
func touched(t *testing.T, dir string) syscall.Timespec {
	t.Helper()
	path := filepath.Join(dir, "touched")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err = errors.Join(err, os.Remove(path)); err != nil {
		t.Fatal(err)
	}
	return changeTime(info)
}

// changeFile puts another content into the object of a file, of the same size, and
// returns when it did.
func changeFile(t *testing.T, u uploader, dir string) syscall.Timespec {
	t.Helper()
	for name := range u {
		if name.Type != ostree.TypeFile {
			continue
		}
		path := filepath.Join(dir, filepath.FromSlash(name.Path()))
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)-1] ^= 1
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return changeTime(info)
	}
	t.Fatal("there is no file")
	return syscall.Timespec{}
}
