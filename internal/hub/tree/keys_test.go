package tree

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"freshet/api/hubapi"
	"freshet/internal/peertest"
	"freshet/internal/repotest"
)

// signer is somebody with an OpenPGP key in a keyring of their own.
type signer struct {
	env    []string
	key    string // file with the public key
	public string // its text
}

func newSigner(t *testing.T, name string) signer {
	t.Helper()
	peertest.Require(t, "gpg", "gpgconf")
	home, err := os.MkdirTemp("", "gpg-") //nolint:usetesting // gpg-agent wants a short path
	if err != nil {
		t.Fatal(err)
	}
	s := signer{env: []string{"GNUPGHOME=" + home}, key: filepath.Join(home, name+".asc")}
	t.Cleanup(func() {
		_, _ = peertest.Try(t, "", s.env, "gpgconf", "--kill", "all")
		_ = os.RemoveAll(home)
	})
	peertest.Run(t, "", s.env, "gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", name+" <"+name+"@example.org>", "rsa2048", "sign", "never")
	s.public = string(peertest.Run(t, "", s.env, "gpg", "--armor", "--export"))
	if err := os.WriteFile(s.key, []byte(s.public), 0o644); err != nil {
		t.Fatal(err)
	}
	return s
}

// sign runs gpg over a content.
func (s signer) sign(t *testing.T, content string, args ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return string(peertest.Run(t, "", s.env, "gpg", append(append([]string{"--batch", "--quiet"}, args...), "--output", "-", file)...))
}

// keyed opens trees whose metadata are to be signed by one of the keys.
func keyed(t *testing.T, files ...string) *Trees {
	t.Helper()
	keys, err := ReadKeys(files)
	if err != nil {
		t.Fatal(err)
	}
	return begin(t, quickDir(t), Options{Keys: func(string) *Keys { return keys }})
}

// reasons are what a refusal says, "file reason" each.
func reasons(err error) (all []string) {
	refusal, ok := errors.AsType[*RefusalError](err)
	if !ok {
		return []string{fmt.Sprint(err)}
	}
	for _, p := range refusal.Problems {
		all = append(all, p.File+" "+string(p.Reason))
	}
	return all
}

// TestSigned publishes what gpg signs, and refuses it unsigned, changed, and
// signed by somebody else.
func TestSigned(t *testing.T) {
	t.Parallel()
	good, other := newSigner(t, "good"), newSigner(t, "other")
	trees := keyed(t, good.key)
	detach := []string{"--detach-sign", "--armor"}
	meta := contents{"a/repodata/repomd.xml": repomd()}
	text := release("main/x", "content")
	suite := contents{"dists/s/main/x": "content", "dists/s/main/binary-all/Release": "Archive: s\n"}
	unsigned := with(suite, contents{"dists/s/Release": text})
	clear := good.sign(t, text, "--clearsign")
	for name, c := range map[string]contents{
		"nothing to sign":    {"file": "content"},
		"repomd":             with(meta, contents{"a/repodata/repomd.xml.asc": good.sign(t, repomd(), detach...)}),
		"repomd, two":        with(meta, contents{"a/repodata/repomd.xml.asc": good.sign(t, repomd(), "--detach-sign")}),
		"InRelease":          with(suite, contents{"dists/s/InRelease": clear}),
		"InRelease, Release": with(unsigned, contents{"dists/s/InRelease": clear}),
		"Release.gpg":        with(unsigned, contents{"dists/s/Release.gpg": good.sign(t, text, detach...)}),
		"dashes":             {"dists/s/InRelease": good.sign(t, "Origin: x\nDescription: y\n - z\n", "--clearsign")},
	} {
		if note, err := tryNote(t, trees, "good", c); err != nil || note != "" {
			t.Errorf("%s: %q, %v", name, note, err)
		}
	}
	for name, bad := range map[string]struct {
		c    contents
		want []string
	}{
		"repomd, unsigned":     {meta, []string{"a/repodata/repomd.xml unsigned"}},
		"repomd, another":      {with(meta, contents{"a/repodata/repomd.xml.asc": other.sign(t, repomd(), detach...)}), []string{"a/repodata/repomd.xml signature"}},
		"repomd, changed":      {with(meta, contents{"a/repodata/repomd.xml.asc": good.sign(t, repomd()+" ", detach...)}), []string{"a/repodata/repomd.xml signature"}},
		"repomd, no signature": {with(meta, contents{"a/repodata/repomd.xml.asc": "404 not found"}), []string{"a/repodata/repomd.xml signature"}},
		"repomd, a key":        {with(meta, contents{"a/repodata/repomd.xml.asc": good.public}), []string{"a/repodata/repomd.xml signature"}},
		"repomd, endless":      {with(meta, contents{"a/repodata/repomd.xml.asc": strings.Repeat("x", maxSignature+1)}), []string{"a/repodata/repomd.xml.asc malformed"}},
		"Release, unsigned":    {unsigned, []string{"dists/s/Release unsigned"}},
		"Release.gpg, another": {with(unsigned, contents{"dists/s/Release.gpg": other.sign(t, text, detach...)}), []string{"dists/s/Release signature"}},
		"one of two":           {with(unsigned, contents{"dists/s/InRelease": clear, "dists/s/Release.gpg": other.sign(t, text, detach...)}), []string{"dists/s/Release signature"}},
		"InRelease, unsigned":  {with(suite, contents{"dists/s/InRelease": text}), []string{"dists/s/InRelease signature"}},
		"InRelease, another":   {with(suite, contents{"dists/s/InRelease": other.sign(t, text, "--clearsign")}), []string{"dists/s/InRelease signature"}},
		"InRelease, changed":   {with(suite, contents{"dists/s/InRelease": strings.Replace(clear, "SHA256:", "SHA512:", 1)}), []string{"dists/s/InRelease signature", "dists/s/InRelease malformed"}},
		"before":               {with(suite, contents{"dists/s/InRelease": "Origin: y\n" + clear}), []string{"dists/s/InRelease signature", "dists/s/InRelease malformed"}},
		"after":                {with(suite, contents{"dists/s/InRelease": clear + "Origin: y\n"}), []string{"dists/s/InRelease signature"}},
		"all of it": {
			with(with(unsigned, meta), contents{"dists/s/main/x": "CONTENT"}),
			[]string{"a/repodata/repomd.xml unsigned", "dists/s/Release unsigned", "dists/s/main/x checksum"},
		},
		"an apk repository": {contents{"APKINDEX.tar.gz": repotest.ApkIndex("")}, []string{"APKINDEX.tar.gz unsigned"}},
	} {
		err := try(t, trees, "bad", bad.c)
		equal(t, reasons(err), bad.want)
		if !refusedWith(err, "sign it") && !strings.HasSuffix(bad.want[0], "malformed") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := trees.Info("bad"); !errors.Is(err, ErrNotFound) {
		t.Errorf("something bad was published: %v", err)
	}
	// Each of several keys will do.
	if err := try(t, keyed(t, other.key, good.key), "good", with(suite, contents{"dists/s/InRelease": clear})); err != nil {
		t.Error(err)
	}
}

// TestPacmanSigned does the same with what makepkg and repo-add sign: packages
// in files of their own and inside the database, and the database.
func TestPacmanSigned(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "repo-add", "bsdtar")
	good, other := newSigner(t, "good"), newSigner(t, "other")
	const hello, odd = "hello-1:2-1-any.pkg.tar.zst", "c++odd-1:2-1-any.pkg.tar.zst"
	whole := loadLinks(t, pacmanRepo(t, good.env, ".gz", "--sign"))
	packages := loadLinks(t, pacmanRepo(t, good.env, ".gz"))
	if whole["core.db.sig"] != "@core.db.tar.gz.sig" || packages["core.db.sig"] != "" || whole[odd+".sig"] == "" {
		t.Fatal("repo-add makes other files")
	}
	embedded := without(without(packages, hello+".sig"), odd+".sig")
	wrong := good.sign(t, "something else", "--detach-sign")
	trees := keyed(t, good.key)
	for name, c := range map[string]contents{
		"all signed":    whole,
		"the packages":  packages,
		"the database":  without(without(whole, hello+".sig"), odd+".sig"),
		"by their name": embedded, // repo-add of 6.0 puts the signatures into the database
	} {
		if note, err := tryNote(t, trees, path.Base(strings.ReplaceAll(name, " ", "-")), c); err != nil || note != "" {
			t.Errorf("%s: %q, %v", name, note, err)
		}
	}
	bare := loadLinks(t, pacmanRepo(t, nil, ".gz"))
	for name, bad := range map[string]struct {
		c    contents
		want []string
	}{
		"unsigned":          {bare, []string{odd + " unsigned", hello + " unsigned"}},
		"a package":         {with(whole, contents{hello + ".sig": wrong}), []string{hello + " signature"}},
		"a package, alone":  {with(packages, contents{hello + ".sig": wrong}), []string{hello + " signature"}},
		"the database":      {with(whole, contents{"core.db.tar.gz.sig": wrong}), []string{"core.db signature"}},
		"somebody else's":   {with(bare, contents{"core.db.sig": other.sign(t, bare["core.db.tar.gz"], "--detach-sign")}), []string{"core.db signature"}},
		"another's package": {with(bare, contents{odd + ".sig": other.sign(t, bare[odd], "--detach-sign"), hello + ".sig": good.sign(t, bare[hello], "--detach-sign")}), []string{odd + " signature"}},
	} {
		got := reasons(try(t, trees, "bad", bad.c))
		if fmt.Sprint(got) != fmt.Sprint(bad.want) {
			t.Errorf("%s: %v, want %v", name, got, bad.want)
		}
	}
	if err := try(t, keyed(t, other.key), "bad", embedded); fmt.Sprint(reasons(err)) != fmt.Sprint([]string{odd + " signature", hello + " signature"}) {
		t.Errorf("inside the database, by another key: %v", err)
	}
}

// TestKnownSignatures makes sure that only what is new is read: a publish costs
// the change.
func TestKnownSignatures(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "repo-add", "bsdtar")
	good, other := newSigner(t, "good"), newSigner(t, "other")
	const hello = "hello-1:2-1-any.pkg.tar.zst"
	c := loadLinks(t, pacmanRepo(t, good.env, ".gz"))
	trees := keyed(t, good.key)
	if err := try(t, trees, "tree", c); err != nil {
		t.Fatal(err)
	}
	info, err := trees.Info("tree")
	if err != nil {
		t.Fatal(err)
	}
	if got := trees.lookup("tree").current().Keys; got != trees.opts.Keys("tree").ID() || len(got) != 64 || info.Current != 1 {
		t.Errorf("the keys are not noted: %q", got)
	}
	check := closure{files: sorted(t, c), keys: trees.opts.Keys("tree"), known: sorted(t, c)}
	if !check.same(hello, hello+".sig") {
		t.Error("what was checked is not known")
	}
	check.files = sorted(t, with(c, contents{hello + ".sig": "another"}))
	if check.same(hello, hello+".sig") {
		t.Error("a new signature is not read")
	}
	// With other keys everything is checked again.
	trees.opts.Keys = keyed(t, other.key).opts.Keys
	if got := reasons(try(t, trees, "tree", with(c, contents{"new": "file"}))); len(got) != 2 || got[1] != hello+" signature" {
		t.Errorf("after a change of keys: %v", got)
	}
}

func sorted(t *testing.T, c contents) []hubapi.TreeFile {
	t.Helper()
	files, err := checkFiles(c.files(1))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestReadKeys(t *testing.T) {
	t.Parallel()
	s := newSigner(t, "good")
	dir := t.TempDir()
	for name, text := range map[string]string{
		"text": "hello", "empty": "", "weak.rsa.pub": string(peertest.Run(t, "", nil, "sh", "-c", "openssl genrsa 1024 2>/dev/null | openssl rsa -pubout 2>/dev/null")),
		"ec.pub": string(peertest.Run(t, "", nil, "sh", "-c", "openssl ecparam -name prime256v1 -genkey -noout | openssl ec -pubout 2>/dev/null")),
	} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKeys([]string{s.key, file}); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ReadKeys([]string{filepath.Join(dir, "none")}); err == nil {
		t.Error("a file that is not there")
	}
	a, err := ReadKeys([]string{s.key})
	if err != nil || (*Keys)(nil).ID() != "" || a.ID() == "" {
		t.Errorf("%+v, %v", a, err)
	}
}
