package repository

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"freshet/internal/durable"
	"freshet/internal/keyfile"
)

const (
	configFile = "config"

	groupCore    = "core"
	groupFlatpak = "flatpak"

	keyAuthenticator       = "authenticator-name"
	keyAuthenticatorOption = "authenticator-options."
)

// archiveDirs are the folders that libostree expects in every repository. It
// makes what is missing when it opens one, and gives up where it may not.
var archiveDirs = [...]string{"objects", "tmp/cache", "extensions", "state", "refs/heads", "refs/mirrors", "refs/remotes"}

// errMode says that a repository is not one that is served over HTTP.
var errMode = errors.New("not an archive repository")

// makeArchive makes dir an archive repository and writes what change does to its
// config, with write or, if that is nil, itself. One that is there keeps everything
// else of its config. It tells whether the config is another one now.
func makeArchive(path string, change func(*keyfile.File) error, write func(config []byte) error) (changed bool, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, err
	}
	dir, err := durable.Open(path)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, dir.Root.Close()) }()
	before, err := dir.Root.ReadFile(configFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	config, err := keyfile.Parse(before)
	if err != nil {
		return false, fmt.Errorf("config: %w", err)
	}
	if len(bytes.TrimSpace(before)) == 0 { // absent, or lost by a disk that was full or failed
		err = errors.Join(config.SetRaw(groupCore, "repo_version", "1"), config.Set(groupCore, "mode", "archive-z2"))
	} else if mode, _ := config.Get(groupCore, "mode"); mode != "archive-z2" && mode != "archive" {
		err = fmt.Errorf("%w: its mode is %q", errMode, mode)
	}
	if err != nil {
		return false, err
	}
	if err := change(config); err != nil {
		return false, fmt.Errorf("config: %w", err)
	}
	for _, name := range archiveDirs {
		if err := dir.MkdirAll(name, 0o755); err != nil {
			return false, err
		}
	}
	after := config.Bytes()
	if bytes.Equal(before, after) {
		return false, nil
	}
	// The config comes last: without it, the folder is no repository.
	if write != nil {
		return true, write(after)
	}
	return true, dir.WriteFile(configFile, after, 0o644)
}

// configure writes what the options say into the config of the repository, where
// flatpak's own tools find it. What the options leave open stays as it is.
func (o *Options) configure(config *keyfile.File) error {
	err := config.SetBool(groupCore, "indexed-deltas", true)
	if _, ok := config.Get(groupCore, "min-free-space-size"); !ok {
		// libostree's default is 3 % of the disk, which on a big one is a lot.
		err = errors.Join(err, config.Set(groupCore, "min-free-space-size", "500MB"))
	}
	for _, kv := range [...][3]string{
		{groupCore, "collection-id", o.CollectionID},
		{groupFlatpak, "title", o.Title},
		{groupFlatpak, "comment", o.Comment},
		{groupFlatpak, "description", o.Description},
		{groupFlatpak, "homepage", o.Homepage},
		{groupFlatpak, "icon", o.Icon},
		{groupFlatpak, "redirect-url", o.RedirectURL},
		{groupFlatpak, "default-branch", o.DefaultBranch},
		{groupFlatpak, keyAuthenticator, o.AuthenticatorName},
	} {
		if kv[2] != "" {
			err = errors.Join(err, config.Set(kv[0], kv[1], kv[2]))
		}
	}
	if o.DeployCollectionID {
		err = errors.Join(err, config.SetBool(groupFlatpak, "deploy-collection-id", true))
	}
	for option, value := range o.AuthenticatorOptions {
		err = errors.Join(err, config.Set(groupFlatpak, keyAuthenticatorOption+option, value))
	}
	if len(o.SummaryArches) > 0 {
		err = errors.Join(err, config.SetList(groupFlatpak, "summary-arches", o.SummaryArches))
	}
	return err
}

// adopt takes from the config what the options leave open.
func (o *Options) adopt(config *keyfile.File) error {
	for _, kv := range [...]struct {
		group, key string
		value      *string
	}{
		{groupCore, "collection-id", &o.CollectionID},
		{groupFlatpak, "title", &o.Title},
		{groupFlatpak, "comment", &o.Comment},
		{groupFlatpak, "description", &o.Description},
		{groupFlatpak, "homepage", &o.Homepage},
		{groupFlatpak, "icon", &o.Icon},
		{groupFlatpak, "redirect-url", &o.RedirectURL},
		{groupFlatpak, "default-branch", &o.DefaultBranch},
		{groupFlatpak, keyAuthenticator, &o.AuthenticatorName},
	} {
		if *kv.value == "" {
			*kv.value, _ = config.Get(kv.group, kv.key)
		}
	}
	if len(o.AuthenticatorOptions) == 0 {
		o.AuthenticatorOptions = make(map[string]string)
		for _, key := range config.Keys(groupFlatpak) {
			if option, found := strings.CutPrefix(key, keyAuthenticatorOption); found {
				o.AuthenticatorOptions[option], _ = config.Get(groupFlatpak, key)
			}
		}
	}
	if len(o.SummaryArches) == 0 {
		o.SummaryArches = config.List(groupFlatpak, "summary-arches")
	}
	deploy, err := config.Bool(groupFlatpak, "deploy-collection-id", o.DeployCollectionID)
	o.DeployCollectionID = deploy
	return err
}
