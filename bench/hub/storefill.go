package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"freshet/internal/archive"
	"freshet/internal/flatpak"
)

const (
	storeApps  = 200 // refs of which one is changed; some 14 objects each
	storeFills = 100 // refs that make the store as large as it shall be
	fillFolder = 100 // files in each of their folders
)

// storeCatalogue are the refs of a store that change.
func storeCatalogue() publishCase { return publishCase{apps: storeApps, arches: []string{"x86_64"}} }

// fillStore writes a repository of about so many objects. The number of refs is
// always the same, and so is what a publish changes.
func fillStore(dir string, objects int) error {
	repo, err := archive.Create(dir)
	if err != nil {
		return err
	}
	for i := range storeApps {
		if err := writeApp(repo, i, 0, "x86_64", nil); err != nil {
			return err
		}
	}
	have, err := countObjects(dir)
	if err != nil {
		return err
	}
	const perRef = 6 // commit, metadata and the folders above
	files := (objects-have)/storeFills - perRef
	files -= files / (fillFolder + 1) // their folders are objects too
	for i := range storeFills {
		if err := writeFill(repo, i, max(1, files)); err != nil {
			return err
		}
	}
	return nil
}

// writeFill writes a ref of many small files, all of them different.
func writeFill(repo *archive.Repo, number, count int) error {
	id := fmt.Sprintf("org.bench.Fill%03d", number)
	files := make([]archive.File, count)
	for i := range files {
		files[i] = archive.File{
			Path:    fmt.Sprintf("files/share/%04d/%02d", i/fillFolder, i%fillFolder),
			Content: fmt.Appendf(nil, "%s %d\n", id, i),
		}
	}
	meta := flatpak.Metadata{Kind: flatpak.Runtime, Name: id, Runtime: platform, SDK: platform}
	return repo.CommitFlatpak("runtime/"+id+"/x86_64/stable", meta, files, nil, time.Unix(1_700_000_000, 0))
}

// countObjects counts the files below objects.
func countObjects(repo string) (n int, err error) {
	folders, err := filepath.Glob(filepath.Join(repo, "objects", "??"))
	if err != nil {
		return 0, err
	}
	for _, folder := range folders {
		entries, err := os.ReadDir(folder)
		if err != nil {
			return 0, err
		}
		n += len(entries)
	}
	return n, nil
}

// readJSON reads what writeJSON wrote, and reports whether there is such a file.
func readJSON(path string, v any) (bool, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, json.Unmarshal(data, v)
}

func writeJSON(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}
