// Package demo runs a whole network on one machine with sample content in it:
// a hub and an edge in one process, a small Flatpak runtime and app that are
// made without any Flatpak tool and published through the hub's public API, a plain
// tree of files, and one for each of apt, dnf and pacman, with a small package and
// signed metadata that are made without their tools. A mirror holds a verified copy of
// all that. Beside them a director sends clients to sample mirrors, which are folders
// that the same process serves.
//
// The folder it runs in holds
//
//	demo.json   where everything is, for scripts and for the next start
//	token       the token of demo.json in a file of its own
//	admin-token one that manages tokens and reads the audit log
//	edge-token  one by which the edge reports how far it is
//	mirror-token  one for orders to the mirror
//	packages-key.asc  by which the metadata of packages are signed
//	clients/    settings with which apt, dnf and pacman ask the edge, and what they
//	            install
//	hub/        what the hub keeps
//	edge/       what the edge keeps
//	mirror/     what the mirror keeps
//	director/   what the director keeps
//	mirrors/    what the sample mirrors and their origin serve, mirrors.json where
//	content/    the sample content on its way to the hub, with the number of
//	            the version that was published last in content/version
//
// and can be started again after any end.
package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/doors"
	"freshet/internal/durable"
	"freshet/internal/edge"
	"freshet/internal/hub"
	"freshet/internal/node"
	"freshet/internal/push"
	"freshet/internal/role"
)

const (
	repoName = "stable"
	treeName = "demo-files"
	// The addresses tried first; when they are taken, any free port is used.
	hubAddr     = "127.0.0.1:8090"
	edgeAddr    = "127.0.0.1:8091"
	consoleAddr = "127.0.0.1:8092"
	adminAddr   = "127.0.0.1:9600"
	// directorAddr is where clients are sent to mirrors, mirrorsAddr those mirrors.
	directorAddr = "127.0.0.1:8093"
	mirrorsAddr  = "127.0.0.1:8094"
	mirrorAddr   = "127.0.0.1:8095"
)

// Info is the file demo.json.
type Info struct {
	// Hub and Edge are the URLs of the two servers.
	Hub  string `json:"hub"`
	Edge string `json:"edge"`
	// Console is the URL of the hub's pages for people.
	Console string `json:"console"`
	// Admin is the URL of the listener for operators, which "freshet edge top" asks.
	Admin string `json:"admin"`
	// Director is the URL of the director, Mirrors that of the sample mirrors, each in
	// a folder, and of their origin.
	Director string `json:"director"`
	Mirrors  string `json:"mirrors"`
	// Mirror is the URL of the mirror.
	Mirror string `json:"mirror"`
	// Repo is the URL of the Flatpak repository through the edge, FlatpakRepo
	// that of the file that describes it.
	Repo        string `json:"repo"`
	FlatpakRepo string `json:"flatpakrepo"`
	// Token allows to push anything to the hub.
	Token string `json:"token"`
	// App is the ref of the sample app.
	App string `json:"app"`
	// Trees are the URLs of the plain trees through the edge, by name.
	Trees map[string]string `json:"trees"`
}

// Read returns the demo.json of a folder.
func Read(dir string) (Info, error) {
	var info Info
	b, err := os.ReadFile(filepath.Join(dir, "demo.json"))
	if err != nil {
		return info, fmt.Errorf("read demo: %w", err)
	}
	if err := json.Unmarshal(b, &info); err != nil {
		return info, fmt.Errorf("read %s: %w", filepath.Join(dir, "demo.json"), err)
	}
	return info, nil
}

// Run runs the demonstration in dir until ctx ends. It makes dir when it is
// not there. What to try, and at the end "ready", is printed to out.
func Run(ctx context.Context, dir string, cfg node.Config, out io.Writer, logs node.Logs) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("demo folder: %w", err)
	}
	if err := durable.CheckFolder(dir, "demo.json", "hub", "edge"); err != nil {
		return fmt.Errorf("demo folder: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("demo folder: %w", err)
	}
	info, err := plan(ctx, dir)
	if err != nil {
		return err
	}
	if info.Token, err = makeTokens(dir); err != nil {
		return err
	}
	if cfg.Admin.Listen == "" {
		cfg.Admin.Listen = hostOf(info.Admin)
	}
	info.Admin = "http://" + cfg.Admin.Listen
	hubURL, edgeURL := hostOf(info.Hub), hostOf(info.Edge)
	cfg.Hub = &hub.Config{
		Dir:       filepath.Join(dir, "hub"),
		Listen:    hubURL,
		BaseURL:   info.Hub,
		PublicURL: info.Edge,
		Console:   hub.ConsoleConfig{Listen: hostOf(info.Console)},
		Repos: map[string]hub.RepoConfig{repoName: {
			Title:         "Freshet demonstration",
			Comment:       "A sample app on this machine",
			DefaultBranch: branch,
			SuggestedName: "freshet-demo",
		}},
	}
	cfg.Edge = &edge.Config{Origin: info.Hub, Listeners: doors.Listeners{Listen: edgeURL}, Store: filepath.Join(dir, "edge"), Size: 1e9, Node: "edge", HubTokenFile: filepath.Join(dir, edgeToken)}
	if err := writeMirrors(dir, &info); err != nil {
		return err
	}
	cfg.Director = directorConfig(dir, &info)
	signer, err := openSigner(dir)
	if err != nil {
		return err
	}
	if err := writeClients(filepath.Join(dir, clientsFolder), &info, signer); err != nil {
		return err
	}
	tokenHash, err := mirrorTokenHash(dir)
	if err != nil {
		return err
	}
	cfg.Mirror = mirrorConfig(dir, &info, tokenHash)
	mirrors, err := role.ListenTCP(ctx, hostOf(info.Mirrors))
	if err != nil {
		return fmt.Errorf("sample mirrors: %w", err)
	}

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serveMirrors(ctx, dir, mirrors, logs.Log) })
	serving := make(chan struct{})
	group.Go(func() error {
		return node.Run(ctx, cfg, node.Options{Log: logs.Log, Access: logs.Access, Ready: func() { close(serving) }})
	})
	group.Go(func() error {
		select {
		case <-serving:
		case <-ctx.Done():
			return nil
		}
		err := begin(ctx, dir, &info, out)
		if err != nil && ctx.Err() == nil {
			return err
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, "stopped")
	return err
}

// begin publishes the first version where nothing is published yet, writes
// demo.json and prints what to try.
func begin(ctx context.Context, dir string, info *Info, out io.Writer) error {
	version, err := publishedVersion(dir)
	if err != nil {
		return err
	}
	if version == 0 {
		if err := publish(ctx, dir, info, 1, out, nil); err != nil {
			return err
		}
	}
	b, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return fmt.Errorf("write demo.json: %w", err)
	}
	if err := writeFile(filepath.Join(dir, "demo.json"), append(b, '\n')); err != nil {
		return err
	}
	return printCommands(out, dir, info)
}

// PublishNext publishes the next version of the sample content into the
// demonstration that runs in dir.
func PublishNext(ctx context.Context, dir string, out io.Writer) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("demo folder: %w", err)
	}
	info, err := Read(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s holds no demonstration: start one with freshet run --demo --dir %s", dir, dir)
	}
	if err != nil {
		return err
	}
	probe := hubapi.Client{Base: info.Hub, RetryFor: -1}
	if _, err := probe.Events(ctx, 0, 1, 0); err != nil {
		return fmt.Errorf("the demonstration in %s is not running (freshet run --demo --dir %s starts it): %w", dir, dir, err)
	}
	version, err := publishedVersion(dir)
	if err != nil {
		return err
	}
	if err := publish(ctx, dir, &info, version+1, out, push.NewProgress(out)); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "published version %d; now: flatpak --user update -y %s\n", version+1, appID)
	return err
}

// plan says where everything will be: where demo.json says, which is there when
// the folder was used already, so that the remotes of clients stay right. Servers
// of which it says nothing get a port that is free.
func plan(ctx context.Context, dir string) (Info, error) {
	info, err := Read(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return info, err
	}
	for _, server := range []struct {
		url  *string
		addr string
	}{{&info.Hub, hubAddr}, {&info.Edge, edgeAddr}, {&info.Console, consoleAddr}, {&info.Director, directorAddr}, {&info.Mirrors, mirrorsAddr}, {&info.Mirror, mirrorAddr}} {
		if *server.url == "" {
			if *server.url, err = choose(ctx, server.addr); err != nil {
				return info, err
			}
		} else if err := free(ctx, hostOf(*server.url)); err != nil {
			return info, fmt.Errorf("this demonstration serves at %s, which is taken (is it running already?): %w", *server.url, err)
		}
	}
	if info.Admin == "" || free(ctx, hostOf(info.Admin)) != nil { // nobody else knows it
		if info.Admin, err = choose(ctx, adminAddr); err != nil {
			return info, err
		}
	}
	info.Repo = info.Edge + hubapi.RepoPath(repoName)
	info.FlatpakRepo = info.Repo + repoName + ".flatpakrepo"
	info.App = appRef(flatpakArch())
	info.Trees = make(map[string]string)
	for _, tree := range []string{treeName, aptTree, dnfTree, pacmanTree} {
		info.Trees[tree] = info.Edge + hubapi.TreeFilesPath(tree)
	}
	return info, nil
}

// choose returns the URL of addr, or of any free port when it is taken.
func choose(ctx context.Context, addr string) (string, error) {
	if free(ctx, addr) == nil {
		return "http://" + addr, nil
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return "http://" + ln.Addr().String(), ln.Close()
}

func free(ctx context.Context, addr string) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return ln.Close()
}

// hostOf returns host:port of a URL that this package made; of one that
// somebody wrote into demo.json by hand it may be empty, and listening fails.
func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Host
}

// Files with tokens, see the package comment.
const (
	pushToken  = "token"
	adminToken = "admin-token"
	edgeToken  = "edge-token"
)

// makeTokens issues the tokens of a demonstration, as "freshet token create" does,
// and returns the one that may push everything.
func makeTokens(dir string) (string, error) {
	if err := os.MkdirAll(filepath.Join(dir, "hub"), 0o755); err != nil {
		return "", fmt.Errorf("demo folder: %w", err)
	}
	secret, err := auth.LoadSecret(filepath.Join(dir, "hub", "secret"))
	if err != nil {
		return "", err
	}
	authority := auth.Authority{Secret: secret}
	issue := func(file, name, sub string, scope ...auth.Scope) (string, error) {
		token, err := authority.Issue(auth.Claims{
			Sub: sub, ID: "demo-" + file, Name: name, Scope: scope, Prefixes: []string{""}, Repos: []string{""},
			Expires: time.Now().Add(365 * 24 * time.Hour).Unix(),
		})
		if err != nil {
			return "", err
		}
		return token, writeFile(filepath.Join(dir, file), []byte(token+"\n"))
	}
	push, err := issue(pushToken, "demo", "build", auth.ScopeBuild, auth.ScopeUpload, auth.ScopePublish, auth.ScopeDownload, auth.ScopeJobs)
	if err != nil {
		return "", err
	}
	if _, err := issue(adminToken, "demo-admin", "", auth.ScopeTokenManagement); err != nil {
		return "", err
	}
	_, err = issue(edgeToken, "demo-edge", "build", auth.ScopeNode)
	return push, err
}

// publishedVersion is the newest version that was published, 0 for none.
func publishedVersion(dir string) (int, error) {
	b, err := os.ReadFile(filepath.Join(dir, "content", "version"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read demo version: %w", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("read demo version: %w", err)
	}
	return n, nil
}

// publish makes a version of the sample content and pushes it, as anybody
// would, through the hub's public API. Progress may be nil.
func publish(ctx context.Context, dir string, info *Info, version int, out io.Writer, progress push.Progress) error {
	content := filepath.Join(dir, "content")
	repo, tree := filepath.Join(content, "repo"), filepath.Join(content, "tree")
	if err := writeRepo(repo, strings.Split(info.App, "/")[2], version, time.Now()); err != nil {
		return err
	}
	if err := writeTree(tree, version); err != nil {
		return err
	}
	signer, err := openSigner(dir)
	if err != nil {
		return err
	}
	if err := writePackages(content, version, time.Now(), signer); err != nil {
		return err
	}
	client := &hubapi.Client{Base: info.Hub, Token: info.Token}
	for _, cfg := range []push.Config{
		{Dir: repo, Kind: push.OSTree, Name: repoName, StateFile: "-"},
		{Dir: tree, Kind: push.Tree, Name: treeName},
		{Dir: filepath.Join(content, aptTree), Kind: push.Tree, Name: aptTree},
		{Dir: filepath.Join(content, dnfTree), Kind: push.Tree, Name: dnfTree},
		{Dir: filepath.Join(content, pacmanTree), Kind: push.Tree, Name: pacmanTree},
	} {
		cfg.Client, cfg.Progress = client, progress
		result, err := push.Run(ctx, cfg)
		if err != nil {
			return fmt.Errorf("publish version %d: %w", version, err)
		}
		if _, err := fmt.Fprintf(out, "published version %d to %s: event %d\n", version, cfg.Name, result.Serial); err != nil {
			return err
		}
	}
	return writeFile(filepath.Join(content, "version"), fmt.Appendln(nil, version))
}

// writeFile replaces a file by rename, so that a reader sees all or nothing.
func writeFile(path string, content []byte) error {
	temporary := path + ".new"
	if err := os.WriteFile(temporary, content, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
