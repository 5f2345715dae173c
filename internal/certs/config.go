package certs

import (
	"crypto/tls"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"freshet/internal/config"
)

// Config is the table tls of a role.
type Config struct {
	// Min is the oldest version of TLS that is spoken: "1.3" or "1.2".
	// Default "1.3".
	Min string `toml:"min"`

	// Certificates are pairs of files. Which of them a client gets is decided by
	// the names in them; who asks for no name, or one that none has, gets the
	// first. They are read anew within seconds when they change, and on SIGHUP.
	// A pair that cannot be used leaves the one before it in place.
	Certificates []Pair `toml:"certificates"`

	// ACME gets certificates by itself, from Let's Encrypt for instance.
	ACME ACME `toml:"acme"`
}

// Pair is one of the tables tls.certificates.
type Pair struct {
	// Cert is a PEM file with the certificate and those between it and the root.
	Cert string `toml:"cert"`
	// Key is a PEM file with its private key.
	Key string `toml:"key"`
}

// ACME is the table tls.acme. Setting Dir turns it on. The authority
// checks by HTTP on port 80 (challenge http-01, on the listeners without TLS)
// or by TLS on port 443 (tls-alpn-01).
type ACME struct {
	// Dir is a folder for the account, keys and certificates. It is made with
	// mode 0700, and is worth a backup: authorities bound how often one may ask
	// anew. It may be shared by all that answer for the same names. Who
	// sets it agrees to the terms of the authority. Default: ACME is off.
	Dir string `toml:"dir"`

	// Directory is the URL of the authority.
	// Default "https://acme-v02.api.letsencrypt.org/directory".
	Directory string `toml:"directory"`

	// Email is where the authority writes to about the account. Default: none.
	Email string `toml:"email"`

	// Hosts are the names to get certificates for. No other name is ever asked
	// for. Default: the host names of all sites, where there are sites; they are
	// required otherwise.
	Hosts []string `toml:"hosts"`

	// CAFile is a PEM file with the roots that the authority's own TLS is
	// checked with. Default: those of the system.
	CAFile string `toml:"ca-file"`
}

const (
	defaultMin       = "1.3"
	defaultDirectory = "https://acme-v02.api.letsencrypt.org/directory"
)

// WithDefaults returns c with every setting left zero replaced by its default.
func (c Config) WithDefaults() Config {
	if c.Min == "" {
		c.Min = defaultMin
	}
	if c.ACME.Directory == "" {
		c.ACME.Directory = defaultDirectory
	}
	return c
}

// Any reports whether there is a way to any certificate.
func (c Config) Any() bool { return len(c.Certificates) > 0 || c.ACME.Dir != "" }

// Secrets are the files and folders that nobody else may read.
func (c Config) Secrets() []string {
	secrets := []string{c.ACME.Dir}
	for _, pair := range c.Certificates {
		secrets = append(secrets, pair.Key)
	}
	return slices.DeleteFunc(secrets, func(path string) bool { return path == "" })
}

// Validate reports what is wrong; see [config.Validator].
func (c Config) Validate() []config.Problem {
	var problems []config.Problem
	problem := func(key, format string, args ...any) {
		problems = append(problems, config.Problem{Key: key, Message: fmt.Sprintf(format, args...)})
	}
	if c.Min != "" && minVersion(c.Min) == 0 {
		problem("min", `want "1.3" or "1.2", got %q`, c.Min)
	}
	for i, pair := range c.Certificates {
		if pair.Cert == "" || pair.Key == "" {
			problem(fmt.Sprintf("certificates[%d]", i), "needs cert and key, two files")
		}
	}
	if d := c.ACME.Directory; d != "" {
		if u, err := url.Parse(d); err != nil || u.Scheme != "https" || u.Host == "" {
			problem("acme.directory", "%q is no URL: want https:// and a host", d)
		}
	}
	for i, host := range c.ACME.Hosts {
		if host == "" || host != strings.ToLower(host) || strings.ContainsAny(host, "/: \t*") {
			problem(fmt.Sprintf("acme.hosts[%d]", i), "%q is no host name: want lower case, without port", host)
		}
	}
	if c.ACME.Dir == "" && (len(c.ACME.Hosts) > 0 || c.ACME.Email != "" || c.ACME.CAFile != "") {
		problems = append(problems, config.Missing("acme.dir", "the folder for the account, keys and certificates"))
	}
	return problems
}

// CheckFiles looks for the files that are named; see [config.FileChecker].
func (c Config) CheckFiles() []config.Problem {
	var problems []config.Problem
	look := func(key, file string) {
		if file == "" {
			return
		}
		if f, err := os.Open(filepath.Clean(file)); err != nil {
			problems = append(problems, config.Problem{Key: key, Message: err.Error()})
		} else {
			_ = f.Close() // it was not written to
		}
	}
	for i, pair := range c.Certificates {
		look(fmt.Sprintf("certificates[%d].cert", i), pair.Cert)
		look(fmt.Sprintf("certificates[%d].key", i), pair.Key)
	}
	look("acme.ca-file", c.ACME.CAFile)
	return problems
}

func minVersion(s string) uint16 {
	switch s {
	case "1.2":
		return tls.VersionTLS12
	case defaultMin:
		return tls.VersionTLS13
	}
	return 0
}
