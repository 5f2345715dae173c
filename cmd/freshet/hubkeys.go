package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"freshet/internal/config"
	"freshet/internal/hub"
	"freshet/internal/node"
	"freshet/internal/sign"
)

// errKeys ends "hub keys" when a key does not sign.
var errKeys = errors.New("not every key signs")

func newHubKeysCommand() *cobra.Command {
	var (
		file   string
		set    hub.Config
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Try every signing key of a hub",
		Long: `Keys has each OpenPGP key that a hub is configured with sign something, verifies
the signature as a client would, and tells where the key is and which
repositories it signs. It fails when one does not sign: its agent does not run,
its token is not plugged in, nobody has entered the PIN, or it is another key
than the one that is meant.

It reads the hub's configuration and needs no running hub; --gpg-key alone tries
single files. A hub that was started with --gpg-key uses those keys, and not the
one that it made in --dir: give them here, too. Run it as the hub's user: an agent
belongs to its user, and so do files with PINs.`,
		Example: `  freshet hub keys --config /etc/freshet.toml
  freshet hub keys --gpg-key stable.asc
  sudo -u freshet freshet hub keys --config /etc/freshet.toml --json | jq '.[] | select(.problem)'`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" && len(set.GPGKeys) > 0 {
				set.Dir = cmp.Or(set.Dir, ".") // nothing in it is asked for
			}
			cfg, err := hubConfig(cmd, file, set)
			if err != nil {
				return err
			}
			checks := hub.CheckKeys(cmd.Context(), *cfg)
			if asJSON {
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(checks)
			} else {
				err = printKeys(cmd, checks)
			}
			for _, check := range checks {
				if check.Problem != "" {
					return errors.Join(err, errKeys)
				}
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVarP(&file, "config", "c", "", "configuration file of the hub")
	f.StringVar(&set.Dir, "dir", "", "the hub's folder, when it has no configuration file")
	f.StringSliceVar(&set.GPGKeys, "gpg-key", nil, "file with an OpenPGP secret key, as the hub's --gpg-key (repeatable)")
	f.BoolVar(&asJSON, "json", false, "print a list of objects")
	cmd.AddCommand(newHubKeysNewCommand(), newHubKeysCertifyCommand())
	return cmd
}

// hubConfig reads the table [hub].
func hubConfig(cmd *cobra.Command, file string, set hub.Config) (*hub.Config, error) {
	var cfg node.Config
	var read *config.File
	if file != "" {
		var err error
		if read, err = config.Read(file, &cfg); err != nil {
			return nil, err
		}
	}
	if cfg.Hub == nil {
		cfg.Hub = new(hub.Config)
	}
	override(&cfg.Hub.Dir, set.Dir)
	if len(set.GPGKeys) > 0 {
		cfg.Hub.GPGKeys = set.GPGKeys
	}
	if cfg.Hub.Dir == "" && file == "" {
		return nil, usageError(cmd, "one of --config and --dir is needed, to know the hub")
	}
	return cfg.Hub, read.Check(cfg)
}

func printKeys(cmd *cobra.Command, checks []hub.KeyCheck) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(w, "KEY\tWHERE\tFINGERPRINT\tALGORITHM\tSIGNS\tRESULT\n") // Flush tells
	for _, check := range checks {
		result := fmt.Sprintf("signs, in %v", check.Took.Round(time.Millisecond/10))
		switch {
		case check.Away:
			result = "away: " + check.Problem
		case check.Problem != "":
			result = "fails: " + check.Problem
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", check.Entry, check.Where, orDash(check.Key.Fingerprint), orDash(check.Key.Algorithm),
			orDash(strings.Join(check.Signs, ", ")), printable(result))
	}
	return w.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// madeKey is what the commands that make a key print with --json.
type madeKey struct {
	File        string     `json:"file"`
	Algorithm   string     `json:"algorithm"`
	Fingerprint string     `json:"fingerprint,omitempty"` // of OpenPGP keys
	Public      string     `json:"public,omitempty"`      // ed25519: the public key in base64
	Created     *time.Time `json:"created,omitempty"`
}

func newHubKeysNewCommand() *cobra.Command {
	var (
		user, out string
		ed25519   bool
		asJSON    bool
	)
	cmd := &cobra.Command{
		Use:   "new",
		Short: "Make a signing key in a file",
		Long: `New makes a key without a passphrase in a new file that only you can read: an
OpenPGP key for gpg-keys, or with --ed25519 one for ed25519-keys, of which it
prints the public part, as ostree's verification-ed25519-key takes it.`,
		Example: `  freshet hub keys new --user-id 'Example Releases <releases@example.org>' --out /etc/freshet/2027.asc
  freshet hub keys new --ed25519 --out /etc/freshet/2027.ed25519`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" || ed25519 == (user != "") {
				return usageError(cmd, "--out and either --user-id or --ed25519 are needed")
			}
			if ed25519 {
				public, err := sign.GenerateEd25519(out)
				if err == nil && asJSON {
					return printJSON(cmd.OutOrStdout(), madeKey{File: out, Algorithm: "ed25519", Public: public})
				}
				if err == nil {
					_, err = fmt.Fprintln(cmd.OutOrStdout(), public)
				}
				return err
			}
			key, err := sign.Generate(out, user)
			if err == nil && asJSON {
				return printJSON(cmd.OutOrStdout(), madeKey{File: out, Algorithm: key.Algorithm, Fingerprint: key.Fingerprint})
			}
			if err == nil {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s %s\n", out, key.Algorithm, key.Fingerprint)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&user, "user-id", "", `"Name <address>", which clients show`)
	f.BoolVar(&ed25519, "ed25519", false, "a key for ostree's own signatures")
	f.StringVar(&out, "out", "", "new file for the key")
	f.BoolVar(&asJSON, "json", false, "print what was made in JSON")
	return cmd
}

func newHubKeysCertifyCommand() *cobra.Command {
	var (
		key                sign.KeyFile
		user, out, created string
		asJSON             bool
	)
	cmd := &cobra.Command{
		Use:   "certify",
		Short: "Make the OpenPGP public key of a key in a PKCS #11 token",
		Long: `Certify asks a PKCS #11 token for a public key, binds a user id and a time to it,
has the token sign that, and writes the result to a new file: the public key
for file in [hub.keys.NAME], and for clients.

Do it once for each key and keep the file: the time is part of the fingerprint,
so that certifying again makes another key for clients (--created with the
time of the first makes the same).`,
		Example: `  freshet-pkcs11 list /usr/lib/softhsm/libsofthsm2.so
  freshet hub keys certify --pkcs11 'pkcs11:token=Releases;object=stable?module-path=/usr/lib/softhsm/libsofthsm2.so' \
    --passphrase-file /etc/freshet/pin --user-id 'Example Releases <releases@example.org>' --out /etc/freshet/stable.asc`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case key.PKCS11 == "":
				return usageError(cmd, `--pkcs11 wants the URI of a key: "freshet-pkcs11 list MODULE.so" prints them`)
			case user == "" || out == "":
				return usageError(cmd, "--user-id and --out are needed")
			}
			made, err := certify(cmd, key, user, out, created)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), made)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s %s, made %s\n", out, made.Algorithm, made.Fingerprint, made.Created.Format(time.RFC3339))
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&key.PKCS11, "pkcs11", "", "URI of the key (RFC 7512)")
	f.StringVar(&key.Helper, "pkcs11-helper", "", `program that loads the token's library (default "freshet-pkcs11")`)
	f.StringVar(&key.Passphrase, "passphrase-file", "", "file whose first line is the PIN")
	f.StringVar(&user, "user-id", "", `"Name <address>", which clients show`)
	f.StringVar(&created, "created", "", "time of creation, such as 2026-01-02T03:04:05Z (default: now)")
	f.StringVar(&out, "out", "", "new file for the public key")
	f.BoolVar(&asJSON, "json", false, "print what was made in JSON")
	return cmd
}

func certify(cmd *cobra.Command, key sign.KeyFile, user, out, created string) (madeKey, error) {
	// A second in the past, for clients whose clock is slightly behind.
	at := time.Now().Add(-time.Second).Truncate(time.Second)
	if created != "" {
		var err error
		if at, err = time.Parse(time.RFC3339, created); err != nil {
			return madeKey{}, usageError(cmd, "--created: %w", err)
		}
	}
	made, certificate, err := sign.Certify(cmd.Context(), key, user, at)
	if err != nil {
		return madeKey{}, err
	}
	text, err := sign.Armor(certificate)
	if err != nil {
		return madeKey{}, err
	}
	if err := writeNewFile(out, text); err != nil {
		return madeKey{}, fmt.Errorf("keys certify: %w", err)
	}
	at = at.UTC()
	return madeKey{File: out, Algorithm: made.Algorithm, Fingerprint: made.Fingerprint, Created: &at}, nil
}
