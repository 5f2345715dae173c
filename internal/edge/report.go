package edge

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"freshet/api/hubapi"
	"freshet/internal/config"
)

// CheckFiles reports a token file that cannot be read; see
// [config.FileChecker].
func (c Config) CheckFiles() []config.Problem {
	if _, err := readHubToken(c.HubTokenFile); err != nil {
		return []config.Problem{{Key: "hub-token-file", Message: err.Error()}}
	}
	return nil
}

// readHubToken reads the token for reports; none without a file.
func readHubToken(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("hub token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return "", fmt.Errorf("hub token: %s is empty", file)
	}
	return token, nil
}

// reporter is who follows the hub for the site; nil without a token.
func (e *Edge) reporter(s *site) *hubapi.Reporter {
	if e.hubToken == "" {
		return nil
	}
	return &hubapi.Reporter{Node: e.cfg.Node, Site: s.label()}
}

// noteReport tells the log what the hub makes of our reports, whenever that is
// new.
func (s *site) noteReport(ctx context.Context, report string, log *slog.Logger) {
	if report == "" || report == s.report {
		return
	}
	s.report = report
	if report == hubapi.ReportNoted {
		log.InfoContext(ctx, "hub notes how far events are applied")
		return
	}
	log.WarnContext(ctx, "hub does not note how far events are applied", slog.String("because", report))
}
