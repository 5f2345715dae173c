package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// adminVariable is the environment variable that says where the admin listener is of the
// role that a command talks to.
const adminVariable = "FRESHET_ADMIN"

// adminFlags say how to reach the admin listener of a role, and who asks.
type adminFlags struct {
	admin, tokenFile, ca, certificate, key string

	role          string // "edge", in words
	tokenVariable string // the environment variable with the token
}

func (a *adminFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&a.admin, "admin", "", "the "+a.role+`'s admin listener (default $`+adminVariable+` or "http://127.0.0.1:9600")`)
	f.StringVar(&a.tokenFile, "token-file", "", "file with the token (default: $"+a.tokenVariable+")")
	f.StringVar(&a.ca, "ca", "", "file with the certificates that vouch for the listener's (default: the system's)")
	f.StringVar(&a.certificate, "certificate", "", "file with a certificate to show instead of a token")
	f.StringVar(&a.key, "key", "", "file with the key of --certificate")
	cmd.MarkFlagsRequiredTogether("certificate", "key")
}

// jsonFlag says how answers are printed.
type jsonFlag struct{ asJSON bool }

func (j *jsonFlag) register(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&j.asJSON, "json", false, "print JSON")
}

// answer prints v in JSON, or as text does.
func (j *jsonFlag) answer(cmd *cobra.Command, v any, text func(io.Writer) error) error {
	if j.asJSON {
		return printJSON(cmd.OutOrStdout(), v)
	}
	return text(cmd.OutOrStdout())
}

// adminConnection is what the flags say.
type adminConnection struct {
	base, token string
	http        *http.Client
}

// connect reads what the flags name. It asks nobody yet.
func (a *adminFlags) connect(cmd *cobra.Command) (to adminConnection, err error) {
	to.base = cmp.Or(a.admin, os.Getenv(adminVariable), "http://127.0.0.1:9600")
	if !strings.Contains(to.base, "://") {
		to.base = "http://" + to.base
	}
	if !isHubURL(to.base) {
		return to, usageError(cmd, "--admin: want http://host:port, got %q", to.base)
	}
	to.token = strings.TrimSpace(os.Getenv(a.tokenVariable))
	if a.tokenFile != "" {
		b, err := os.ReadFile(a.tokenFile)
		if err != nil {
			return to, fmt.Errorf("read token: %w", err)
		}
		if to.token = strings.TrimSpace(string(b)); to.token == "" {
			return to, fmt.Errorf("no token: %s is empty", a.tokenFile)
		}
		if err := oneWord(to.token); err != nil {
			return to, fmt.Errorf("no token: %s %w", a.tokenFile, err)
		}
	}
	if to.token == "" && a.certificate == "" {
		return to, usageError(cmd, "no token: give --token-file or set %s", a.tokenVariable)
	}
	to.http, err = adminClient(a.ca, a.certificate, a.key)
	return to, err
}

// atAdmin adds to an error of a command that talks to an admin listener what to do when
// nobody listens there.
func (a *adminFlags) atAdmin(err error) error { return atAdmin(a.role, err) }

// atAdmin is [adminFlags.atAdmin] for a role.
func atAdmin(role string, err error) error {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%w: no %s has its admin listener there: start it with --admin, or say by --admin or %s where it is", err, role, adminVariable)
	}
	return err
}

// adminClient is a client for an admin listener, which may speak TLS. The names
// are of files, each empty if there is none; key belongs to certificate.
func adminClient(ca, certificate, key string) (*http.Client, error) {
	if ca == "" && certificate == "" {
		return http.DefaultClient, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS13}
	if ca != "" {
		text, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("read --ca: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--ca: %s has no certificate in PEM", ca)
		}
	}
	if certificate != "" {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			return nil, fmt.Errorf("--certificate: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: cfg}}, nil
}

// printToken prints what the configuration of a role has of a client's token, and writes
// the token to the file, or to the standard error if that is empty.
func printToken(cmd *cobra.Command, role, client, token, hash string, allow []string, file string) error {
	if file != "" {
		if err := writeNewFile(file, []byte(token+"\n")); err != nil {
			return fmt.Errorf("%s token: %w", role, err)
		}
	}
	if strings.ContainsAny(client, ".@") {
		client = `"` + client + `"`
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "\n[%s.control.clients.%s]\ntoken = %q\nallow = [\"%s\"]\n", role, client, hash, strings.Join(allow, `", "`))
	if err == nil && file == "" { // not into the file of the configuration, which has its hash
		_, err = fmt.Fprintf(cmd.ErrOrStderr(), "the token, which is shown this once: %s\n", token)
	}
	return err
}
