package main

import (
	"bufio"
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"freshet/internal/auth"
	"freshet/internal/config"
	"freshet/internal/durable"
	"freshet/internal/node"
)

func newTokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "token",
		Short:   "Make, read and revoke the tokens by which a hub knows who may do what",
		GroupID: "use",
	}
	cmd.AddCommand(newTokenCreateCommand(), newTokenShowCommand(), newTokenExchangeCommand(), newTokenListCommand(), newTokenRevokeCommand())
	return cmd
}

// secretFlags say where the secret is by which tokens are signed.
type secretFlags struct{ dir, file, config, prefix string }

func (s *secretFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.dir, "dir", "", "the hub's folder (its --dir)")
	f.StringVar(&s.file, "secret-file", "", "file with the secret in base64, as flat-manager's gentoken reads it")
	f.StringVarP(&s.config, "config", "c", "", "configuration file of the hub; flags win over it")
	f.StringVar(&s.prefix, "token-prefix", "", "word before the token, as the hub's token-prefix")
}

// authority reads the secret. It never makes one: a token of a secret that no
// hub knows would open nothing.
func (s *secretFlags) authority(cmd *cobra.Command) (*auth.Authority, error) {
	dir, file, prefix := s.dir, s.file, s.prefix
	start := "freshet hub --dir " + dir
	if s.config != "" {
		var cfg node.Config
		if err := config.Load(s.config, &cfg); err != nil {
			return nil, err
		}
		if cfg.Hub == nil {
			return nil, fmt.Errorf("%s has no table [hub]", s.config)
		}
		prefix = cmp.Or(prefix, cfg.Hub.TokenPrefix)
		if dir == "" && file == "" {
			dir, file = cfg.Hub.Dir, cfg.Hub.SecretFile
			start = "freshet hub --config " + s.config
		}
	}
	if dir == "" && file == "" {
		return nil, usageError(cmd, "one of --dir, --config and --secret-file is needed, to know the hub")
	}
	path := cmp.Or(file, filepath.Join(dir, "secret"))
	secret, err := auth.ReadSecret(path)
	if file == "" && errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no hub in %s: start `%s` once, it makes the secret", dir, start)
	}
	if err != nil {
		return nil, err
	}
	return &auth.Authority{Secret: secret, Prefix: prefix}, nil
}

// tokenFlags say what is in a new token and where it goes.
type tokenFlags struct {
	claims   auth.Claims
	scopes   []string
	duration durationFlag
	out      string
	asJSON   bool
}

// newToken is what "token create --json" prints.
type newToken struct {
	ID      string    `json:"jti"`
	Expires time.Time `json:"expires"`
	Token   string    `json:"token,omitempty"` // unless it is in File
	File    string    `json:"file,omitempty"`
}

func newTokenCreateCommand() *cobra.Command {
	var secret secretFlags
	flags := tokenFlags{duration: durationFlag(365 * 24 * time.Hour)}
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a token",
		Long: `Make a token and print it, or write it to a new file with --out.

The claims and their defaults are those of flat-manager's gentoken: scopes
build, upload, publish, download and jobs, for all applications and all
repositories, for one year. Give a token as little as it needs.

The secret is read, never made: the hub makes it at its first start.`,
		Example: `  # for the CI of one vendor: its own apps, only into beta, for 90 days
  freshet token create --dir /srv/hub --name acme-ci --prefix com.acme --repo beta --duration 90d --out acme.token

  # for pushing one plain tree
  freshet token create --dir /srv/hub --name rpm-ci --scope upload --scope publish --repo fedora-extras`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			claims, err := flags.complete(cmd)
			if err != nil {
				return err
			}
			authority, err := secret.authority(cmd)
			if err != nil {
				return err
			}
			if claims.ID == "" {
				claims.ID = rand.Text()
			}
			token, err := authority.Issue(claims)
			if err != nil {
				return err
			}
			made := newToken{ID: claims.ID, Expires: claims.ExpiresAt().UTC(), Token: token}
			if flags.out != "" {
				made.Token, made.File = "", flags.out
				if err := writeNewFile(flags.out, []byte(token+"\n")); err != nil {
					return fmt.Errorf("token create: %w", err)
				}
			}
			switch {
			case flags.asJSON:
				return printJSON(cmd.OutOrStdout(), made)
			case flags.out == "":
				_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: good until %s\n", flags.out, claims.ExpiresAt().UTC().Format(time.RFC3339))
			return err
		},
	}
	secret.register(cmd)
	flags.register(cmd)
	return cmd
}

func (t *tokenFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&t.claims.Name, "name", "", "for whom the token is; it stands in logs")
	f.StringVar(&t.claims.Sub, "sub", "build", `what it is about: "build", "build/N", "delta" for a delta worker, or "" for managing tokens`)
	f.StringSliceVar(&t.scopes, "scope", []string{"build", "upload", "publish", "download", "jobs"}, "what it allows (repeatable)")
	f.StringSliceVar(&t.claims.Prefixes, "prefix", nil, "ids it allows, org.a allows org.a and org.a.* (repeatable); default: all")
	f.StringSliceVar(&t.claims.Apps, "app", nil, "exact ids it allows (repeatable)")
	f.StringSliceVar(&t.claims.Repos, "repo", []string{""}, "repositories and trees it allows (repeatable); default: all")
	f.StringSliceVar(&t.claims.PushBranches, "push-branch", nil, "branches it may upload and publish, \"*\" for any characters (repeatable); default: all")
	f.StringSliceVar(&t.claims.Branches, "branch", []string{"stable"}, "carried in the token, not enforced")
	f.StringVar(&t.claims.TokenType, "token-type", "app", "carried in the token, not enforced")
	f.StringVar(&t.claims.ID, "jti", "", "id by which the token can be revoked (default: a random one)")
	f.Var(&t.duration, "duration", `how long it is good: "12h", "90d"`)
	f.BoolVar(&t.asJSON, "json", false, "print the token with its id and end in JSON")
	f.StringVarP(&t.out, "out", "o", "", "write it to this file, which only you can read and which must not be there yet")
}

// complete returns the claims of the token, good from now on.
func (t *tokenFlags) complete(cmd *cobra.Command) (auth.Claims, error) {
	claims := t.claims
	if t.duration <= 0 {
		return claims, usageError(cmd, "--duration must be positive")
	}
	known := auth.Scopes()
	for _, s := range t.scopes {
		scope := auth.Scope(s)
		if !slices.Contains(known, scope) {
			return claims, usageError(cmd, "unknown scope %q, known are %v", s, known)
		}
		claims.Scope = append(claims.Scope, scope)
	}
	if len(claims.Prefixes) == 0 && len(claims.Apps) == 0 {
		claims.Prefixes = []string{""}
	}
	claims.Expires = time.Now().Add(time.Duration(t.duration)).Unix()
	return claims, nil
}

// durationFlag is a duration as in the configuration file.
type durationFlag time.Duration

func (d *durationFlag) String() string { return config.FormatDuration(time.Duration(*d)) }
func (*durationFlag) Type() string     { return "duration" }

func (d *durationFlag) Set(s string) error {
	parsed, err := config.ParseDuration(s)
	*d = durationFlag(parsed)
	return err
}

// writeNewFile writes a file that only its owner can read. It is there whole
// or not at all, and never in the place of another.
func writeNewFile(path string, data []byte) (err error) {
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // what was written is synced below
	dir, temp, name := durable.Dir{Root: root}, durable.TempName(), filepath.Base(path)
	if err := dir.WriteFile(temp, data, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, dir.Remove(temp)) }()
	switch err := dir.Link(temp, name); {
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%s is there already: remove it, or choose another name", path)
	case err != nil:
		return fmt.Errorf("write %s: %w", path, err)
	}
	return dir.SyncDir(".")
}

func newTokenShowCommand() *cobra.Command {
	var (
		secret secretFlags
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:     "show",
		Short:   "Check a token read from standard input and print what it allows",
		Example: "  freshet token show --dir /srv/hub <token",
		RunE: func(cmd *cobra.Command, _ []string) error {
			authority, err := secret.authority(cmd)
			if err != nil {
				return err
			}
			line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
			if err != nil && line == "" {
				return fmt.Errorf("token show: read standard input: %w", err)
			}
			claims, err := authority.Parse(strings.TrimSpace(line))
			if err != nil {
				return fmt.Errorf("token show: %w", err)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), claims)
			}
			out := json.NewEncoder(cmd.OutOrStdout())
			out.SetIndent("", "  ")
			if err := out.Encode(claims); err != nil {
				return fmt.Errorf("token show: %w", err)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "good until", claims.ExpiresAt().UTC().Format(time.RFC3339))
			return err
		},
	}
	secret.register(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the claims alone, on one line")
	return cmd
}
