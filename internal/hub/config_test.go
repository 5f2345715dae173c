package hub_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/internal/config"
	"freshet/internal/durable"
	"freshet/internal/hub"
	"freshet/internal/role"
)

// Every problem is reported, each with its key.
func TestConfigProblems(t *testing.T) {
	const file = `
listen = "8080"
base-url = "hub.example.org"
database = "mysql://x"
build-retention = "-1s"
commit-workers = -1
gpg-keys = [""]
ed25519-keys = [""]
[keys.good]
file = "a"
agent = "/run/S.gpg-agent"
[keys."Bad name"]
file = "a"
[keys.both]
file = "a"
agent = "S.gpg-agent"
pkcs11 = "pkcs11:object=a?module-path=/p11.so"
passphrase-file = "pin"
[keys.bad]
fingerprint = "0123"
pkcs11 = "pkcs11:object=a;pin-value=1"
timeout = "-1s"
[keys.file]
file = "a"
pkcs11-helper = "x"
[limits]
object = -1
[repos.stable]
collection-id = "nodots"
icon = "ftp://x/y"
subsets = ["ok", "not ok"]
summary-arches = ["x86/64"]
[repos.beta]
deploy-collection-id = true
[repos."../etc"]
[trees.Files]
grace = "-1h"
`
	var cfg hub.Config
	err := config.Decode("hub.toml", []byte(file), &cfg)
	problems, ok := errors.AsType[config.Problems](err)
	if !ok {
		t.Fatalf("error %v", err)
	}
	var keys []string
	for _, p := range problems {
		keys = append(keys, p.Key)
	}
	slices.Sort(keys)
	want := []string{
		"base-url", "build-retention", "commit-workers", "database", "dir", "ed25519-keys[0]", "gpg-keys[0]", "keys.Bad name", "keys.bad.file", "keys.bad.fingerprint", "keys.bad.pkcs11",
		"keys.bad.timeout", "keys.both.agent", "keys.both.passphrase-file", "keys.both.pkcs11", "keys.file.pkcs11-helper", "limits.object", "listen", "repos.../etc",
		"repos.beta.deploy-collection-id", "repos.stable.collection-id", "repos.stable.icon", "repos.stable.subsets[1]",
		"repos.stable.summary-arches[0]", "trees.Files", "trees.Files.grace",
	}
	if !slices.Equal(keys, want) {
		t.Errorf("problems with\n%v, want\n%v", keys, want)
	}
}

func TestConfigDefaults(t *testing.T) {
	var empty hub.Config
	cfg := hub.Config{Dir: "/srv/hub"}.WithDefaults()
	if _, exists := cfg.Repos["stable"]; !exists || len(cfg.Repos) != 1 || cfg.Repos["stable"].SuggestedName != "stable" {
		t.Errorf("repositories %+v", cfg.Repos)
	}
	if cfg.Listen != ":8080" || cfg.SecretFile != "/srv/hub/secret" || cfg.BuildRetention != 720*time.Hour || cfg.Limits.Object != 4<<30 {
		t.Errorf("defaults %+v", cfg)
	}
	if tree := (hub.TreeConfig{}).WithDefaults(); tree.Grace != 24*time.Hour {
		t.Errorf("defaults of a tree %+v", tree)
	}
	if problems := cfg.Validate(); len(problems) > 0 {
		t.Errorf("the defaults have problems: %v", problems)
	}
	given := hub.Config{Repos: map[string]hub.RepoConfig{"beta": {}}}
	if _ = given.WithDefaults(); given.Repos["beta"].Title != "" || len(given.Repos) != 1 {
		t.Error("WithDefaults changed its receiver")
	}
	if err := hub.Run(t.Context(), empty, role.Env{}); err == nil || !strings.Contains(err.Error(), "dir") {
		t.Errorf("without a directory: %v", err)
	}
}

// One directory has one hub.
func TestDirectoryIsLocked(t *testing.T) {
	h := startHub(t, hub.Config{})
	if err := hub.Run(t.Context(), h.cfg, role.Env{}); !errors.Is(err, durable.ErrInUse) {
		t.Errorf("second hub: %v", err)
	}
}

// What happens is counted, and shown.
func TestMetricsAndStatus(t *testing.T) {
	h := startHub(t, hub.Config{})
	h.publishAll("stable", app(t, "org.test.Hello", "v1"))
	pushTree(t, h, "files", map[string]string{"a": "a"})
	h.get("/repo/stable/none")
	page := h.get("/status")
	if page.status != 200 || !strings.Contains(string(page.body), "stable.flatpakrepo") {
		t.Errorf("status page: %d %s", page.status, page.body)
	}
	asJSON := h.get("/status", "Accept", "application/json")
	if status := decode[map[string]any](t, asJSON); status["head"] == 0.0 || len(status["repos"].([]any)) != 1 {
		t.Errorf("status: %s", asJSON.body)
	}
	h.do(http.MethodPut, "/api/v1/build", "", nil)
	h.stop()
	samples := gather(t, h.metrics)
	for _, name := range []string{
		`freshet_hub_jobs_total kind=commit repo=stable status=ended`, `freshet_hub_jobs_total kind=publish repo=stable status=ended`,
		`freshet_hub_job_seconds kind=publish`, `freshet_hub_publish_seconds repo=stable`, `freshet_hub_publish_seconds repo=files`,
		`freshet_hub_upload_bytes_total`, `freshet_hub_event_head`, `freshet_http_requests_total code=404 reason=not-found role=hub`,
	} {
		if samples[name] == 0 {
			t.Errorf("no %s among %v", name, samples)
		}
	}
	if samples["freshet_hub_jobs_in_progress kind=publish"] != 0 {
		t.Error("a job is still in progress")
	}
}

// gather returns the values, or counts of observations, by name and labels.
func gather(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	samples := make(map[string]float64)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, label := range m.GetLabel() {
				name += " " + label.GetName() + "=" + label.GetValue()
			}
			samples[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return samples
}
