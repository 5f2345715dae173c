package hub

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"freshet/internal/config"
	"freshet/internal/sign"
	"freshet/internal/sign/token"
)

// KeyConfig is a table [hub.keys.NAME], an OpenPGP key. gpg-keys names it by
// NAME. Without agent and pkcs11 the secret part is in the file.
type KeyConfig struct {
	// File holds the key: with its secret part, or, where that is in an agent or
	// a token, the public key alone (gpg --export). Required.
	File string `toml:"file"`

	// PassphraseFile is a file whose first line is the passphrase of the key in
	// File, or the PIN of the token. An agent asks for it by itself.
	PassphraseFile string `toml:"passphrase-file"`

	// Fingerprint is that of the key, 40 hexadecimal digits. With another one
	// the hub does not start. Default: all keys in File.
	Fingerprint string `toml:"fingerprint"`

	// Agent is the socket of the gpg-agent that keeps the secret part, in its own
	// store or on an OpenPGP card such as a YubiKey: what
	// "gpgconf --list-dirs agent-extra-socket" prints for the hub's user.
	Agent string `toml:"agent"`

	// PKCS11 is the URI of the secret key in a PKCS #11 token (RFC 7512), as
	// "freshet-pkcs11 list" prints it:
	// "pkcs11:token=Releases;object=stable?module-path=/usr/lib/softhsm/libsofthsm2.so".
	PKCS11 string `toml:"pkcs11"`

	// PKCS11Helper is the program that loads the token's library. Default:
	// "freshet-pkcs11" beside freshet or in PATH.
	PKCS11Helper string `toml:"pkcs11-helper"`

	// Timeout is how long an agent or a token may take for a signature, with
	// the time in which somebody enters a PIN. Default "30s".
	Timeout time.Duration `toml:"timeout"`
}

// keyFile is the key for package sign.
func (c *KeyConfig) keyFile() sign.KeyFile {
	return sign.KeyFile{
		Path: c.File, Passphrase: c.PassphraseFile, Fingerprint: c.Fingerprint,
		Agent: c.Agent, PKCS11: c.PKCS11, Helper: c.PKCS11Helper, Timeout: c.Timeout,
	}
}

// keyFile is what an entry of gpg-keys means: a table of keys, or else a file.
func (c *Config) keyFile(entry string) sign.KeyFile {
	if key, named := c.Keys[entry]; named {
		return key.keyFile()
	}
	return sign.KeyFile{Path: entry}
}

var (
	keyNamePattern     = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)
	fingerprintPattern = regexp.MustCompile(`^[0-9A-Fa-f]{40}$`)
)

func (v *validation) key(name string, key KeyConfig) {
	at := "keys." + name
	if !keyNamePattern.MatchString(name) {
		v.problem(at, `%q is no name: want up to 64 of a-z, 0-9, "_" and "-", beginning with a letter or digit`, name)
	}
	if key.File == "" {
		v.problems = append(v.problems, config.Missing(at+".file", "the file with the key, or its public part"))
	}
	if key.Fingerprint != "" && !fingerprintPattern.MatchString(key.Fingerprint) {
		v.problem(at+".fingerprint", "want 40 hexadecimal digits, as gpg --fingerprint shows them, without spaces")
	}
	if key.Agent != "" && key.PKCS11 != "" {
		v.problem(at+".pkcs11", "the secret part is in the agent or in the token: want one of agent and pkcs11")
	}
	if key.Agent != "" && !filepath.IsAbs(key.Agent) {
		v.problem(at+".agent", `%q is no absolute path: "gpgconf --list-dirs agent-extra-socket" prints it`, key.Agent)
	}
	if key.Agent != "" && key.PassphraseFile != "" {
		v.problem(at+".passphrase-file", "the agent asks for the passphrase or PIN by itself")
	}
	if key.PKCS11 != "" {
		if _, err := token.ParseURI(key.PKCS11); err != nil {
			v.problem(at+".pkcs11", "%v", err)
		}
	} else if key.PKCS11Helper != "" {
		v.problem(at+".pkcs11-helper", "is of use with pkcs11 only")
	}
	v.notNegative(at+".timeout", int64(key.Timeout))
}

// keysReadable reports files of keys that cannot be read.
func (v *validation) keysReadable(c Config) {
	for _, name := range slices.Sorted(maps.Keys(c.Keys)) {
		v.readable("keys."+name+".file", c.Keys[name].File)
		v.readable("keys."+name+".passphrase-file", c.Keys[name].PassphraseFile)
	}
}

// entriesReadable does the same for entries of gpg-keys that are files.
func (v *validation) entriesReadable(at string, entries []string, c Config) {
	for i, entry := range entries {
		if _, named := c.Keys[entry]; !named {
			v.readable(fmt.Sprintf("%s[%d]", at, i), entry)
		}
	}
}

// keyrings are the keys of a hub, each opened once.
type keyrings struct {
	cfg  *Config
	open map[string]*sign.Keyring // by entry
}

func newKeyrings(cfg *Config) *keyrings {
	return &keyrings{cfg: cfg, open: make(map[string]*sign.Keyring)}
}

// Close leaves agents and tokens alone again.
func (k *keyrings) Close() error {
	var errs []error
	for _, ring := range k.open {
		errs = append(errs, ring.Close())
	}
	return errors.Join(errs...)
}

// of returns a signer with the keys of the entries; none give no signer.
func (k *keyrings) of(entries []string) (sign.Signer, error) {
	if len(entries) == 0 {
		return nil, nil //nolint:nilnil // no keys, no signer
	}
	rings := make([]*sign.Keyring, len(entries))
	for i, entry := range entries {
		ring, opened := k.open[entry]
		if !opened {
			var err error
			if ring, err = sign.Open(k.cfg.keyFile(entry)); err != nil {
				return nil, fmt.Errorf("key %s: %w", entry, err)
			}
			k.open[entry] = ring
		}
		rings[i] = ring
	}
	return sign.Join(rings...), nil
}

// isRemote tells whether an agent or a token has to be there for a signature.
func isRemote(signer sign.Signer) bool {
	ring, ok := signer.(*sign.Keyring)
	return ok && ring.Remote()
}

// buildsName stands for all builds where else the name of a repository stands.
const buildsName = "(builds)"

// keysOf returns the keys with which a repository is signed, or [buildsName].
func (c *Config) keysOf(repo string) []string {
	own := c.Repos[repo].GPGKeys
	switch {
	case repo == buildsName:
		return c.BuildGPGKeys
	case len(own) > 0:
		return own
	case len(c.GPGKeys) > 0:
		return c.GPGKeys
	}
	return []string{filepath.Join(c.Dir, signingKey)}
}

// ed25519Of opens the ed25519 keys of a repository.
func (c *Config) ed25519Of(repo string) (*sign.Ed25519, error) {
	if own := c.Repos[repo].Ed25519Keys; len(own) > 0 {
		return sign.OpenEd25519(own...)
	}
	return sign.OpenEd25519(c.Ed25519Keys...)
}

// makeKey makes the key of a hub for which none is configured.
func (s *server) makeKey() error {
	path := filepath.Join(s.cfg.Dir, signingKey)
	if _, err := os.Stat(path); len(s.cfg.GPGKeys) > 0 || !errors.Is(err, fs.ErrNotExist) {
		return nil // what else is wrong with it shows when it is opened
	}
	key, err := sign.Generate(path, keyUser)
	if err == nil {
		s.log.Info("signing key made", slog.String("file", path), slog.String("key", key.String()))
	}
	return err
}

// KeyCheck is what [CheckKeys] finds out of a key.
type KeyCheck struct {
	// Entry is how the configuration names it: a table of [hub.keys], or a file.
	Entry string `json:"entry"`
	// Signs are the repositories that it signs; "(builds)" among them stands for
	// builds before they are published.
	Signs []string `json:"signs"`
	// Key describes it; its zero value when it cannot be opened. An entry with
	// several keys has a check for each.
	Key sign.Key `json:"key"`
	// Where is "file", "agent" or "pkcs11".
	Where string `json:"where"`
	// Took is the time for a signature.
	Took time.Duration `json:"took"`
	// Problem is why it does not sign; empty when it does. Away says that it may
	// yet, without another configuration.
	Problem string `json:"problem,omitempty"`
	Away    bool   `json:"away,omitempty"`
}

// CheckKeys has every key that the configuration uses sign something and
// verifies that, as a client would. It needs no running hub and disturbs none.
func CheckKeys(ctx context.Context, cfg Config) []KeyCheck {
	cfg = cfg.WithDefaults()
	signs := make(map[string][]string)
	for _, repo := range append(slices.Sorted(maps.Keys(cfg.Repos)), buildsName) {
		for _, entry := range cfg.keysOf(repo) {
			signs[entry] = append(signs[entry], repo)
		}
	}
	for name := range cfg.Keys {
		signs[name] = append([]string{}, signs[name]...) // unused ones as well
	}
	var checks []KeyCheck
	for _, entry := range slices.Sorted(maps.Keys(signs)) {
		checks = append(checks, checkEntry(ctx, &cfg, entry, signs[entry])...)
	}
	return checks
}

func checkEntry(ctx context.Context, cfg *Config, entry string, signs []string) []KeyCheck {
	file := cfg.keyFile(entry)
	check := KeyCheck{Entry: entry, Signs: signs, Where: "file"}
	switch {
	case file.Agent != "":
		check.Where = "agent"
	case file.PKCS11 != "":
		check.Where = "pkcs11"
	}
	failed := func(err error) []KeyCheck {
		check.Problem = err.Error()
		_, check.Away = sign.Away(err)
		return []KeyCheck{check}
	}
	ring, err := sign.Open(file)
	if err != nil {
		return failed(err)
	}
	defer ring.Close() //nolint:errcheck // nothing was written
	check.Key = ring.Keys()[0]
	begun := time.Now()
	if err := sign.Probe(ctx, ring); err != nil {
		return failed(err)
	}
	check.Took = time.Since(begun)
	checks := make([]KeyCheck, 0, len(ring.Keys()))
	for _, key := range ring.Keys() {
		check.Key = key
		checks = append(checks, check)
	}
	return checks
}
