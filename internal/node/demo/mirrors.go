package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/director"
	"freshet/internal/doors"
	"freshet/internal/role"
)

const (
	// mirrorsFolder holds the folder of the origin and that of each sample mirror.
	mirrorsFolder = "mirrors"
	originName    = "origin"
	// catalogueFile tells the director of them.
	catalogueFile = "mirrors.json"
	// downloads is the project of which they are mirrors.
	downloads = "downloads"
	// oldRelease is on every mirror, newRelease on those that are not behind.
	oldRelease = "hello-1.txt"
	newRelease = "hello-2.txt"
)

// sampleMirror is a web server somewhere on earth, for all that the director knows.
type sampleMirror struct {
	name, country       string
	latitude, longitude float64
	files               []string
}

func sampleMirrors() []sampleMirror {
	all := []string{oldRelease, newRelease}
	return []sampleMirror{
		{"berlin", "DE", 52.5, 13.4, all},
		{"boston", "US", 42.4, -71.1, all},
		{"tokyo", "JP", 35.7, 139.7, []string{oldRelease}},
	}
}

// writeMirrors writes the files of origin and mirrors into folders below dir, and the
// catalogue that says where they are served. Files that are there already stay as they
// are: anybody may change them, and see what the director makes of it.
func writeMirrors(dir string, info *Info) error {
	if err := writeSamples(filepath.Join(dir, mirrorsFolder, originName), []string{oldRelease, newRelease}); err != nil {
		return err
	}
	at := func(name string) string { return info.Mirrors + "/" + name + "/" }
	every := directorapi.Duration(time.Minute)
	c := directorapi.Catalogue{Projects: []directorapi.Project{{
		Name: downloads, Path: "/" + downloads + "/", Origins: []string{at(originName)}, Canary: oldRelease,
		Inventory: directorapi.Source{How: directorapi.HowFolder, URL: filepath.Join(dir, mirrorsFolder, originName), Every: every},
	}}}
	for _, m := range sampleMirrors() {
		if err := writeSamples(filepath.Join(dir, mirrorsFolder, m.name), m.files); err != nil {
			return err
		}
		c.Sites = append(c.Sites, directorapi.Site{Name: m.name, Country: m.country, Latitude: m.latitude, Longitude: m.longitude})
		c.Mirrors = append(c.Mirrors, directorapi.Mirror{Name: m.name, Site: m.name, Carries: []directorapi.Carried{{
			Project: downloads, HTTP: at(m.name), Inventory: directorapi.Source{How: directorapi.HowHTTP, Every: every},
		}}})
	}
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("catalogue of mirrors: %w", err)
	}
	return writeFile(filepath.Join(dir, catalogueFile), append(text, '\n'))
}

// writeSamples writes those of the files that are not there.
func writeSamples(dir string, files []string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("files of mirrors: %w", err)
	}
	for _, name := range files {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			continue
		}
		if err := writeFile(path, []byte("Hello from Freshet, "+name+"\n")); err != nil {
			return err
		}
		if err := os.Chmod(path, 0o644); err != nil { // what not everybody may read does not count
			return fmt.Errorf("files of mirrors: %w", err)
		}
	}
	return nil
}

// directorConfig is that of the director that knows them.
func directorConfig(dir string, info *Info) *director.Config {
	return &director.Config{
		Listeners: doors.Listeners{Listen: hostOf(info.Director)},
		State:     filepath.Join(dir, "director"), Catalogue: filepath.Join(dir, catalogueFile),
	}
}

// serveMirrors serves the folders of origin and mirrors on ln until ctx ends.
func serveMirrors(ctx context.Context, dir string, ln net.Listener, log *slog.Logger) error {
	root, err := os.OpenRoot(filepath.Join(dir, mirrorsFolder))
	if err != nil {
		return errors.Join(fmt.Errorf("files of mirrors: %w", err), ln.Close())
	}
	defer func() { _ = root.Close() }() // it was only read
	return role.Serve(ctx, ln, http.FileServerFS(root.FS()), log)
}
