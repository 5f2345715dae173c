package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"freshet/internal/archive"
	"freshet/internal/flatpak"
	"freshet/internal/gvariant"
)

const platform = "org.bench.Platform/x86_64/stable"

func appID(i int) string { return fmt.Sprintf("org.bench.App%05d", i) }

// writeRepo writes an unsigned repository with apps like those of an app store: a
// catalogue entry of some 3 kB, two icons, a program.
func writeRepo(dir string, c publishCase) error {
	repo, err := archive.Create(dir)
	if err != nil {
		return err
	}
	for i := range c.apps {
		for _, arch := range c.arches {
			if err := writeApp(repo, i, 0, arch, c.subsets); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeChanged writes a repository with the next version of one app.
func writeChanged(dir string, c publishCase, i, version int) error {
	repo, err := archive.Create(dir)
	if err != nil {
		return err
	}
	for _, arch := range c.arches {
		if err := writeApp(repo, i, version, arch, c.subsets); err != nil {
			return err
		}
	}
	return nil
}

// writeApp writes a version of an app. Of two apps one is in all subsets.
func writeApp(repo *archive.Repo, i, version int, arch string, subsets []string) error {
	id := appID(i)
	random := rand.New(rand.NewPCG(uint64(i), uint64(version)))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for j := range b {
			b[j] = byte(random.IntN(256))
		}
		return b
	}
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	if _, err := zip.Write(component(id, random, version)); err != nil {
		return err
	}
	if err := zip.Close(); err != nil {
		return err
	}
	share := "files/share/app-info/"
	files := []archive.File{
		{Path: "files/bin/app", Content: append(noise(3000), bytes.Repeat([]byte("x"), 3000)...), Executable: true},
		{Path: share + "xmls/" + id + ".xml.gz", Content: packed.Bytes()},
		{Path: share + "icons/flatpak/64x64/" + id + ".png", Content: noise(4000)},
		{Path: share + "icons/flatpak/128x128/" + id + ".png", Content: noise(12000)},
		{Path: "export/share/applications/" + id + ".desktop", Content: []byte("[Desktop Entry]\nName=" + id + "\n")},
	}
	meta := flatpak.Metadata{Kind: flatpak.App, Name: id, Runtime: platform, SDK: "org.bench.Sdk/x86_64/stable", Command: "app"}
	var keys []gvariant.Entry
	if len(subsets) > 0 && i%2 == 0 {
		keys = append(keys, gvariant.Entry{Key: "xa.subsets", Value: gvariant.Strings(subsets)})
	}
	return repo.CommitFlatpak("app/"+id+"/"+arch+"/stable", meta, files, nil, time.Unix(int64(1_700_000_000+version), 0), keys...)
}

func component(id string, random *rand.Rand, version int) []byte {
	words := strings.Fields("lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore et dolore magna aliqua ut enim ad minim veniam quis nostrud exercitation")
	text := func(n int) string {
		out := make([]string, n)
		for i := range out {
			out[i] = words[random.IntN(len(words))]
		}
		return strings.Join(out, " ")
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<components version=\"0.8\" origin=\"flatpak\">\n <component type=\"desktop-application\">\n  <id>%s</id>\n  <name>%s</name>\n  <summary>%s</summary>\n", id, id, text(6))
	for _, lang := range []string{"de", "fr", "es", "it", "pt_BR", "ru", "zh_CN", "ja"} {
		fmt.Fprintf(&b, "  <name xml:lang=%q>%s</name>\n  <summary xml:lang=%q>%s</summary>\n", lang, id, lang, text(6))
	}
	fmt.Fprintf(&b, "  <project_license>GPL-3.0</project_license>\n  <description><p>%s</p><p>%s</p><p>%s</p></description>\n", text(40), text(40), text(40))
	fmt.Fprintf(&b, "  <icon type=\"cached\" height=\"64\" width=\"64\">%s.png</icon>\n  <icon type=\"cached\" height=\"128\" width=\"128\">%s.png</icon>\n  <releases>", id, id)
	for i := range 4 {
		fmt.Fprintf(&b, "<release version=\"1.%d.%d\" timestamp=\"%d\"><description><p>%s</p></description></release>", version, i, 1_700_000_000-i*2_592_000, text(15))
	}
	b.WriteString("</releases>\n </component>\n</components>\n")
	return b.Bytes()
}

// copyTree copies a repository, sharing its objects by hard link: neither side
// rewrites one.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case entry.IsDir():
			return os.MkdirAll(target, 0o755)
		case strings.HasPrefix(rel, "objects/"):
			return os.Link(path, target)
		default:
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(target, content, 0o644)
		}
	})
}
