package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"freshet/api/mirrorapi"
	"freshet/internal/pause"
)

func newMirrorTriggerCommand() *cobra.Command {
	var (
		key    string
		spread time.Duration
		retry  time.Duration
	)
	cmd := &cobra.Command{
		Use:   "trigger PROJECT URL...",
		Short: "Tell mirrors that there is something new upstream",
		Long: `Trigger tells mirrors, by their public URLs, that a project has something new,
signed with a key that their configuration knows ("freshet mirror trigger-key"
makes one). A mirror keeps it over a restart, and what comes while it syncs
becomes one more sync. Sent twice, or overheard and sent by others, it does
nothing.

It needs no mirror and no configuration here: call it from whatever tells today
of a publish, such as a hook, a forced command of ssh or a subscriber of MQTT.`,
		Example: `  freshet mirror trigger epel https://mirror1.example https://mirror2.example --key master.key
  freshet mirror trigger epel https://mirror1.example --key master.key --spread 5m --retry 10m`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if key == "" {
				return usageError(cmd, "--key is needed: the file with the private key")
			}
			private, err := mirrorapi.ReadTriggerKey(key)
			if err != nil {
				return err
			}
			trigger := mirrorapi.Trigger{Project: args[0], Sent: time.Now().UTC(), Spread: int(spread / time.Second)}
			var failed error
			for _, base := range args[1:] {
				failed = errors.Join(failed, sendTrigger(cmd, base, trigger, private, retry))
			}
			return failed
		},
	}
	f := cmd.Flags()
	f.StringVar(&key, "key", "", "`file` with the private key")
	f.DurationVar(&spread, "spread", 0, "time within which each mirror begins at a moment of its own, up to 1h")
	f.DurationVar(&retry, "retry", 0, "for how long to try again to reach a mirror")
	return cmd
}

// sendTrigger tells one mirror.
func sendTrigger(cmd *cobra.Command, base string, t mirrorapi.Trigger, key ed25519.PrivateKey, retry time.Duration) error {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return usageError(cmd, "want the URL of a mirror, https://host, got %q", base)
	}
	client := mirrorapi.Client{Base: base, HTTP: &http.Client{Timeout: time.Minute}}
	deadline := time.Now().Add(retry)
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		answer, err := client.SignTrigger(cmd.Context(), t, key)
		if err == nil {
			state := string(answer.State)
			if answer.Known {
				state = "knows it already"
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", base, state)
			return err
		}
		if refused, ok := errors.AsType[*mirrorapi.Error](err); ok && refused.Status < http.StatusInternalServerError || time.Now().Add(wait).After(deadline) {
			return fmt.Errorf("mirror trigger: %s: %w", base, err)
		}
		if !pause.For(cmd.Context(), wait) {
			return context.Cause(cmd.Context())
		}
	}
}

func newMirrorTriggerKeyCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "trigger-key NAME",
		Short: "Make a key that signs triggers",
		Long: `Trigger-key makes an Ed25519 key. It writes the private one to the file --out, in
PEM, and prints the line that goes into the list "triggers" of the projects that
whoever has the key may trigger.`,
		Example: "  freshet mirror trigger-key master --out master.key",
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return usageError(cmd, "--out is needed: the file for the private key")
			}
			public, private, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				return err
			}
			line := mirrorapi.TriggerKey{Name: args[0], Public: public}.String()
			if _, err := mirrorapi.ParseTriggerKey(line); err != nil {
				return usageError(cmd, "%w", err)
			}
			der, err := x509.MarshalPKCS8PrivateKey(private)
			if err != nil {
				return err
			}
			if err := writeNewFile(out, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "triggers = [%q]\n", line)
			return err
		},
	}
	cmd.Flags().StringVarP(&out, "out", "o", "", "`file` for the private key, which must not be there yet")
	return cmd
}
