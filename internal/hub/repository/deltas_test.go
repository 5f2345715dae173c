package repository

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freshet/internal/hub/deltas"
	"freshet/internal/ostree"
	"freshet/internal/ostree/delta"
)

// madeDelta is a static delta to a commit that is in a build, as its maker uploads it:
// files by their number, -1 for the superblock.
type madeDelta map[int][]byte

// Create implements delta.Files.
func (d madeDelta) Create(part int) (io.WriteCloser, error) {
	return &madePart{made: d, number: part}, nil
}

type madePart struct {
	bytes.Buffer

	made   madeDelta
	number int
}

func (p *madePart) Close() error {
	p.made[p.number] = p.Bytes()
	return nil
}

// makeDelta makes a static delta of which files that are not small are fetched singly.
func makeDelta(t *testing.T, b *Build, name ostree.DeltaName) madeDelta {
	t.Helper()
	made := madeDelta{}
	block, stats, err := delta.Generate(t.Context(), b.Objects(), delta.Request{From: name.From, To: name.To}, made, delta.Options{Fallback: 1000})
	if err != nil {
		t.Fatal(err)
	}
	if stats.Fallbacks == 0 || len(made) == 0 {
		t.Fatalf("made %+v", stats)
	}
	made[-1] = block.Encode()
	return made
}

// change makes another superblock of that of a delta.
func change(t *testing.T, files madeDelta, how func(*ostree.Superblock)) {
	t.Helper()
	block, err := ostree.ParseSuperblock(files[-1])
	if err != nil {
		t.Fatal(err)
	}
	how(block)
	files[-1] = block.Encode()
}

// An uploaded delta is published when it makes exactly the objects of its commit, and
// dropped, with the reason in the log, when it does not.
func TestUploadedDeltas(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(t *testing.T, files madeDelta)
		want   string // in the log; "" for published
	}{
		"good": {func(*testing.T, madeDelta) {}, ""},
		"other sizes of what is fetched singly": {func(t *testing.T, files madeDelta) {
			t.Helper()
			change(t, files, func(b *ostree.Superblock) { b.Fallbacks[0].Size += 17 })
		}, ""},
		"part of something else": {func(t *testing.T, files madeDelta) {
			t.Helper()
			files[0] = []byte("not the objects of the commit")
			change(t, files, func(b *ostree.Superblock) {
				b.Parts[0].Checksum, b.Parts[0].Size = ostree.ChecksumOf(files[0]), uint64(len(files[0]))
			})
		}, "part 0"},
		"part damaged": {func(_ *testing.T, files madeDelta) { files[0][len(files[0])/2]++ }, "part 0"},
		"part absent":  {func(_ *testing.T, files madeDelta) { delete(files, 0) }, "no such file"},
		"object left out": {func(t *testing.T, files madeDelta) {
			t.Helper()
			change(t, files, func(b *ostree.Superblock) { b.Parts = b.Parts[:0] })
		}, "is not in it"},
		"nonsense":      {func(_ *testing.T, files madeDelta) { files[-1] = []byte("nonsense") }, "malformed"},
		"no superblock": {func(_ *testing.T, files madeDelta) { delete(files, -1) }, "not complete"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHub(t)
			u := uploader{}
			ref := appRef("org.test.Hello")
			tree := appTree("org.test.Hello", "v1")
			tree["files/share/large"] = noise(10_000) // is fetched singly
			sum := checksum(t, u.commit(t, ref, tree))
			b := h.upload(u)
			name := ostree.DeltaName{To: sum}
			files := makeDelta(t, b, name)
			test.change(t, files)
			for number, data := range files {
				if _, err := b.PutDelta(t.Context(), ostree.DeltaFile{Delta: name, Part: number}, bytes.NewReader(data)); err != nil {
					t.Fatal(err)
				}
			}
			request := CommitRequest{Refs: map[string]string{ref: sum.String()}}
			if _, err := b.Commit(t.Context(), request, &h.log); err != nil {
				t.Fatal(err)
			}
			h.log.Reset()
			made, err := b.Commit(t.Context(), request, &h.log) // once more
			if err != nil {
				t.Fatal(err)
			}
			result := h.publish(PublishRequest{Key: "build-1", Build: b, Refs: made})
			head := ostree.DeltaName{To: checksum(t, h.headSum(ref))}
			_, listed := h.summary().Metadata.Get("ostree.static-deltas")
			if good := test.want == ""; listed != good || good != (len(result.Deltas) == 1) {
				t.Errorf("listed %v, told %+v\n%s", listed, result.Deltas, h.log.String())
			}
			if test.want != "" {
				if log := h.log.String(); !strings.Contains(log, "dropped: ") || !strings.Contains(log, test.want) {
					t.Errorf("the log does not say %q:\n%s", test.want, log)
				}
				h.check()
				return
			}
			if told := result.Deltas[0]; told.Ref != ref || told.To != head.To.String() || told.Source != made[ref] || told.Size == 0 || told.Instead == 0 {
				t.Errorf("told %+v", told)
			}
			// It is good for what is published, too.
			copied := t.TempDir()
			if err := os.CopyFS(copied, os.DirFS(filepath.Join(h.opt.Dir, head.Dir()))); err != nil {
				t.Fatal(err)
			}
			objects, err := ostree.OpenRepo(os.DirFS(h.opt.Dir))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := deltas.Accept(t.Context(), objects, head, copied); err != nil {
				t.Error(err)
			}
			h.check()
		})
	}
}

// TestDeltaOfWhatIsApart: a static delta that has an object which was put into quarantine
// since is left out, and its commit is published.
func TestDeltaOfWhatIsApart(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	const id = "org.test.Hello"
	h.publishApp(id, "v1")
	u := uploader{}
	ref := appRef(id)
	tree := appTree(id, "v2")
	tree["files/share/large"] = noise(10_000) // is fetched singly
	sum := checksum(t, u.commit(t, ref, tree))
	b := h.upload(u)
	name := ostree.DeltaName{To: sum}
	for number, data := range makeDelta(t, b, name) {
		if _, err := b.PutDelta(t.Context(), ostree.DeltaFile{Delta: name, Part: number}, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
	}
	made, err := b.Commit(t.Context(), CommitRequest{Refs: map[string]string{ref: sum.String()}}, &h.log)
	if err != nil {
		t.Fatal(err)
	}
	data, err := ostree.WriteBytes(uploader{}, []byte(tree["export/share/applications/"+id+".desktop"]), false) // which the version before has too
	if err != nil {
		t.Fatal(err)
	}
	h.setApart(ostree.ObjectName{Checksum: data, Type: ostree.TypeFile})
	h.log.Reset()
	result := h.publish(PublishRequest{Key: "build-2", Build: b, Refs: made})
	if len(result.Deltas) != 0 || !strings.Contains(h.log.String(), "left out: ") {
		t.Errorf("told %+v\n%s", result.Deltas, h.log.String())
	}
	head := ostree.DeltaName{To: checksum(t, h.headSum(ref))}
	if _, err := os.Stat(filepath.Join(h.opt.Dir, head.Dir())); err == nil {
		t.Error("the delta is there")
	}
	if _, listed := h.summary().Metadata.Get("ostree.static-deltas"); listed {
		t.Error("the delta is listed")
	}
}
