package repository

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"freshet/internal/flatpak"
	"freshet/internal/gvariant"
	"freshet/internal/hub/upkeep"
	"freshet/internal/ostree"
	"freshet/internal/ostree/ostreetest"
	"freshet/internal/peertest"
	"freshet/internal/sign"
)

// uploader is a builder's machine: the objects that it made.
type uploader map[ostree.ObjectName][]byte

// Has implements ostree.Sink.
func (u uploader) Has(name ostree.ObjectName) (bool, error) {
	_, ok := u[name]
	return ok, nil
}

// Put implements ostree.Sink.
func (u uploader) Put(name ostree.ObjectName, write func(io.Writer) error) error {
	var data bytes.Buffer
	if err := write(&data); err != nil {
		return err
	}
	u[name] = data.Bytes()
	return nil
}

// tree is the content of a ref: paths with their content; those below bin are
// executable, and "-> x" is a symlink.
type tree map[string]string

// commit makes a commit of a tree, as flatpak build-export does.
func (u uploader) commit(t testing.TB, ref string, content tree, keys ...gvariant.Entry) string {
	t.Helper()
	var root ostree.Tree
	installed := uint64(0)
	for path, text := range content {
		var sum ostree.Checksum
		var err error
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			sum, err = ostree.WriteSymlink(u, target)
		} else {
			sum, err = ostree.WriteBytes(u, []byte(text), strings.Contains(path, "bin/"))
			installed += (uint64(len(text)) + 511) / 512 * 512
		}
		if err == nil {
			err = root.SetFile(path, sum)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := root.MakeDir("files"); err != nil {
		t.Fatal(err)
	}
	sum, meta, err := root.Write(u)
	if err != nil {
		t.Fatal(err)
	}
	metadata := gvariant.NewDict(
		gvariant.Entry{Key: "ostree.collection-binding", Value: gvariant.String("")},
		gvariant.Entry{Key: "ostree.ref-binding", Value: gvariant.Strings([]string{ref})},
		gvariant.Entry{Key: "xa.metadata", Value: gvariant.String(content["metadata"])},
		gvariant.Entry{Key: "xa.installed-size", Value: gvariant.Uint64BE(installed)},
	)
	for _, key := range keys {
		metadata.Set(key.Key, key.Value)
	}
	made, err := ostree.WriteCommit(u, &ostree.Commit{
		Metadata:  metadata,
		Subject:   "Export " + ref,
		Timestamp: 1_700_000_000,
		Tree:      sum,
		TreeMeta:  meta,
	})
	if err != nil {
		t.Fatal(err)
	}
	return made.String()
}

const (
	platform    = "org.test.Platform"
	platformRef = "runtime/org.test.Platform/x86_64/stable"
)

// runtime is a platform that can run a shell script.
func runtimeTree(t testing.TB) tree {
	t.Helper()
	shell, err := os.ReadFile("/bin/busybox")
	if err != nil {
		shell = []byte("#!")
	}
	return tree{
		"metadata":     "[Runtime]\nname=org.test.Platform\nruntime=org.test.Platform/x86_64/stable\nsdk=org.test.Sdk/x86_64/stable\n",
		"files/bin/sh": string(shell),
	}
}

func appRef(id string) string { return "app/" + id + "/x86_64/stable" }

// app is an application that prints its version.
func appTree(id, version string) tree {
	xml := `<?xml version="1.0"?><components version="0.8" origin="flatpak"><component type="desktop-application"><id>` + id +
		`</id><name>Hello ` + version + `</name><summary>t</summary></component></components>`
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = io.WriteString(w, xml)
	_ = w.Close()
	return tree{
		"metadata": "[Application]\nname=" + id + "\nruntime=org.test.Platform/x86_64/stable\nsdk=org.test.Sdk/x86_64/stable\ncommand=hello\n",

		"files/bin/hello":                                           "#!/bin/sh\necho hello " + version + "\n",
		"files/bin/hallo":                                           "-> hello",
		"files/share/data":                                          strings.Repeat("the same in all versions of "+id+"\n", 1000),
		"files/share/" + version:                                    "only in " + version,
		"files/share/app-info/xmls/" + id + ".xml.gz":               packed.String(),
		"files/share/app-info/icons/flatpak/64x64/" + id + ".png":   "PNG 64 " + id,
		"files/share/app-info/icons/flatpak/128x128/" + id + ".png": "PNG 128 " + id,
		"export/share/applications/" + id + ".desktop":              "[Desktop Entry]\nName=" + id + "\n",
	}
}

// memoryCache keeps what a database would.
type memoryCache map[string]RefInfo

// Load implements Cache.
func (c memoryCache) Load(context.Context, string) ([]RefInfo, error) {
	return slices.Collect(maps.Values(c)), nil
}

func (c memoryCache) save(result Result) error {
	for _, info := range result.Infos {
		c[info.Ref] = info
	}
	for _, ref := range result.Removed {
		delete(c, ref)
	}
	return nil
}

// hub is a repository with what stands around it.
type hub struct {
	t     testing.TB
	dir   string
	opt   Options
	cache memoryCache
	repo  *Repository
	log   bytes.Buffer
	next  int64

	requests sync.Map // paths that clients asked for
}

func newHub(t testing.TB, change ...func(*Options)) *hub {
	t.Helper()
	return newHubIn(t, t.TempDir(), change...)
}

func newHubIn(t testing.TB, dir string, change ...func(*Options)) *hub {
	t.Helper()
	h := &hub{t: t, dir: dir, cache: memoryCache{}}
	h.opt = Options{
		Name:         "stable",
		Dir:          filepath.Join(dir, "repos", "stable"),
		BuildsDir:    filepath.Join(dir, "builds"),
		CollectionID: "org.test.Stable",
		Title:        "Test repository",
	}
	for _, f := range change {
		f(&h.opt)
	}
	h.open()
	t.Cleanup(func() {
		if h.repo != nil {
			h.close()
		}
	})
	return h
}

func (h *hub) open() []Pending {
	h.t.Helper()
	repo, pending, err := Open(h.t.Context(), h.opt, h.cache)
	if err != nil {
		h.t.Fatal(err)
	}
	h.repo = repo
	h.confirm(pending)
	return pending
}

func (h *hub) close() {
	h.t.Helper()
	if err := h.repo.Close(); err != nil {
		h.t.Error(err)
	}
	h.repo = nil
}

// reopen is what a restart does.
func (h *hub) reopen() []Pending {
	h.t.Helper()
	h.close()
	return h.open()
}

// upload sends what a build lacks.
func (h *hub) upload(u uploader) *Build {
	h.t.Helper()
	h.next++
	b, err := h.repo.Build(h.next)
	if err != nil {
		h.t.Fatal(err)
	}
	missing, err := b.Missing(h.t.Context(), slices.Collect(maps.Keys(u)))
	if err != nil {
		h.t.Fatal(err)
	}
	for _, name := range missing {
		if n, err := b.PutObject(h.t.Context(), name, bytes.NewReader(u[name])); err != nil || n != int64(len(u[name])) {
			h.t.Fatalf("stored %d of %d bytes: %v", n, len(u[name]), err)
		}
	}
	return b
}

// commit uploads and commits.
func (h *hub) commit(u uploader, refs map[string]string) PublishRequest {
	h.t.Helper()
	b := h.upload(u)
	made, err := b.Commit(h.t.Context(), CommitRequest{Refs: refs}, &h.log)
	if err != nil {
		h.t.Fatal(err)
	}
	return PublishRequest{Key: fmt.Sprintf("build-%d", b.id), Build: b, Refs: made}
}

func (h *hub) publish(requests ...PublishRequest) Result {
	h.t.Helper()
	result, err := h.repo.Publish(h.t.Context(), requests, &h.log, h.cache.save)
	if err != nil {
		h.t.Fatal(err)
	}
	for key, err := range result.Failed {
		h.t.Errorf("%s: %v", key, err)
	}
	return result
}

// publishApp publishes a version of an application.
func (h *hub) publishApp(id, version string, keys ...gvariant.Entry) Result {
	h.t.Helper()
	u := uploader{}
	sum := u.commit(h.t, appRef(id), appTree(id, version), keys...)
	return h.publish(h.commit(u, map[string]string{appRef(id): sum}))
}

// head is what a ref points at on disk.
func (h *hub) head(ref string) *ostree.Commit {
	h.t.Helper()
	_, commit := ostreetest.Head(h.t, h.objects(), ref)
	return commit
}

func (h *hub) objects() *ostree.Repo {
	h.t.Helper()
	return ostreetest.OpenDir(h.t, h.opt.Dir)
}

// summary reads the summary, of which every ref must be what the disk says.
func (h *hub) summary() *ostree.Summary {
	h.t.Helper()
	data, err := os.ReadFile(filepath.Join(h.opt.Dir, "summary"))
	if err != nil {
		h.t.Fatal(err)
	}
	summary, err := ostree.ParseSummary(data)
	if err != nil {
		h.t.Fatal(err)
	}
	return summary
}

// check demands a whole repository: every ref complete and verified, the
// summary in agreement, no temporary files.
func (h *hub) check() {
	h.t.Helper()
	repo := h.objects()
	refs, err := repo.ListRefs()
	if err != nil {
		h.t.Fatal(err)
	}
	listed := map[string]ostree.Checksum{}
	for _, ref := range h.summary().Refs {
		listed[ref.Ref] = ref.Commit
	}
	for ref, sum := range refs {
		if rest, ok := strings.CutPrefix(ref, "appstream2/"); !ok || !strings.Contains(rest, "-") {
			if listed[ref] != sum {
				h.t.Errorf("%s is %s, the summary has %s", ref, sum, listed[ref])
			}
		}
		err := repo.Walk(h.t.Context(), sum, func(name ostree.ObjectName) error {
			f, err := repo.Open(name)
			if err != nil {
				return err
			}
			_, err = ostree.VerifyObject(name, f)
			return errors.Join(err, f.Close())
		})
		if err != nil {
			h.t.Errorf("%s: %v", ref, err)
		}
	}
	for ref := range listed {
		if _, ok := refs[ref]; !ok {
			h.t.Errorf("%s is in the summary only", ref)
		}
	}
	h.checkTemp()
}

// checkTemp demands that nothing unfinished lies around.
func (h *hub) checkTemp() {
	h.t.Helper()
	for _, dir := range []string{h.opt.Dir, h.opt.BuildsDir} {
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			// ostree fsck makes itself a folder for a cache, and who leads one to work in.
			if err == nil && filepath.Base(filepath.Dir(path)) == "tmp" && entry.Name() != "cache" && !strings.HasPrefix(entry.Name(), "lead-") {
				h.t.Errorf("left behind: %s", path)
			}
			return err
		})
		if err != nil {
			h.t.Error(err)
		}
	}
}

// newSigner makes a key, and returns its public part for clients.
func newSigner(t testing.TB) (sign.Signer, string) {
	t.Helper()
	dir := t.TempDir()
	ring := openSigner(t, filepath.Join(dir, "key.asc"))
	public, err := ring.PublicKeys()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "key.gpg")
	if err := os.WriteFile(file, public, 0o600); err != nil {
		t.Fatal(err)
	}
	return ring, file
}

// openSigner opens a key, which it makes when it is not there.
func openSigner(t testing.TB, path string) sign.Signer {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		if _, err := sign.Generate(path, "Hub test <hub@test.example>"); err != nil {
			t.Fatal(err)
		}
	}
	ring, err := sign.Open(sign.KeyFile{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// verify checks the signatures in detached metadata.
func verify(keys []byte, data, detached string) error {
	verifier, err := sign.NewVerifier(keys)
	if err != nil {
		return err
	}
	dict, err := ostree.ParseDetached([]byte(detached))
	if err != nil {
		return err
	}
	signatures := ostree.GPGSignatures(dict)
	if len(signatures) == 0 {
		return errors.New("no signature")
	}
	for _, signature := range signatures {
		if _, err := verifier.Verify([]byte(data), signature); err != nil {
			return err
		}
	}
	return nil
}

// serve serves the repository as the hub does.
func (h *hub) serve() string {
	h.t.Helper()
	server := httptest.NewServer(http.StripPrefix("/repo", files(func(path string) (*os.File, error) {
		h.requests.Store(path, true)
		return h.repo.OpenFile(path)
	})))
	h.t.Cleanup(server.Close)
	return server.URL + "/repo"
}

// files serves files.
func files(open func(string) (*os.File, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		f, err := open(strings.TrimPrefix(req.URL.Path, "/"))
		if err != nil {
			status := http.StatusInternalServerError
			if errors.Is(err, fs.ErrNotExist) {
				status = http.StatusNotFound
			}
			http.Error(w, err.Error(), status)
			return
		}
		defer f.Close()
		_, _ = io.Copy(w, f)
	})
}

// fsck asks the real ostree.
func fsck(t testing.TB, dir string) {
	t.Helper()
	peertest.Run(t, "", nil, "ostree", "fsck", "--repo="+dir)
}

// ownFsck demands that "freshet hub fsck" finds nothing.
func ownFsck(t testing.TB, dir string) {
	t.Helper()
	report, err := upkeep.Check(t.Context(), dir, upkeep.CheckOptions{DryRun: true, Workers: 1, Found: func(p upkeep.Problem) {
		t.Errorf("%s: %+v", dir, p)
	}})
	if err != nil || report.Commits == 0 {
		t.Errorf("%s: %+v, %v", dir, report, err)
	}
}

// client is a user with the real flatpak.
type client struct {
	t   testing.TB
	dir string
}

func newClient(t testing.TB) *client {
	t.Helper()
	c := &client{t: t, dir: t.TempDir()}
	for _, name := range []string{"home", "data", "cache", "config", "run"} {
		if err := os.Mkdir(filepath.Join(c.dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// run runs an application, where the machine permits sandboxes.
func (c *client) run(id, want string) {
	c.t.Helper()
	if _, err := peertest.Try(c.t, "", nil, "bwrap", "--ro-bind", "/", "/", "--unshare-all", "true"); err != nil {
		c.t.Logf("sandboxes are not permitted here, %s is not run", id)
		return
	}
	if got := strings.TrimSpace(c.flatpak("run", id)); got != want {
		c.t.Errorf("%s prints %q, want %q", id, got, want)
	}
}

// flatpak runs flatpak --user without a session, D-Bus or sandboxing helpers.
func (c *client) flatpak(args ...string) string {
	c.t.Helper()
	env := []string{
		"-i", "PATH=/usr/bin:/bin", "LANG=C.UTF-8",
		"HOME=" + c.dir + "/home", "XDG_DATA_HOME=" + c.dir + "/data", "XDG_CACHE_HOME=" + c.dir + "/cache",
		"XDG_CONFIG_HOME=" + c.dir + "/config", "XDG_RUNTIME_DIR=" + c.dir + "/run",
		"FLATPAK_USER_DIR=" + c.dir + "/user", "FLATPAK_SYSTEM_DIR=" + c.dir + "/sys",
		"FLATPAK_TRIGGERSDIR=/nonexistent",
	}
	if args[0] != "run" {
		env = append(env, "FLATPAK_BWRAP=/bin/false")
	}
	env = append(env, "flatpak", "--user")
	return string(peertest.Run(c.t, "", nil, "env", append(env, args...)...))
}

// installed reads a file of an installed application.
func (c *client) installed(id, path string) string {
	c.t.Helper()
	data, err := os.ReadFile(filepath.Join(c.dir, "user", "app", id, "current", "active", "files", path))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(data)
}

func infoOf(t testing.TB, r *Repository, ref string) flatpak.CommitInfo {
	t.Helper()
	info, ok := r.index.Get(ref)
	if !ok {
		t.Fatalf("%s is not known", ref)
	}
	return info
}
