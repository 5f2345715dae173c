package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"freshet/internal/auth"
	"freshet/internal/config"
	"freshet/internal/node"
)

func newTokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "token",
		Short:   "Make and read the tokens by which a hub knows who may do what",
		GroupID: "use",
	}
	cmd.AddCommand(newTokenCreateCommand(), newTokenShowCommand())
	return cmd
}

// secretFlags say where the secret is by which tokens are signed.
type secretFlags struct{ dir, file, config, prefix string }

func (s *secretFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.dir, "dir", "", "the hub's folder (its --dir)")
	f.StringVar(&s.file, "secret-file", "", "file with the secret in base64, as flat-manager's gentoken reads it")
	f.StringVar(&s.config, "config", "", "configuration file of the hub")
	f.StringVar(&s.prefix, "token-prefix", "", "word before the token, as the hub's token-prefix")
	cmd.MarkFlagsOneRequired("dir", "secret-file", "config")
}

func (s *secretFlags) authority() (*auth.Authority, error) {
	file, prefix := s.file, s.prefix
	if s.config != "" {
		var cfg node.Config
		if err := config.Load(s.config, &cfg); err != nil {
			return nil, err
		}
		if cfg.Hub == nil {
			return nil, fmt.Errorf("%s has no table [hub]", s.config)
		}
		hub := cfg.Hub.WithDefaults()
		file, prefix = cmp.Or(file, hub.SecretFile), cmp.Or(prefix, hub.TokenPrefix)
	}
	if file == "" {
		file = filepath.Join(s.dir, "secret")
	}
	secret, err := auth.LoadSecret(file)
	if err != nil {
		return nil, err
	}
	return &auth.Authority{Secret: secret, Prefix: prefix}, nil
}

func newTokenCreateCommand() *cobra.Command {
	var (
		secret   secretFlags
		claims   auth.Claims
		scopes   []string
		duration time.Duration
	)
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a token",
		Long: `Make a token and print it.

The claims and their defaults are those of flat-manager's gentoken: scopes
build, upload, publish, download and jobs, for all applications and all
repositories, for one year. Give a token as little as it needs.`,
		Example: `  # for the CI of one vendor: its own apps, only into beta, for 90 days
  freshet token create --dir /srv/hub --name acme-ci --prefix com.acme --repo beta --duration 2160h

  # for pushing one plain tree
  freshet token create --dir /srv/hub --name rpm-ci --scope upload --scope publish --repo fedora-extras`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			authority, err := secret.authority()
			if err != nil {
				return err
			}
			if duration <= 0 {
				return errors.New("token create: --duration must be positive")
			}
			known := auth.Scopes()
			for _, s := range scopes {
				scope := auth.Scope(s)
				if !slices.Contains(known, scope) {
					return fmt.Errorf("token create: unknown scope %q, known are %v", s, known)
				}
				claims.Scope = append(claims.Scope, scope)
			}
			if len(claims.Prefixes) == 0 && len(claims.Apps) == 0 {
				claims.Prefixes = []string{""}
			}
			claims.Expires = time.Now().Add(duration).Unix()
			token, err := authority.Issue(claims)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
			return err
		},
	}
	secret.register(cmd)
	f := cmd.Flags()
	f.StringVar(&claims.Name, "name", "", "for whom the token is; it stands in logs")
	f.StringVar(&claims.Sub, "sub", "build", `what it is about: "build", "build/N", or "" for managing tokens`)
	f.StringSliceVar(&scopes, "scope", []string{"build", "upload", "publish", "download", "jobs"}, "what it allows (repeatable)")
	f.StringSliceVar(&claims.Prefixes, "prefix", nil, "ids it allows, org.a allows org.a and org.a.* (repeatable); default: all")
	f.StringSliceVar(&claims.Apps, "app", nil, "exact ids it allows (repeatable)")
	f.StringSliceVar(&claims.Repos, "repo", []string{""}, "repositories and trees it allows (repeatable); default: all")
	f.StringSliceVar(&claims.Branches, "branch", []string{"stable"}, "carried in the token, not enforced")
	f.StringVar(&claims.TokenType, "token-type", "app", "carried in the token, not enforced")
	f.StringVar(&claims.ID, "jti", "", "id by which the token can be revoked")
	f.DurationVar(&duration, "duration", 365*24*time.Hour, "how long it is good")
	return cmd
}

func newTokenShowCommand() *cobra.Command {
	var secret secretFlags
	cmd := &cobra.Command{
		Use:     "show",
		Short:   "Check a token read from standard input and print what it allows",
		Example: "  freshet token show --dir /srv/hub <token",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			authority, err := secret.authority()
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
	return cmd
}
