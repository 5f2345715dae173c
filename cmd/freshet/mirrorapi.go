package main

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"freshet/api/mirrorapi"
	"freshet/internal/control"
	"freshet/internal/mirror"
)

// mirrorTokenVariable is the environment variable with the token for a mirror.
const mirrorTokenVariable = "FRESHET_MIRROR_TOKEN" //nolint:gosec // G101: the name of a variable, not a secret

// mirrorClientPrefix begins the tokens of a mirror's clients.
const mirrorClientPrefix = "fw_"

// mirrorFlags say how to reach the admin listener of a mirror.
type mirrorFlags struct {
	adminFlags
	jsonFlag
}

func (m *mirrorFlags) register(cmd *cobra.Command) {
	m.role, m.tokenVariable = "mirror", mirrorTokenVariable
	m.adminFlags.register(cmd)
	m.jsonFlag.register(cmd)
}

func (m *mirrorFlags) client(cmd *cobra.Command) (*mirrorapi.Client, error) {
	to, err := m.connect(cmd)
	return &mirrorapi.Client{Base: to.base, Token: to.token, HTTP: to.http}, err
}

// answers reports whether somebody listens where the admin listener is said to be.
func (m *mirrorFlags) answers(cmd *cobra.Command) bool {
	to, _ := m.connect(cmd) // without a token, too
	u, err := url.Parse(to.base)
	if err != nil {
		return false
	}
	dialer := net.Dialer{Timeout: 5 * time.Second}
	conn, err := dialer.DialContext(cmd.Context(), "tcp", net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), u.Scheme)))
	if err != nil {
		return false
	}
	_ = conn.Close() // nothing was sent
	return true
}

// failed is the error of a request.
func (m *mirrorFlags) failed(cmd *cobra.Command, err error) error {
	return fmt.Errorf("mirror %s: %w", cmd.Name(), m.atAdmin(err))
}

// ask asks a mirror, and prints what it answers in JSON, or as text does.
func ask[T any](cmd *cobra.Command, flags *mirrorFlags, question func(*mirrorapi.Client) (T, error), text func(io.Writer, T) error) error {
	client, err := flags.client(cmd)
	if err != nil {
		return err
	}
	answer, err := question(client)
	if err != nil {
		return flags.failed(cmd, err)
	}
	return flags.answer(cmd, answer, func(out io.Writer) error { return text(out, answer) })
}

func newMirrorTokensCommand() *cobra.Command {
	var (
		out   string
		allow []string
	)
	cmd := &cobra.Command{
		Use:   "token NAME",
		Short: "Make a token with which a client may order something of a mirror",
		Long: `Token makes a random token and prints what goes into the mirror's
configuration, which holds its hash only. The token itself is written to the
file --out, or shown (on standard error).`,
		Example: `  freshet mirror token ops --out ops.token >>mirror.toml
  freshet mirror token dashboard --allow read >>mirror.toml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			token, hash := control.NewToken(mirrorClientPrefix)
			cfg := mirror.ControlConfig{Clients: map[string]mirror.ClientConfig{args[0]: {Token: hash, Allow: allow}}}
			if problems := cfg.Validate(); len(problems) > 0 {
				return usageError(cmd, "%s", problems[0].Message)
			}
			return printToken(cmd, "mirror", args[0], token, hash, allow, out)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&out, "out", "o", "", "write the token to this file, which only you can read and which must not be there yet")
	f.StringSliceVar(&allow, "allow", []string{mirrorapi.RightRead, mirrorapi.RightSync, mirrorapi.RightWrite}, "what the client may do: read, sync, write")
	return cmd
}
