package demo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"freshet/api/hubapi"
	"freshet/internal/control"
	"freshet/internal/doors"
	"freshet/internal/mirror"
	"freshet/internal/mirror/kind"
	"freshet/internal/mirror/project"
)

const (
	// mirrorToken is the file with the token for orders to the mirror.
	mirrorToken = "mirror-token"
	// mirrorTokenPrefix is how the tokens begin that "freshet mirror token" makes.
	mirrorTokenPrefix = "fw_"
)

// mirrorConfig is that of a mirror that holds a whole copy of all that the hub
// publishes, each checked as its clients would. The keys are where writeClients has
// put them.
func mirrorConfig(dir string, info *Info, tokenHash string) *mirror.Config {
	key := filepath.Join(dir, clientsFolder, publicKey)
	of := func(format kind.Format, url string, repositories ...string) project.Config {
		p := project.Config{Kind: string(format), Upstreams: []string{"hub+" + url}, Repositories: repositories, Schedule: "every 10m"}
		if format != kind.OSTree {
			p.Keys = []string{key}
		}
		return p
	}
	tree := func(name string) string { return info.Hub + hubapi.TreeFilesPath(name) }
	return &mirror.Config{
		Directory: filepath.Join(dir, "mirror"), Listeners: doors.Listeners{Listen: hostOf(info.Mirror)}, Node: "mirror",
		Control: mirror.ControlConfig{Clients: map[string]mirror.ClientConfig{"demo": {Token: tokenHash}}},
		Projects: map[string]project.Config{
			repoName:   of(kind.OSTree, info.Hub+hubapi.RepoPath(repoName)),
			aptTree:    of(kind.Deb, tree(aptTree), "dists/stable"),
			dnfTree:    of(kind.RPM, tree(dnfTree), "."),
			pacmanTree: of(kind.Arch, tree(pacmanTree), pacmanRepo+".db"),
		},
	}
}

// mirrorTokenHash returns the hash of the token for orders to the mirror, which is made
// when there is none.
func mirrorTokenHash(dir string) (string, error) {
	path := filepath.Join(dir, mirrorToken)
	text, err := os.ReadFile(path)
	if err == nil {
		return control.Hash(strings.TrimSpace(string(text))), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("token of the mirror: %w", err)
	}
	token, hash := control.NewToken(mirrorTokenPrefix)
	return hash, writeFile(path, []byte(token+"\n"))
}
