package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// publisher is somebody with a signing key and the tools of an ecosystem.
type publisher struct {
	*client
	dir string // the repository
}

// newPublisher makes a key, and puts it beside the repository's files.
func newPublisher(t *testing.T, dir string) *publisher {
	t.Helper()
	p := &publisher{newClient(t), dir}
	p.env = append(p.env, "GNUPGHOME="+p.home+"/gpg")
	if err := os.Mkdir(filepath.Join(p.home, "gpg"), 0o700); err != nil {
		t.Fatal(err)
	}
	p.run("gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", "publisher@example.org", "ed25519", "sign", "never")
	p.run("gpg", "--batch", "--quiet", "--armor", "--output", filepath.Join(dir, "key.asc"), "--export")
	p.run("gpg", "--batch", "--quiet", "--output", filepath.Join(dir, "key.gpg"), "--export")
	t.Cleanup(func() { _, _ = p.try("gpgconf", "--kill", "all") }) // the agent it started
	return p
}

// script runs a script in the repository's folder; its arguments are $1 and so
// on.
func (p *publisher) script(text string, args ...string) error {
	out, err := p.try("bash", append([]string{"-euc", `cd "$0"` + "\n" + text, p.dir}, args...)...)
	if err != nil {
		err = fmt.Errorf("publish: %w\n%s", err, out)
	}
	return err
}

// files returns a folder with what the package of a version installs.
func (p *publisher) files(version int) (string, error) {
	dir := filepath.Join(p.home, "files")
	return dir, writePayload(dir, version)
}

// publishRPM makes an rpm-md repository: metadata signed, also in zchunk.
func publishRPM(t *testing.T, dir string) func(version int) error {
	p := newPublisher(t, dir)
	spec := filepath.Join(p.home, "hello.spec")
	if err := os.WriteFile(spec, []byte(`Name: freshet-hello
Version: %{v}
Release: 1
Summary: Says hello
License: Apache-2.0
BuildArch: noarch
%description
Says hello.
%install
mkdir -p %{buildroot}/opt
cp -r %{src} %{buildroot}/opt/freshet-hello
%files
/opt/freshet-hello
`), 0o644); err != nil {
		t.Fatal(err)
	}
	return func(version int) error {
		files, err := p.files(version)
		if err != nil {
			return err
		}
		return p.script(`
rpmbuild -bb --define "_topdir $HOME/rpmbuild" --define "v $2" --define "src $1" --define '_binary_payload w0.gzdio' "$3"
cp "$HOME/rpmbuild/RPMS/noarch/freshet-hello-$2-1.noarch.rpm" .
createrepo_c --quiet --zck --retain-old-md 3 .
gpg --batch --yes --quiet --armor --detach-sign --output repodata/.new repodata/repomd.xml
mv repodata/.new repodata/repomd.xml.asc
cp key.asc repodata/repomd.xml.key`, files, fmt.Sprint(version), spec)
	}
}

func rpmFile(version int) string { return fmt.Sprintf("/freshet-hello-%d-1.noarch.rpm", version) }

func dnfRepository() ecosystem {
	return ecosystem{
		name: "dnf", programs: []string{"dnf", "rpmbuild", "createrepo_c", "gpg"},
		publisher: publishRPM, payload: rpmFile,
		install: func(user *client, repo, keys string) (string, error) {
			root := filepath.Join(user.home, "root")
			out, err := user.try("dnf", "-y", "--installroot="+root, "--releasever=1", "--setopt=reposdir=/nonexistent",
				"--setopt=cachedir="+user.home+"/cache", "--setopt=logdir="+user.home, "--setopt=persistdir="+user.home+"/persist",
				"--repofrompath=mine,"+repo, "--repo=mine", "--setopt=mine.gpgcheck=0", "--setopt=mine.repo_gpgcheck=1", "--setopt=mine.gpgkey=file://"+keys+"/key.asc",
				"--setopt=mine.sslcacert="+keys+"/ca.pem", "--setopt=metadata_expire=0", "--setopt=install_weak_deps=0", "--setopt=retries=2", "--nodocs", "--best", "--refresh", "install", "freshet-hello")
			if err != nil {
				return "", fmt.Errorf("%w\n%s", err, out)
			}
			return installedVersion(filepath.Join(root, "opt/freshet-hello"))
		},
	}
}

func zypperRepository() ecosystem {
	return ecosystem{
		name: "zypper", programs: []string{"zypper", "rpm", "rpmbuild", "createrepo_c", "gpg"},
		publisher: publishRPM, payload: rpmFile,
		install: func(user *client, repo, keys string) (string, error) {
			root := filepath.Join(user.home, "root")
			zypper := func(args ...string) (string, error) {
				return user.try("zypper", append([]string{"--root", root, "--non-interactive"}, args...)...)
			}
			if _, err := os.Stat(root); err != nil {
				if err := os.Mkdir(root, 0o755); err != nil {
					return "", err
				}
				for _, args := range [][]string{{"rpm", "--root", root, "--initdb"}, {"rpm", "--root", root, "--import", keys + "/key.asc"}} {
					if out, err := user.try(args[0], args[1:]...); err != nil {
						return "", fmt.Errorf("%w\n%s", err, out)
					}
				}
				if out, err := zypper("addrepo", "--refresh", "--gpgcheck-allow-unsigned-package", repo, "mine"); err != nil {
					return "", fmt.Errorf("%w\n%s", err, out)
				}
			}
			for _, args := range [][]string{{"refresh", "--force"}, {"install", "--no-recommends", "freshet-hello"}} {
				if out, err := zypper(args...); err != nil {
					return "", fmt.Errorf("%w\n%s", err, out)
				}
			}
			return installedVersion(filepath.Join(root, "opt/freshet-hello"))
		},
	}
}

// aptRepository is a Debian repository with by-hash names and a signed
// InRelease.
func aptRepository() ecosystem {
	return ecosystem{
		name: "apt", programs: []string{"apt-get", "apt-ftparchive", "dpkg-deb", "gpg"},
		publisher: func(t *testing.T, dir string) func(version int) error {
			p := newPublisher(t, dir)
			return func(version int) error {
				files, err := p.files(version)
				if err != nil {
					return err
				}
				return p.script(`
deb=$HOME/deb
rm -rf "$deb"; mkdir -p "$deb/DEBIAN" "$deb/opt" pool dists/stable/main/binary-all dists/stable/main/binary-amd64
cp -r "$1" "$deb/opt/freshet-hello"
printf 'Package: freshet-hello\nVersion: %s\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: says hello\n' "$2" >"$deb/DEBIAN/control"
dpkg-deb -Znone --root-owner-group -b "$deb" "pool/freshet-hello_$2_all.deb"
apt-ftparchive packages pool >"$HOME/Packages"
for arch in all amd64; do
  index=dists/stable/main/binary-$arch
  cp "$HOME/Packages" $index/Packages
  gzip -kf9 $index/Packages
  for f in $index/Packages $index/Packages.gz; do
    mkdir -p $index/by-hash/SHA256 $index/by-hash/SHA512 # apt asks for the strongest
    cp $f $index/by-hash/SHA256/$(sha256sum $f | cut -d' ' -f1)
    cp $f $index/by-hash/SHA512/$(sha512sum $f | cut -d' ' -f1)
  done
done
apt-ftparchive -o APT::FTPArchive::Release::Suite=stable -o APT::FTPArchive::Release::Components=main \
  -o 'APT::FTPArchive::Release::Architectures=amd64 all' -o APT::FTPArchive::Release::Acquire-By-Hash=yes release dists/stable >"$HOME/Release"
gpg --batch --yes --quiet --clearsign --output "$HOME/InRelease" "$HOME/Release"
gpg --batch --yes --quiet --armor --detach-sign --output "$HOME/Release.gpg" "$HOME/Release"
for f in InRelease Release Release.gpg; do mv "$HOME/$f" dists/stable/$f; done`, files, fmt.Sprint(version))
			}
		},
		payload: func(version int) string { return fmt.Sprintf("/freshet-hello_%d_all.deb", version) },
		install: func(user *client, repo, keys string) (string, error) {
			root := filepath.Join(user.home, "apt")
			for _, dir := range []string{"state/lists/partial", "cache/archives/partial", "etc/preferences.d", "etc/apt.conf.d", "etc/sources.list.d", "etc/trusted.gpg.d"} {
				if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
					return "", err
				}
			}
			list := fmt.Sprintf("deb [arch=amd64 signed-by=%s/key.gpg] %s stable main\n", keys, repo)
			if err := os.WriteFile(filepath.Join(root, "etc/sources.list"), []byte(list), 0o644); err != nil {
				return "", err
			}
			if err := os.WriteFile(filepath.Join(root, "state/status"), nil, 0o644); err != nil {
				return "", err
			}
			apt := func(args ...string) (string, error) {
				return user.try("apt-get", append([]string{
					"-q", "-y", "-o", "Dir::Etc=" + root + "/etc", "-o", "Dir::State=" + root + "/state", "-o", "Dir::State::status=" + root + "/state/status",
					"-o", "Dir::Cache=" + root + "/cache", "-o", "APT::Sandbox::User=root", "-o", "APT::Architecture=amd64", "-o", "Acquire::Languages=none",
					"-o", "Acquire::https::CaInfo=" + keys + "/ca.pem", "-o", "APT::Update::Error-Mode=any", "-o", "Acquire::Retries=1",
				}, args...)...)
			}
			for _, args := range [][]string{{"update"}, {"install", "--download-only", "freshet-hello"}} {
				if out, err := apt(args...); err != nil {
					return "", fmt.Errorf("%w\n%s", err, out)
				}
			}
			newest, err := newestFile(filepath.Join(root, "cache/archives/*.deb"))
			if err != nil {
				return "", err
			}
			out := filepath.Join(user.home, "unpacked")
			if text, err := user.try("dpkg-deb", "-x", newest, out); err != nil {
				return "", fmt.Errorf("%w\n%s", err, text)
			}
			return installedVersion(filepath.Join(out, "opt/freshet-hello"))
		},
	}
}

// newestFile returns the match that was written last.
func newestFile(pattern string) (string, error) {
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("nothing matches %s: %w", pattern, err)
	}
	best := found[0]
	number := regexp.MustCompile(`_(\d+)_`)
	version := func(name string) string {
		if m := number.FindStringSubmatch(filepath.Base(name)); m != nil {
			return fmt.Sprintf("%9s", m[1])
		}
		return ""
	}
	for _, name := range found {
		if version(name) > version(best) {
			best = name
		}
	}
	return best, nil
}

// pacmanRepository is a repository with a signed database.
func pacmanRepository() ecosystem {
	return ecosystem{
		name: "pacman", programs: []string{"pacman", "repo-add", "bsdtar", "gpg"},
		publisher: func(t *testing.T, dir string) func(version int) error {
			p := newPublisher(t, dir)
			return func(version int) error {
				files, err := p.files(version)
				if err != nil {
					return err
				}
				return p.script(`
pkg=$HOME/pkg
rm -rf "$pkg"; mkdir -p "$pkg/opt"
cp -r "$1" "$pkg/opt/freshet-hello"
printf 'pkgname = freshet-hello\npkgbase = freshet-hello\npkgver = %s-1\npkgdesc = says hello\nbuilddate = 1700000000\npackager = A\nsize = 1\narch = any\n' "$2" >"$pkg/.PKGINFO"
(cd "$pkg" && bsdtar -cf - .PKGINFO opt | gzip -1 >"$HOME/new.pkg.tar.gz")
mv "$HOME/new.pkg.tar.gz" "freshet-hello-$2-1-any.pkg.tar.gz"
repo-add -q --sign mine.db.tar.gz "freshet-hello-$2-1-any.pkg.tar.gz"`, files, fmt.Sprint(version))
			}
		},
		payload: func(version int) string { return fmt.Sprintf("/freshet-hello-%d-1-any.pkg.tar.gz", version) },
		install: func(user *client, repo, keys string) (string, error) {
			root := filepath.Join(user.home, "root")
			config := filepath.Join(user.home, "pacman.conf")
			gpg := filepath.Join(user.home, "gpg")
			if _, err := os.Stat(root); err != nil {
				for _, dir := range []string{root, filepath.Join(root, "db"), gpg} {
					if err := os.Mkdir(dir, 0o700); err != nil {
						return "", err
					}
				}
				if out, err := user.try("gpg", "--homedir", gpg, "--batch", "--quiet", "--import", keys+"/key.asc"); err != nil {
					return "", fmt.Errorf("%w\n%s", err, out)
				}
				text := fmt.Sprintf("[options]\nArchitecture = x86_64\nCacheDir = %s/pacmancache\nGPGDir = %s\nLogFile = %s/log\nHookDir = %s/hooks\n"+
					"SigLevel = PackageNever DatabaseRequired DatabaseTrustAll\n[mine]\nServer = %s\n", user.home, gpg, user.home, user.home, repo)
				if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
					return "", err
				}
			}
			out, err := user.try("pacman", "--config", config, "--root", root, "--dbpath", root+"/db", "--noconfirm", "--noprogressbar", "-Sy", "freshet-hello")
			if err != nil {
				return "", fmt.Errorf("%w\n%s", err, out)
			}
			return installedVersion(filepath.Join(root, "opt/freshet-hello"))
		},
	}
}

// ostreeRepository is a repository with signed commits and a signed summary.
func ostreeRepository() ecosystem {
	return ecosystem{
		name: "ostree", programs: []string{"ostree", "gpg"},
		publisher: func(t *testing.T, dir string) func(version int) error {
			p := newPublisher(t, dir)
			p.run("ostree", "init", "--repo="+dir, "--mode=archive")
			return func(version int) error {
				files, err := p.files(version)
				if err != nil {
					return err
				}
				return p.script(`
sign="--gpg-sign=publisher@example.org --gpg-homedir=$HOME/gpg"
ostree commit --repo=. --branch=hello $sign --owner-uid=0 --owner-gid=0 --no-xattrs "$1"
ostree summary --repo=. --update $sign`, files)
			}
		},
		payload: func(int) string { return ".filez" },
		install: func(user *client, repo, keys string) (string, error) {
			local := filepath.Join(user.home, "repo")
			if _, err := os.Stat(local); err != nil {
				for _, args := range [][]string{
					{"init", "--repo=" + local, "--mode=bare-user-only"},
					{"remote", "add", "--repo=" + local, "--set=gpg-verify-summary=true", "--set=tls-ca-path=" + keys + "/ca.pem", "--gpg-import=" + keys + "/key.gpg", "mine", repo},
				} {
					if out, err := user.try("ostree", args...); err != nil {
						return "", fmt.Errorf("%w\n%s", err, out)
					}
				}
			}
			out := filepath.Join(user.home, "checkout")
			for _, args := range [][]string{
				{"pull", "--repo=" + local, "mine", "hello"},
				{"checkout", "--repo=" + local, "--force-copy", "--union", "mine:hello", out},
			} {
				if text, err := user.try("ostree", args...); err != nil {
					return "", fmt.Errorf("%w\n%s", err, text)
				}
			}
			return installedVersion(out)
		},
	}
}

// flatpakRepository is a copy of what a hub publishes, made file by file as
// rsync does, with signed summaries and indexed subsummaries.
func flatpakRepository() ecosystem {
	var id, key string
	return ecosystem{
		name: "flatpak", programs: []string{"flatpak", "ostree", "gpg"},
		publisher: func(t *testing.T, dir string) func(version int) error {
			p := newPublisher(t, dir)
			hub := filepath.Join(p.home, "demo")
			_, d := startDemo(t, hub)
			id = strings.Split(d.App, "/")[1]
			key = filepath.Join(p.home, "demo.gpg")
			writeFlatpakRepoKey(t, get(t, d.FlatpakRepo, 200), key)
			return func(version int) error {
				if version > 1 {
					if _, errOut, err := tryRun(t, "run", "--demo", "--publish-next", "--dir", hub); err != nil {
						return fmt.Errorf("publish: %w\n%s", err, errOut)
					}
				}
				return p.script(`
src=$1
(cd "$src" && find objects deltas delta-indexes refs summaries config -type f 2>/dev/null) | while read -r f; do
  cmp -s "$src/$f" "$f" && continue
  mkdir -p "$(dirname "$f")"; cp "$src/$f" "$f.new~"; mv "$f.new~" "$f"
done
for f in summary.idx summary.idx.sig summary summary.sig; do
  cp "$src/$f" "$f.new~"; mv "$f.new~" "$f"
done`, filepath.Join(hub, "hub/repos/stable"))
			}
		},
		payload: func(int) string { return ".filez" },
		install: func(user *client, repo, _ string) (string, error) {
			remotes, err := user.try("flatpak", "--user", "remotes")
			if err != nil {
				return "", err
			}
			if !strings.Contains(remotes, "mine") {
				if out, err := user.try("flatpak", "--user", "remote-add", "--gpg-import="+key, "mine", repo); err != nil {
					return "", fmt.Errorf("%w\n%s", err, out)
				}
				if out, err := user.try("flatpak", "--user", "install", "-y", "--noninteractive", "mine", id); err != nil {
					return "", fmt.Errorf("%w\n%s", err, out)
				}
			} else if out, err := user.try("flatpak", "--user", "update", "-y", "--noninteractive"); err != nil {
				return "", fmt.Errorf("%w\n%s", err, out)
			}
			out, err := user.try("flatpak", "--user", "run", id)
			if err != nil {
				return "", fmt.Errorf("%w\n%s", err, out)
			}
			return regexp.MustCompile(`version \d+`).FindString(out), nil
		},
	}
}
