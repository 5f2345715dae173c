package repository

import (
	"errors"
	"testing"
)

// media commits a build that was created for an application.
func (h *hub) media(u uploader, id string, refs map[string]string) PublishRequest {
	h.t.Helper()
	b := h.upload(u)
	made, err := b.Commit(h.t.Context(), CommitRequest{Refs: refs, AppID: id}, &h.log)
	if err != nil {
		h.t.Fatal(err)
	}
	return PublishRequest{Key: "media of " + id, Build: b, Refs: made, AppID: id}
}

func TestWhoseMedia(t *testing.T) {
	t.Parallel()
	mine := ids{"org.test.App": true, "org.test.App.Locale": true, "re.sonny.Game": true}
	others := ids{"org.test.App-Extra": true, "org.test.App.Plugin": true, "org.test.Other": true, "org.test.App": true}
	for path, want := range map[string]bool{
		"org.test.App/1.png": true,
		"org.test.App":       true,
		"org.test.App.png":   true,
		"org.test.App-stable/624x351/org.test.App.png": true,
		"org.test.App-0a1b.png":                        true,
		"org.test.App.Part/1.png":                      true,
		"org/test/App/0a1b/screenshots/1.png":          true,
		"org/test/App.desktop/0a1b/1.png":              true,
		"r/re/re.sonny.Game/last/1.png":                true,

		"org.test.App-Extra/1.png":         false,
		"org.test.App-Extra-stable/1.png":  false,
		"org/test/App-Extra/0a1b/1.png":    false,
		"org.test.App.Plugin/1.png":        false,
		"org.test.Other/1.png":             false,
		"org/test/Other/0a1b/1.png":        false,
		"o/or/org.test.Other/0a1b/1.png":   false,
		"org.test.Apple/1.png":             false,
		"org.test.App_/1.png":              false,
		"org.test/App/1.png":               false,
		"org/test/App":                     false,
		"org/test/1.png":                   false,
		"1.png":                            false,
		"..org.test.App/1.png":             false,
		"org.test.Other/org.test.App/1/2/": false,
	} {
		err := mine.checkOwner([]medium{{path: mediaDir + path}}, others)
		if want != (err == nil) || err != nil && !errors.Is(err, ErrForeignMedia) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestForeignMedia has a build bring the media of another one's application.
func TestForeignMedia(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	const screenshots = "screenshots/x86_64"
	h.publish(h.mediaRequest("first", "org.test.Hello-World", tree{"org.test.Hello-World/1.png": "PNG"}))

	u := uploader{}
	refs := map[string]string{
		appRef("org.test.Evil"): u.commit(t, appRef("org.test.Evil"), appTree("org.test.Evil", "v1")),
		screenshots:             u.commit(t, screenshots, tree{"org.test.Hello-World/1.png": "EVIL"}),
	}
	if _, err := h.upload(u).Commit(t.Context(), CommitRequest{Refs: refs}, nil); !errors.Is(err, ErrForeignMedia) {
		t.Errorf("committed: %v", err)
	}
	result := h.isolated(
		h.raw("bad upload", u, refs),
		// Which is org.test.Hello's as long as nobody else is published.
		h.mediaRequest("bad prefix", "org.test.Hello", tree{"org.test.Hello-World/1.png": "EVIL"}),
		h.appRequest("new", "org.test.New-App"),
		h.mediaRequest("bad beside", "org.test.New", tree{"org.test.New-App/1.png": "EVIL"}),
		h.mediaRequest("own", "org.test.Own", tree{"org.test.Own-stable/1.png": "PNG own"}),
	)
	for key, err := range result.Failed {
		if !errors.Is(err, ErrForeignMedia) {
			t.Errorf("%s: %v", key, err)
		}
	}
	if got := readFile(t, h.opt.Dir+"/media/org.test.Hello-World/1.png"); got != "PNG" {
		t.Errorf("published %q", got)
	}
	if got := readFile(t, h.opt.Dir+"/media/org.test.Own-stable/1.png"); got != "PNG own" {
		t.Errorf("published %q", got)
	}
}
