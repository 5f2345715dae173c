package hub

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"freshet/internal/hub/hook"
)

// Variables by which commands learn what they are run for. Those of flat-manager
// have its names.
const (
	envBuild     = "FLAT_MANAGER_BUILD_ID"
	envJob       = "FLAT_MANAGER_JOB_ID"
	envRepublish = "FLAT_MANAGER_IS_REPUBLISH"
	// envPublish is the same each time a publish hook is run for the same publish.
	envPublish = "FRESHET_PUBLISH_ID"
	envAttempt = "FRESHET_ATTEMPT" // 1, 2, … of the same publish
	envSerial  = "FRESHET_SERIAL"  // of the newest event that a post-publish is for
)

func envNumber(name string, n int64) string { return name + "=" + strconv.FormatInt(n, 10) }

// command is a command of a repository's hooks, which may read what the hub
// serves and none of its secrets.
func (s *server) command(repo string, args []string, env ...string) hook.Command {
	hooks := s.cfg.Repos[repo].Hooks.WithDefaults()
	for _, variable := range hooks.Env {
		if !strings.Contains(variable, "=") {
			value, set := os.LookupEnv(variable)
			if !set {
				continue
			}
			variable += "=" + value
		}
		env = append(env, variable)
	}
	return hook.Command{
		Args:    args,
		Env:     env,
		Timeout: hooks.Timeout,
		Hidden:  s.secrets(),
		Shown:   []string{s.repoDir(repo)},
		Sockets: hooks.UnixSockets,
		Ports:   hooks.Ports,
	}
}

// secrets are the files and folders that nobody but the hub reads.
func (s *server) secrets() []string {
	paths := slices.Concat([]string{s.cfg.Dir, s.cfg.SecretFile, s.cfg.RepoSecretFile, s.cfg.Storage.CredentialsFile}, s.cfg.GPGKeys, s.cfg.BuildGPGKeys, s.cfg.Ed25519Keys)
	for _, repo := range s.cfg.Repos {
		paths = append(paths, repo.GPGKeys...)
		paths = append(paths, repo.Ed25519Keys...)
	}
	for _, key := range s.cfg.Keys {
		paths = append(paths, key.File, key.PassphraseFile)
	}
	paths = slices.Concat(paths, s.hidden, []string{os.Getenv("PGPASSFILE"), os.Getenv("GNUPGHOME")})
	if home, err := os.UserHomeDir(); err == nil {
		for _, name := range [...]string{".pgpass", ".postgresql", ".aws", ".gnupg", ".ssh"} {
			paths = append(paths, filepath.Join(home, name))
		}
	}
	paths = slices.DeleteFunc(paths, func(path string) bool { return path == "" })
	return paths
}

func (s *server) repoDir(repo string) string { return s.cfg.RepoDir(repo) }

// hasHooks reports whether a repository has any commands.
func (s *server) hasHooks() bool {
	for _, repo := range s.cfg.Repos {
		if hooks := repo.Hooks; len(hooks.Publish) > 0 || len(hooks.PostPublish) > 0 || len(hooks.Checks) > 0 {
			return true
		}
	}
	return false
}
