//go:build cgo

// Freshet-pkcs11 speaks with PKCS #11 tokens for the hub, which starts it. It
// is a program of its own because a token's library is foreign C code: what that
// breaks, it breaks here.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cmd := newCommand()
	if err := cmd.ExecuteContext(ctx); err != nil {
		_, _ = fmt.Fprintf(os.Stderr, "freshet-pkcs11: %v\n", err) // there is no other place to tell
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "freshet-pkcs11",
		Short: "Signs with a PKCS #11 token for a Freshet hub",
		Long: `Freshet-pkcs11 loads the library of a PKCS #11 token and signs with a key in it.

A hub starts it by itself for each key of [hub.keys] that has a pkcs11 URI, and
speaks with it through standard input and output, one line of JSON for each
request. Install it beside freshet or in PATH. It reads no files and asks
nobody: the hub tells it the URI and the PIN. When its input ends it logs out
and ends.

Without a hub it lists what a library offers, with the URIs to configure.`,
		Example: `  freshet-pkcs11 list /usr/lib/softhsm/libsofthsm2.so
  PIN=… freshet-pkcs11 list --pin-variable PIN /usr/lib/x86_64-linux-gnu/opensc-pkcs11.so`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if info, err := os.Stdin.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
				return cmd.Help()
			}
			return serve(os.Stdin, os.Stdout)
		},
	}
	cmd.CompletionOptions.DisableDefaultCmd = true
	cmd.AddCommand(newListCommand())
	return cmd
}

func newListCommand() *cobra.Command {
	var variable string
	cmd := &cobra.Command{
		Use:   "list MODULE.so",
		Short: "List the keys that a library offers, with their URIs",
		Long: `List loads a PKCS #11 library and prints the URI of each secret key that can
sign, as it goes into pkcs11 of a table [hub.keys.NAME]. Without a PIN many
tokens show only the public parts of their keys; these are listed too.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			module, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			return list(cmd.OutOrStdout(), module, os.Getenv(variable))
		},
	}
	cmd.Flags().StringVar(&variable, "pin-variable", "", "environment variable with the PIN (default: no login)")
	return cmd
}

// list prints the keys of all tokens.
func list(out io.Writer, path, pin string) error {
	lib, err := load(path)
	if err != nil {
		return err
	}
	defer lib.close()
	slots, err := lib.GetSlotList(true)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	found := 0
	var errs []error
	for _, slot := range slots {
		uris, err := lib.keys(slot, path, pin)
		if err != nil {
			errs = append(errs, fmt.Errorf("slot %d: %w", slot, err))
		}
		for _, uri := range uris {
			found++
			if _, err := fmt.Fprintln(out, uri); err != nil {
				return err
			}
		}
	}
	if found == 0 && len(errs) == 0 {
		return fmt.Errorf("%s offers no keys in %d tokens; some show them only after a login (--pin-variable)", path, len(slots))
	}
	return errors.Join(errs...)
}
