package push

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// The environment variables in which a job of a CI finds its ID token: that of ours,
// in which GitLab and others can be told to put it, and those by which jobs on
// GitHub ask for one.
const (
	IDTokenVariable = "FRESHET_ID_TOKEN" //nolint:gosec // G101: the name of a variable, not a secret

	githubURLVariable    = "ACTIONS_ID_TOKEN_REQUEST_URL"
	githubBearerVariable = "ACTIONS_ID_TOKEN_REQUEST_TOKEN"
)

const (
	idTokenTimeout = 30 * time.Second
	maxIDToken     = 64 << 10
)

// ErrNoIDToken says that nobody vouches for this process.
var ErrNoIDToken = errors.New("no ID token: a job on GitHub needs \"permissions: id-token: write\"; elsewhere have the CI put one into " + IDTokenVariable + " or a file")

// IDToken returns an ID token for an audience: from the file, unless it has no name,
// else from the environment, which getenv reads. On GitHub it is a new one each time.
func IDToken(ctx context.Context, file, audience string, getenv func(string) string) (string, error) {
	if file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("read ID token: %w", err)
		}
		if token := strings.TrimSpace(string(data)); token != "" {
			return token, nil
		}
		return "", fmt.Errorf("read ID token: %s is empty", file)
	}
	if token := strings.TrimSpace(getenv(IDTokenVariable)); token != "" {
		return token, nil
	}
	where, bearer := getenv(githubURLVariable), getenv(githubBearerVariable)
	if where == "" || bearer == "" {
		return "", ErrNoIDToken
	}
	token, err := askGitHub(ctx, where, bearer, audience)
	if err != nil {
		return "", fmt.Errorf("ask GitHub for an ID token: %w", err)
	}
	return token, nil
}

func askGitHub(ctx context.Context, where, bearer, audience string) (token string, err error) {
	u, err := url.Parse(where)
	if err != nil {
		return "", fmt.Errorf("%s: %w", githubURLVariable, err)
	}
	query := u.Query()
	query.Set("audience", audience)
	u.RawQuery = query.Encode()
	ctx, cancel := context.WithTimeout(ctx, idTokenTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	req.Header.Set("Accept", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxIDToken))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answered %s", u.Host, resp.Status)
	}
	var answer struct {
		Value string `json:"value"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Value == "" {
		return "", fmt.Errorf("the answer of %s has no token", u.Host)
	}
	return answer.Value, nil
}
