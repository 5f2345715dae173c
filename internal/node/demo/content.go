package demo

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"time"

	"freshet/internal/archive"
	"freshet/internal/flatpak"
)

// Names of the sample content.
const (
	appID     = "org.freshet.demo.Hello"
	runtimeID = "org.freshet.demo.Platform"
	sdkID     = "org.freshet.demo.Sdk"
	branch    = "stable"
)

// flatpakArch is this machine's architecture in flatpak's words.
func flatpakArch() string {
	switch runtime.GOARCH {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	default:
		return runtime.GOARCH
	}
}

// appRef is the ref of the sample app.
func appRef(arch string) string { return "app/" + appID + "/" + arch + "/" + branch }

// writeRepo writes the given version of the sample app, with its runtime when
// it is the first, as a repository that can be pushed.
func writeRepo(dir, arch string, version int, now time.Time) error {
	repo, err := archive.Create(dir)
	if err != nil {
		return err
	}
	platform, sdk := path.Join(runtimeID, arch, branch), path.Join(sdkID, arch, branch)
	if version == 1 {
		meta := flatpak.Metadata{Kind: flatpak.Runtime, Name: runtimeID, Runtime: platform, SDK: sdk}
		note := archive.File{Path: "files/share/doc/README", Content: []byte("An empty runtime: the sample app brings all it needs.\n")}
		if err := repo.CommitFlatpak("runtime/"+platform, meta, []archive.File{note}, []string{"files/bin", "files/lib"}, now); err != nil {
			return fmt.Errorf("write sample runtime: %w", err)
		}
	}
	files, err := appFiles(arch, version)
	if err != nil {
		return err
	}
	meta := flatpak.Metadata{Kind: flatpak.App, Name: appID, Runtime: platform, SDK: sdk, Command: "hello"}
	if err := repo.CommitFlatpak(appRef(arch), meta, files, nil, now); err != nil {
		return fmt.Errorf("write sample app: %w", err)
	}
	return nil
}

func appFiles(arch string, version int) ([]archive.File, error) {
	greeting := fmt.Sprintf("Hello from Freshet, version %d\n", version)
	exe, err := program(arch, greeting)
	if err != nil {
		return nil, err
	}
	desktop := "[Desktop Entry]\nType=Application\nName=Freshet Hello\nComment=Says which version it is\n" +
		"Exec=hello\nIcon=" + appID + "\nTerminal=true\nCategories=Utility;\n"
	components, err := zip(appstream(version))
	if err != nil {
		return nil, err
	}
	files := []archive.File{
		{Path: "files/bin/hello", Content: exe, Executable: true},
		{Path: "files/share/doc/hello/VERSION", Content: fmt.Appendf(nil, "%d\n", version)},
		{Path: "files/share/applications/" + appID + ".desktop", Content: []byte(desktop)},
		{Path: "export/share/applications/" + appID + ".desktop", Content: []byte(desktop)},
		{Path: "files/share/app-info/xmls/" + appID + ".xml.gz", Content: components},
	}
	for _, size := range []int{64, 128} {
		png, err := icon(size, version)
		if err != nil {
			return nil, err
		}
		box := fmt.Sprintf("%dx%d", size, size)
		files = append(files,
			archive.File{Path: "files/share/app-info/icons/flatpak/" + box + "/" + appID + ".png", Content: png},
			archive.File{Path: "export/share/icons/hicolor/" + box + "/apps/" + appID + ".png", Content: png})
	}
	return files, nil
}

func appstream(version int) string {
	return `<?xml version="1.0" encoding="UTF-8"?>
<components version="0.8" origin="flatpak">
  <component type="desktop-application">
    <id>` + appID + `</id>
    <name>Freshet Hello</name>
    <summary>Says which version it is</summary>
    <description><p>The sample app of Freshet's demonstration. Publish its next version and watch the update arrive.</p></description>
    <metadata_license>CC0-1.0</metadata_license>
    <project_license>Apache-2.0</project_license>
    <icon type="cached" width="64" height="64">` + appID + `.png</icon>
    <icon type="cached" width="128" height="128">` + appID + `.png</icon>
    <launchable type="desktop-id">` + appID + `.desktop</launchable>
    <releases><release version="` + fmt.Sprint(version) + `" timestamp="` + fmt.Sprint(1767225600+86400*version) + `"/></releases>
  </component>
</components>
`
}

func zip(text string) ([]byte, error) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, text); err != nil {
		return nil, fmt.Errorf("compress appstream: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("compress appstream: %w", err)
	}
	return b.Bytes(), nil
}

// writeTree writes the given version of the sample tree: an index that names
// the release file of the version, as package indexes do.
func writeTree(dir string, version int) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("clear %s: %w", dir, err)
	}
	release := fmt.Sprintf("hello-%d.txt", version)
	for name, content := range map[string]string{
		"VERSION":             fmt.Sprintln(version),
		"index.txt":           "releases/" + release + "\n",
		"releases/" + release: fmt.Sprintf("Hello from Freshet, version %d\n", version),
	} {
		target := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return fmt.Errorf("write sample tree: %w", err)
		}
		if err := os.WriteFile(target, []byte(content), 0o644); err != nil {
			return fmt.Errorf("write sample tree: %w", err)
		}
	}
	return nil
}
