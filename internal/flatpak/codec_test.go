package flatpak

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"freshet/internal/ostree"
)

func fullInfo() CommitInfo {
	info := synthetic(5, 5)
	info.EndOfLife, info.EndOfLifeRebase = "old", "app/org.new.App/x86_64/stable"
	info.TokenType, info.HasTokenType = 2, true
	info.Subsets = []string{"floss", "verified"}
	info.ExtraDataCount, info.ExtraDataSize = 2, 1<<40
	info.CatalogueProblem = "none"
	return info
}

func TestCommitInfoRoundTrip(t *testing.T) {
	for _, want := range []CommitInfo{{}, synthetic(1, 1), fullInfo(), {TokenType: -1}} {
		data := want.Encode()
		got, err := DecodeCommitInfo(data)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		for cut := range len(data) {
			if _, err := DecodeCommitInfo(data[:cut]); !errors.Is(err, ErrCommitInfo) {
				t.Fatalf("cut at %d: %v", cut, err)
			}
		}
		if _, err := DecodeCommitInfo(append(data, 0)); !errors.Is(err, ErrCommitInfo) {
			t.Errorf("longer: %v", err)
		}
		data[0]++
		if _, err := DecodeCommitInfo(data); !errors.Is(err, ErrCommitInfo) {
			t.Errorf("other version: %v", err)
		}
	}
}

func FuzzDecodeCommitInfo(f *testing.F) {
	full := fullInfo()
	f.Add(full.Encode())
	f.Add((&CommitInfo{}).Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		info, err := DecodeCommitInfo(data)
		if err != nil {
			return
		}
		again, err := DecodeCommitInfo(info.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(info, again); diff != "" {
			t.Error(diff)
		}
	})
}

func FuzzApplySummaryDelta(f *testing.F) {
	before, after := syntheticView(10, 0), syntheticView(12, 1)
	f.Add(before.rest(0), diffViews(before, after))
	f.Add([]byte("old"), []byte("xadf\x01\x00\x00\x00\x03\x00\x00\x00"))
	f.Add([]byte{}, []byte("xadf\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, old, delta []byte) {
		made, err := ApplySummaryDelta(old, delta, 1<<16)
		if err != nil && !errors.Is(err, ErrDelta) {
			t.Error(err)
		}
		if len(made) > 1<<16 {
			t.Errorf("%d bytes", len(made))
		}
	})
}

func syntheticView(n, version int) *view {
	x := syntheticIndex(n)
	for i := 0; i < n; i += 5 {
		x.Update([]CommitInfo{synthetic(i, version)}, nil)
	}
	var entries []*entry
	for _, r := range x.sorted {
		entries = append(entries, r.entry)
	}
	return newView(entries, &runHash{})
}

// FuzzParseView reads arbitrary summaries; of what is accepted, deltas to and from
// a real one must work.
func FuzzParseView(f *testing.F) {
	seed := syntheticView(3, 0)
	f.Add(seed.rest(0))
	f.Add(syntheticView(1, 2).rest(0))
	f.Add(syntheticView(0, 2).rest(0))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := parseView(data, seed)
		if err != nil {
			if !errors.Is(err, ErrSummary) {
				t.Error(err)
			}
			return
		}
		if !bytes.Equal(v.rest(0), data) {
			t.Fatal("the parts of the summary are not the whole")
		}
		for _, pair := range [][2]*view{{v, seed}, {seed, v}, {v, v}} {
			made, err := ApplySummaryDelta(pair[0].rest(0), diffViews(pair[0], pair[1]), maxSummary)
			if err != nil || !bytes.Equal(made, pair[1].rest(0)) {
				t.Fatalf("delta: %v", err)
			}
		}
	})
}

func TestApplySummaryDeltaRejects(t *testing.T) {
	old := []byte("0123456789")
	for name, delta := range map[string]string{
		"empty":     "",
		"no magic":  "xxxx\x00\x00\x00\x00",
		"no ops":    "xadf\x01\x00\x00\x00",
		"copy":      "xadf\x01\x00\x00\x00\x0b\x00\x00\x00",
		"skip":      "xadf\x01\x00\x00\x00\x0b\x00\x00\x10",
		"data":      "xadf\x01\x00\x00\x00\x04\x00\x00\x20abc",
		"operation": "xadf\x01\x00\x00\x00\x01\x00\x00\x30",
		"too long":  "xadf\x02\x00\x00\x00\x0a\x00\x00\x00\x05\x00\x00\x20abcde",
	} {
		if _, err := ApplySummaryDelta(old, []byte(delta), 12); !errors.Is(err, ErrDelta) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPointerFiles(t *testing.T) {
	repo := RepoFile{
		Title: "Test", URL: "https://dl.example/repo/", Homepage: "https://example", Comment: "a; comment", Description: "über",
		Icon: "https://example/i.png", DefaultBranch: "stable", Subset: "floss", GPGKey: bytes.Repeat([]byte{1, 2, 3}, 99),
		CollectionID: "org.test.Stable", AuthenticatorName: "org.test.Auth",
	}
	data, err := repo.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	gotRepo, err := ParseRepoFile(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(repo, gotRepo); diff != "" {
		t.Errorf("%s\n%s", diff, data)
	}
	ref := RefFile{
		Ref: Ref{Kind: Runtime, ID: "org.test.Platform", Branch: "24.08"}, Title: "Test", URL: "https://dl.example/repo/",
		SuggestRemoteName: "test", RuntimeRepo: "https://dl.example/test.flatpakrepo", GPGKey: []byte{1}, CollectionID: "org.test.Stable",
	}
	if data, err = ref.Bytes(); err != nil {
		t.Fatal(err)
	}
	gotRef, err := ParseRefFile(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(ref, gotRef); diff != "" {
		t.Errorf("%s\n%s", diff, data)
	}
	if _, err := (&RepoFile{Title: "no url"}).Bytes(); !errors.Is(err, ErrPointerFile) {
		t.Errorf("without a URL: %v", err)
	}
	for _, bad := range []string{
		"", "[Flatpak Ref]\nUrl=x\n", "[Flatpak Ref]\nName=org.test.App\n", "[Flatpak Ref]\nName=bad\nUrl=x\n",
		"[Flatpak Ref]\nName=org.test.App\nUrl=x\nIsRuntime=perhaps\n", "[Flatpak Ref]\nName=org.test.App\nUrl=x\nGPGKey=%%%\n",
	} {
		if _, err := ParseRefFile([]byte(bad)); !errors.Is(err, ErrPointerFile) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzPointerFiles(f *testing.F) {
	f.Add([]byte("[Flatpak Repo]\nUrl=https://x\nGPGKey=AAAA\nCollectionID=a.b\n"))
	f.Add([]byte("[Flatpak Ref]\nName=org.test.App\nBranch=x\nUrl=https://x\nIsRuntime=true\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if repo, err := ParseRepoFile(data); err == nil {
			if again, err := repo.Bytes(); err == nil {
				if _, err := ParseRepoFile(again); err != nil {
					t.Error(err)
				}
			}
		}
		if ref, err := ParseRefFile(data); err == nil {
			if again, err := ref.Bytes(); err == nil {
				if _, err := ParseRefFile(again); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

func TestMetadata(t *testing.T) {
	m, err := ParseMetadata("[Application]\nname=org.test.App\nruntime=org.test.Platform/x86_64/1\nsdk=org.test.Sdk/x86_64/1\ncommand=run\ntags=a;b;\n[Context]\nshared=ipc;\n")
	want := Metadata{Kind: App, Name: "org.test.App", Runtime: "org.test.Platform/x86_64/1", SDK: "org.test.Sdk/x86_64/1", Command: "run", Tags: []string{"a", "b"}}
	if diff := cmp.Diff(want, m); diff != "" || err != nil {
		t.Error(err, diff)
	}
	extension := Metadata{Kind: Runtime, Name: "org.test.App.Locale", ExtensionOf: "app/org.test.App/x86_64/stable"}
	for _, m := range []Metadata{want, extension} {
		text, err := m.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseMetadata(string(text))
		if diff := cmp.Diff(m, again); diff != "" || err != nil {
			t.Error(err, diff)
		}
	}
	for _, bad := range []string{"", "[Other]\n", "name=x\n", "[Application\n"} {
		if _, err := ParseMetadata(bad); !errors.Is(err, ErrMetadata) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzParseMetadata(f *testing.F) {
	f.Add("[Application]\nname=org.test.App\ntags=a;b;\n")
	f.Add("[Runtime]\n")
	f.Add("[Runtime]\nname=x\n[ExtensionOf]\nref=y\n")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := ParseMetadata(text)
		if err != nil {
			return
		}
		if again, err := m.Bytes(); err == nil {
			if _, err := ParseMetadata(string(again)); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestChecks(t *testing.T) {
	commit := &ostree.Commit{}
	if err := CheckBinding(commit, "app/a.b.c/x/y"); !errors.Is(err, ErrBinding) {
		t.Errorf("no binding: %v", err)
	}
	if err := CheckMetadata(commit, nil); !errors.Is(err, ErrMetadataDiffers) {
		t.Errorf("no metadata: %v", err)
	}
	made, err := RewriteCommit(commit, Rewrite{Ref: "app/a.b.c/x86_64/y"})
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckBinding(made, "app/a.b.d/x86_64/y"); !errors.Is(err, ErrBinding) {
		t.Errorf("other binding: %v", err)
	}
	if _, err := RewriteCommit(commit, Rewrite{Ref: "../x"}); err == nil {
		t.Error("a ref that leads elsewhere is accepted")
	}
	if _, err := RewriteCommit(commit, Rewrite{Ref: "app/a.b.c/x86_64/y", EndOfLifeRebase: []Rebase{{"bad", "a.b.c"}}}); !errors.Is(err, ErrRef) {
		t.Errorf("bad rebase: %v", err)
	}
	if strings.Contains(CheckBinding(made, "x").Error(), "%!") {
		t.Error("badly formatted error")
	}
}
