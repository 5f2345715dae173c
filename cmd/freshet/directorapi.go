package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"freshet/api/directorapi"
	"freshet/internal/director/catalogue"
)

// directorTokenVariable is the environment variable with the token for a director.
const directorTokenVariable = "FRESHET_DIRECTOR_TOKEN"

// Tokens of a director's clients, and those of mirrors, begin so.
const (
	directorTokenPrefix = "fd_"
	mirrorTokenPrefix   = "fm_"
)

// directorFlags say how to reach the admin listener of a director.
type directorFlags struct {
	adminFlags
	jsonFlag
}

func (d *directorFlags) register(cmd *cobra.Command) {
	d.role, d.tokenVariable = "director", directorTokenVariable
	d.adminFlags.register(cmd)
	d.jsonFlag.register(cmd)
}

func (d *directorFlags) client(cmd *cobra.Command) (*directorapi.Client, error) {
	to, err := d.connect(cmd)
	return &directorapi.Client{Base: to.base, Token: to.token, HTTP: to.http}, err
}

// catalogueBackend is a director, or a file with a catalogue.
type catalogueBackend interface {
	Catalogue(ctx context.Context) (*directorapi.Catalogue, error)
	Item(ctx context.Context, items directorapi.Items, name string, into any) (etag string, err error)
	Put(ctx context.Context, items directorapi.Items, name string, item any, opt directorapi.EditOptions) (directorapi.Change, error)
	Remove(ctx context.Context, items directorapi.Items, name string, opt directorapi.EditOptions) (directorapi.Change, error)
	Replace(ctx context.Context, next *directorapi.Catalogue, opt directorapi.EditOptions) (directorapi.Change, error)
}

// catalogueFlags say which catalogue a command is about.
type catalogueFlags struct {
	directorFlags
	file string
}

func (c *catalogueFlags) register(cmd *cobra.Command) {
	c.directorFlags.register(cmd)
	cmd.Flags().StringVar(&c.file, "catalogue", "", "`file` with a catalogue, instead of a running director")
	cmd.MarkFlagsMutuallyExclusive("catalogue", "admin")
}

func (c *catalogueFlags) backend(cmd *cobra.Command) (catalogueBackend, error) {
	if c.file != "" {
		return catalogue.File{Name: c.file}, nil
	}
	return c.client(cmd)
}

// editFlags are those of commands that change a catalogue.
type editFlags struct {
	catalogueFlags
	dryRun bool
	note   string
}

func (e *editFlags) register(cmd *cobra.Command) {
	e.catalogueFlags.register(cmd)
	f := cmd.Flags()
	f.BoolVar(&e.dryRun, "dry-run", false, "change nothing, print what would change")
	f.StringVar(&e.note, "note", "", "why, for the history")
}

func (e *editFlags) options() directorapi.EditOptions {
	return directorapi.EditOptions{DryRun: e.dryRun, Note: e.note}
}

// editTries is how often a change is made of what others have just changed.
const editTries = 5

// modify reads an item, changes it, and puts it back, unless somebody was faster: then it
// begins again.
func modify[T any](cmd *cobra.Command, e *editFlags, items directorapi.Items, name string, change func(*T) error) error {
	backend, err := e.backend(cmd)
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		var item T
		opt := e.options()
		if opt.IfMatch, err = backend.Item(cmd.Context(), items, name, &item); err != nil {
			return e.failed(cmd, err)
		}
		if err := change(&item); err != nil {
			return usageError(cmd, "%w", err)
		}
		done, err := backend.Put(cmd.Context(), items, name, item, opt)
		if refused, ok := errors.AsType[*directorapi.Error](err); ok && refused.Status == http.StatusPreconditionFailed && try < editTries {
			continue
		}
		if err != nil {
			return e.failed(cmd, err)
		}
		return e.told(cmd, done)
	}
}

// failed is the error of a request.
func (d *directorFlags) failed(cmd *cobra.Command, err error) error {
	return fmt.Errorf("director %s %s: %w", cmd.Parent().Name(), cmd.Name(), d.atAdmin(err))
}

// told prints what was changed.
func (e *editFlags) told(cmd *cobra.Command, change directorapi.Change) error {
	return e.answer(cmd, change, func(out io.Writer) error {
		if len(change.Items) == 0 {
			_, err := fmt.Fprintln(out, "nothing changes")
			return err
		}
		verbs := map[string]string{directorapi.ActionAdd: "added", directorapi.ActionChange: "changed", directorapi.ActionRemove: "removed"}
		if change.DryRun {
			verbs = map[string]string{directorapi.ActionAdd: "would add", directorapi.ActionChange: "would change", directorapi.ActionRemove: "would remove"}
		}
		var failed error
		for _, item := range change.Items {
			_, err := fmt.Fprintf(out, "%s %s\n", verbs[item.Action], itemName(item))
			failed = errors.Join(failed, err, printChanged(out, item))
		}
		return failed
	})
}

// itemName is "mirror uni".
func itemName(item directorapi.ItemChange) string {
	return strings.TrimSuffix(string(item.Items), "s") + " " + printable(item.Name)
}

// printChanged prints the keys of an item that changed, with what they were and are.
func printChanged(out io.Writer, item directorapi.ItemChange) error {
	if len(item.Keys) == 0 {
		return nil
	}
	var before, after map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(item.Before, &before), json.Unmarshal(item.After, &after)); err != nil {
		return fmt.Errorf("read the change of %s: %w", itemName(item), err)
	}
	text := func(v json.RawMessage) string {
		if v == nil {
			return "nothing"
		}
		return string(v)
	}
	var failed error
	for _, key := range item.Keys {
		_, err := fmt.Fprintf(out, "  %s: %s → %s\n", key, text(before[key]), text(after[key]))
		failed = errors.Join(failed, err)
	}
	return failed
}
