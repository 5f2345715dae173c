package node

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/api/hubapi"
	"freshet/internal/director"
	"freshet/internal/director/directortest"
	"freshet/internal/doors"
	"freshet/internal/edge"
	"freshet/internal/hub"
	"freshet/internal/hub/deltaworker"
	"freshet/internal/memnet"
	"freshet/internal/mirror"
	"freshet/internal/role"
	"freshet/internal/telemetry"
)

// metric is what the source says of a metric.
type metric struct{ help, labels, roles string }

var description = regexp.MustCompile(`^Desc\{fqName: "([^"]+)", help: ("(?:[^"\\]|\\.)*"), .*constLabels: \{([^}]*)\}, variableLabels: \{([^}]*)\}\}$`)

// metricsOf runs a role until it serves and returns what it registered.
func metricsOf(t *testing.T, name string, into map[string]metric, run func(ctx context.Context, env role.Env) error) {
	t.Helper()
	reg := prometheus.NewRegistry()
	var network memnet.Network
	ctx, stop := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	transport := role.NewTransport(network.DialContext)
	go func() {
		ended <- run(ctx, role.Env{
			Metrics: reg, Ready: func() { close(ready) }, HTTP: &http.Client{Transport: transport},
			Listen: func(_ context.Context, addr string) (net.Listener, error) { return network.Listen(addr) },
		})
	}()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("%s: %v", name, err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	all := make(chan *prometheus.Desc)
	go func() { reg.Describe(all); close(all) }()
	for d := range all {
		m := description.FindStringSubmatch(d.String())
		if m == nil {
			t.Errorf("%s is not understood", d)
			continue
		}
		labels := regexp.MustCompile(`[a-z_]+`).FindAllString(regexp.MustCompile(`"[^"]*"`).ReplaceAllString(m[3]+","+m[4], ""), -1)
		slices.Sort(labels)
		help := strings.ReplaceAll(strings.Trim(m[2], `"`), `\"`, `"`)
		if help == "" {
			t.Errorf("%s has no help", m[1])
		}
		old := into[m[1]]
		roles := old.roles
		if !strings.Contains(roles, name) {
			roles = strings.TrimPrefix(roles+", "+name, ", ")
		}
		into[m[1]] = metric{help: help, labels: strings.Join(labels, ", "), roles: roles}
	}
}

func allMetrics(t *testing.T) map[string]metric {
	t.Helper()
	all := make(map[string]metric)
	metricsOf(t, "hub", all, func(ctx context.Context, env role.Env) error {
		return hub.Run(ctx, hub.Config{Dir: t.TempDir(), Listen: "mem:hub"}, env)
	})
	metricsOf(t, "edge", all, func(ctx context.Context, env role.Env) error {
		return edge.Run(ctx, edge.Config{Origin: "http://origin.mem", Store: t.TempDir(), Listeners: doors.Listeners{Listen: "mem:edge"}, Size: 16 << 20, Follow: "off"}, env)
	})
	metricsOf(t, "mirror", all, func(ctx context.Context, env role.Env) error {
		token := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(token, nil, 0o600); err != nil {
			return err
		}
		return mirror.Run(ctx, mirror.Config{
			Directory: t.TempDir(), Listeners: doors.Listeners{Listen: "mem:mirror"}, Watch: telemetry.Config{URL: "http://watch.mem", TokenFile: token},
		}, env)
	})
	metricsOf(t, "director", all, func(ctx context.Context, env role.Env) error {
		dir := t.TempDir()
		directortest.Network{}.Write(t, dir)
		return director.Run(ctx, director.Config{
			Snapshot: filepath.Join(dir, directortest.Snapshot), State: filepath.Join(dir, "state"), Listeners: doors.Listeners{Listen: "mem:director"},
			Inventory: filepath.Join(dir, "none"),
		}, env)
	})
	metricsOf(t, "delta worker", all, func(ctx context.Context, env role.Env) error {
		return deltaworker.Run(ctx, deltaworker.Config{Client: &hubapi.Client{Base: "http://hub.mem"}, Dir: t.TempDir()}, env)
	})
	all["freshet_access_log_dropped_lines_total"] = metric{
		help:  "Records of requests that were not written, because the disk did not take them in time or at all.",
		roles: "all",
	}
	return all
}

func kind(name string) string {
	switch {
	case strings.HasSuffix(name, "_total"):
		return "counter"
	case strings.HasSuffix(name, "_seconds") && !strings.HasSuffix(name, "_timestamp_seconds"):
		return "histogram"
	}
	return "gauge"
}

// docs/metrics.md lists the metrics with what the source says of them.
func TestMetricsReferenceIsUpToDate(t *testing.T) {
	all := allMetrics(t)
	var page bytes.Buffer
	page.WriteString(`# Metrics

Made from the source by "make generate". The admin listener serves them at ` + "`/metrics`" + `, with those of the Go runtime and the
process. [monitoring.md](monitoring.md) says what to do with them.

| name | kind | labels | of | what it is |
|---|---|---|---|---|
`)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		m := all[name]
		fmt.Fprintf(&page, "| `%s` | %s | %s | %s | %s |\n", name, kind(name), m.labels, m.roles, strings.ReplaceAll(m.help, "|", `\|`))
	}
	compare(t, "../../docs/metrics.md", page.Bytes())
}

// The dashboard, the rules and the manual speak of metrics that exist.
func TestMetricsInUseExist(t *testing.T) {
	all := allMetrics(t)
	var files []string
	for _, of := range []string{"grafana", "prometheus"} {
		found, err := filepath.Glob("../../contrib/" + of + "/*")
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %v", of, found, err)
		}
		files = append(files, found...)
	}
	if len(files) < 3 {
		t.Fatal(files)
	}
	for _, file := range append(files, "../../docs/monitoring.md") {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		used := regexp.MustCompile(`(^|[^:a-z_])(freshet_[a-z_]+)`).FindAllSubmatch(data, -1)
		if len(used) == 0 {
			t.Errorf("%s speaks of no metric", file)
		}
		for _, m := range used {
			name := string(m[2])
			base := name
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				base = strings.TrimSuffix(base, suffix)
			}
			if _, ok := all[base]; !ok {
				t.Errorf("%s: there is no metric %s", file, name)
			}
		}
	}
}
