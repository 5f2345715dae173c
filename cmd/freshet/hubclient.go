package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"freshet/api/hubapi"
	"freshet/internal/push"
)

// hubClient are the flags of a command that asks a hub.
type hubClient struct {
	hub, tokenFile string
	asJSON         bool
}

// register adds the flags; need is what the token must have.
func (c *hubClient) register(cmd *cobra.Command, need tokenNeed) {
	c.registerURL(cmd, need)
	cmd.Flags().BoolVar(&c.asJSON, "json", false, "print the hub's answer")
}

// registerURL adds the flags that say which hub, and who asks.
func (c *hubClient) registerURL(cmd *cobra.Command, need tokenNeed) {
	need.explain(cmd)
	f := cmd.Flags()
	f.StringVar(&c.hub, "hub", "", "URL of the hub (default $FRESHET_HUB)")
	f.StringVar(&c.tokenFile, "token-file", "", "file with a token that has the scope "+need.String()+" (default: $"+tokenVariable+")")
}

// client speaks with the hub that the flags name.
func (c *hubClient) client(cmd *cobra.Command) (*hubapi.Client, error) {
	url := cmp.Or(c.hub, os.Getenv("FRESHET_HUB"))
	if !isHubURL(url) {
		return nil, usageError(cmd, "--hub wants a URL like https://hub.example.org, got %q", url)
	}
	token, err := readToken("", c.tokenFile)
	if err != nil {
		return nil, fmt.Errorf("hub %s: %w", cmd.Name(), err)
	}
	return &hubapi.Client{Base: strings.TrimSuffix(url, "/"), Token: token, RetryFor: -1}, nil
}

// answer prints v in JSON, or as text does.
func (c *hubClient) answer(cmd *cobra.Command, v any, text func(io.Writer) error) error {
	if c.asJSON {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(v)
	}
	return text(cmd.OutOrStdout())
}

// follow waits for the end of a job and shows its log meanwhile, or with --json
// the job at the end. A job that breaks is an error.
func (c *hubClient) follow(cmd *cobra.Command, client *hubapi.Client, id int64) error {
	log := cmd.OutOrStdout()
	if c.asJSON {
		log = io.Discard
	}
	job, err := push.WaitJob(cmd.Context(), push.NewProgress(log), func(ctx context.Context, req hubapi.JobRequest) (hubapi.Job, error) {
		return client.Job(ctx, id, req)
	})
	if err != nil {
		return err
	}
	return c.answer(cmd, job, func(io.Writer) error { return nil })
}
