package repository

import (
	"slices"
	"strings"
	"testing"

	"freshet/internal/flatpak"
	"freshet/internal/gvariant"
)

// TestUploadersMakeNoSubsets has a build ask for subsets that the repository does
// not have, or that cannot be.
func TestUploadersMakeNoSubsets(t *testing.T) {
	t.Parallel()
	h := newHub(t, withFloss)
	for id, subsets := range map[string]gvariant.Value{
		"org.test.Some":  gvariant.Strings([]string{"verified", "floss", "x y*", "../../../x", "floss"}),
		"org.test.None":  gvariant.Strings([]string{"x y*", strings.Repeat("x", 300)}),
		"org.test.Wrong": gvariant.String("floss"),
	} {
		h.log.Reset()
		h.publishApp(id, "v1", gvariant.Entry{Key: "xa.subsets", Value: subsets})
		if strings.Contains(h.log.String(), "x y*") != (id != "org.test.Wrong") {
			t.Errorf("%s: %s", id, h.log.String())
		}
	}
	for id, want := range map[string][]string{"org.test.Some": {"floss"}, "org.test.None": nil, "org.test.Wrong": nil} {
		commit := h.head(appRef(id))
		if got, ok := commit.Metadata.Strings("xa.subsets"); !slices.Equal(got, want) || ok != (want != nil) {
			t.Errorf("%s is in %q", id, got)
		}
	}
	refs, err := h.objects().ListRefs()
	if err != nil {
		t.Fatal(err)
	}
	for ref := range refs {
		if strings.HasPrefix(ref, "appstream") && !slices.Contains([]string{"appstream/x86_64", "appstream2/x86_64", "appstream2/floss-x86_64"}, ref) {
			t.Errorf("there is a branch %q", ref)
		}
	}
	h.check()
	if pending := h.reopen(); len(pending) != 0 {
		t.Errorf("opening changed %q", pending[0].Changed)
	}
}

// TestStrangeSubsetsOfOthers has the repository be told of a subset that
// cannot be, as a commit may say that another program published.
func TestStrangeSubsetsOfOthers(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.publishApp("org.test.Hello", "v1")
	info := infoOf(t, h.repo, appRef("org.test.Hello"))
	info.Subsets = []string{"x y*", "floss"}
	h.repo.index.Update([]flatpak.CommitInfo{info}, nil)
	h.publishApp("org.test.Other", "v1")
	refs, err := h.objects().ListRefs()
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := refs["appstream2/floss-x86_64"]; !ok || len(refs) != 5 {
		t.Errorf("refs: %q", refs)
	}
}

func TestNamesOfSubsets(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "a b", "a-b", "a/b", "..", "é", strings.Repeat("a", 65)} {
		opt := Options{Name: "n", Dir: "d", BuildsDir: "b", Subsets: []string{name}}
		if err := opt.validate(); err == nil {
			t.Errorf("%q is taken", name)
		}
	}
	opt := Options{Name: "n", Dir: "d", BuildsDir: "b", Subsets: []string{"verified_floss", strings.Repeat("9", 64)}}
	if err := opt.validate(); err != nil {
		t.Error(err)
	}
}
