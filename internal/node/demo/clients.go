package demo

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"time"

	"freshet/internal/node/demo/packages"
	"freshet/internal/sign"
)

// Trees with packages, beside the one with plain files.
const (
	aptTree    = "demo-apt"
	dnfTree    = "demo-dnf"
	pacmanTree = "demo-pacman"
	// packageName is the sample package, pacmanRepo what pacman calls its repository.
	packageName = "freshet-hello"
	pacmanRepo  = "freshet-demo"
	// publicKey is the file there with the key that signs packages' metadata.
	publicKey = "key.asc"
	// clientsFolder is where the settings of package managers are.
	clientsFolder = "clients"
)

// clientFiles are settings by which package managers ask the edge for the sample
// package and install it into a folder of their own, and into no other.
func clientFiles() map[string]string {
	return map[string]string{
		"sources.list": "deb [signed-by={{.Dir}}/key.gpg] {{.Apt}} stable main\n",
		"apt.conf": `Dir::Etc::SourceList "{{.Dir}}/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State "{{.Dir}}/apt/var/lib/apt";
Dir::State::status "{{.Dir}}/apt/var/lib/dpkg/status";
Dir::Cache "{{.Dir}}/apt/var/cache/apt";
Dir::Log "{{.Dir}}/apt/var/log";
DPkg::Options { "--root={{.Dir}}/apt"; "--log=/dev/null"; };
#clear DPkg::Pre-Invoke;
#clear DPkg::Pre-Install-Pkgs;
#clear DPkg::Post-Invoke;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Sandbox::User "root";
APT::Install-Recommends "false";
Acquire::Languages "none";
`,
		"apt/var/lib/dpkg/status": "",
		"dnf.conf": `[main]
installroot={{.Dir}}/dnf
reposdir=/dev/null
plugins=0
metadata_expire=0
best=1
[freshet-demo]
name=Freshet demonstration
baseurl={{.DNF}}
gpgkey=file://{{.Dir}}/key.asc
gpgcheck=1
repo_gpgcheck=1
`,
		"pacman.conf": `[options]
Architecture = auto
RootDir = {{.Dir}}/pacman
DBPath = {{.Dir}}/pacman/var/lib/pacman
CacheDir = {{.Dir}}/pacman/var/cache/pacman
LogFile = /dev/null
GPGDir = {{.Dir}}/pacman/gnupg
HookDir = {{.Dir}}/pacman/hooks
[` + pacmanRepo + `]
SigLevel = PackageNever DatabaseRequired DatabaseTrustAll
Server = {{.Pacman}}
`,
	}
}

// clientFolders are those that package managers want to find.
func clientFolders() []string {
	return []string{
		"apt/var/lib/apt/lists/partial", "apt/var/cache/apt/archives/partial", "apt/var/log", "apt/var/lib/dpkg/info", "apt/var/lib/dpkg/updates",
		"apt/var/lib/dpkg/triggers", "dnf", "pacman/var/lib/pacman", "pacman/var/cache/pacman", "pacman/gnupg",
	}
}

// writeClients writes the settings into dir. What the package managers keep there
// stays.
func writeClients(dir string, info *Info, signer *packages.Signer) error {
	for _, folder := range clientFolders() {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
			return fmt.Errorf("settings of package managers: %w", err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "pacman/gnupg"), 0o700); err != nil { // or GnuPG complains
		return fmt.Errorf("settings of package managers: %w", err)
	}
	key, armored, err := signer.Public()
	if err != nil {
		return err
	}
	// Of keys in this file GnuPG needs no other word.
	files := map[string][]byte{"key.gpg": key, publicKey: armored, "pacman/gnupg/pubring.gpg": key}
	facts := map[string]string{"Dir": dir, "Apt": info.Trees[aptTree], "DNF": info.Trees[dnfTree], "Pacman": strings.TrimSuffix(info.Trees[pacmanTree], "/")}
	for name, text := range clientFiles() {
		t, err := template.New(name).Parse(text)
		if err != nil {
			return fmt.Errorf("settings of package managers: %w", err)
		}
		var b strings.Builder
		if err := t.Execute(&b, facts); err != nil {
			return fmt.Errorf("settings of package managers: %w", err)
		}
		files[name] = []byte(b.String())
	}
	for name, content := range files {
		target := filepath.Join(dir, name)
		if _, err := os.Stat(target); len(content) == 0 && err == nil {
			continue // it is theirs
		}
		if err := os.WriteFile(target, content, 0o644); err != nil {
			return fmt.Errorf("settings of package managers: %w", err)
		}
	}
	return nil
}

// openSigner opens the key by which the sample packages are signed, a new one the
// first time.
func openSigner(dir string) (*packages.Signer, error) {
	path := filepath.Join(dir, "packages-key.asc")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if _, err := sign.Generate(path, "Freshet demonstration <demo@freshet.invalid>"); err != nil {
			return nil, err
		}
	}
	return packages.OpenSigner(path)
}

// writePackages writes the given version of the sample package for each package
// manager into a folder below dir with the name of its tree.
func writePackages(dir string, version int, now time.Time, signer *packages.Signer) error {
	p := packages.Package{
		Name: packageName, Version: strconv.Itoa(version), Summary: "Says which version it is", Time: now,
		Program: fmt.Appendf(nil, "#!/bin/sh\necho 'Hello from Freshet, version %d'\n", version),
	}
	folder := func(tree string) string { return filepath.Join(dir, tree) }
	return cmp.Or(p.Apt(folder(aptTree), signer), p.DNF(folder(dnfTree), signer), p.Pacman(folder(pacmanTree), pacmanRepo, signer))
}
