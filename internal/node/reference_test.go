package node

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"freshet/internal/config"
	"freshet/internal/config/configdoc"
)

var update = flag.Bool("update", false, "rewrite the generated files")

// settings.json and docs/configuration.md say what the source says.
func TestReferenceIsUpToDate(t *testing.T) {
	docs, err := configdoc.Read(map[string]string{
		"freshet/internal/node":            ".",
		"freshet/internal/hub":             "../hub",
		"freshet/internal/edge":            "../edge",
		"freshet/internal/director/orders": "../director/orders",
		"freshet/internal/certs":           "../certs",
		"freshet/internal/doors":           "../doors",
		"freshet/internal/forwarded":       "../forwarded",
		"freshet/internal/edge/gate":       "../edge/gate",
		"freshet/internal/director":        "../director",
		"freshet/internal/mirror":          "../mirror",
		"freshet/internal/rsync":           "../rsync",
		"freshet/internal/mirror/project":  "../mirror/project",
		"freshet/internal/mirror/rsyncd":   "../mirror/rsyncd",
		"freshet/internal/telemetry":       "../telemetry",
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range docs {
		if text == "" {
			t.Errorf("%s has no comment: it is the manual", name)
		}
	}
	settings, err := json.MarshalIndent(docs, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	compare(t, "settings.json", append(settings, '\n'))
	if *update {
		settingsJSON = settings
	}
	list, err := Settings()
	if err != nil {
		t.Fatal(err)
	}
	var page bytes.Buffer
	if err := config.WriteReference(&page, list); err != nil {
		t.Fatal(err)
	}
	compare(t, "../../docs/configuration.md", page.Bytes())
}

func compare(t *testing.T, file string, want []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is out of date, run make generate:\n%s", file, diff)
	}
}

// The whole default file, with every line uncommented, has only keys that
// exist and values of the right type. As it is, it has no role.
func TestDefaultFileIsAccepted(t *testing.T) {
	list, err := Settings()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := config.WriteDefault(&out, list); err != nil {
		t.Fatal(err)
	}
	var commented Config
	const noRole = "1 problem in default.toml\ndefault.toml:1: no role: the file needs a table [hub], [edge], [mirror] or [director]"
	if err := config.Decode("default.toml", out.Bytes(), &commented); err == nil || err.Error() != noRole {
		t.Errorf("the default file itself: %v", err)
	}
	active := regexp.MustCompile(`(?m)^#([a-z\[])`).ReplaceAll(out.Bytes(), []byte("$1"))
	active = regexp.MustCompile(`(?m)^\[.*`).ReplaceAllFunc(active, func(table []byte) []byte {
		return bytes.ReplaceAll(table, []byte(".NAME"), []byte(".name"))
	})
	for _, required := range []struct{ empty, example string }{
		{`dir = ""`, `dir = "/srv/hub"`},
		{`file = ""`, `file = "/srv/hub/key.asc"`},
		{`command = []`, `command = ["/bin/true"]`},
		{`store = ""`, `store = "/srv/edge"`},
		{`ref = ""`, `ref = "app/*"`},
		{`origin = ""`, `origin = "http://127.0.0.1:1"`},
		{`hosts = []`, `hosts = ["dl.example.org"]`},
		{`cert = ""`, `cert = "edge.pem"`},
		{`certificate = ""`, `certificate = "edge.pem"`},
		{`key = ""`, `key = "edge.key"`},
		{`certificate = ""`, `certificate = "admin.pem"`},
		{`issuer = ""`, `issuer = "https://issuer.example.org"`},
		{`client-id = ""`, `client-id = "hub"`},
		{`claims = {}`, `claims = {repository = ["example/app"]}`},
		{`trees = []`, `trees = ["rpms"]`},
		{`snapshot = ""`, `snapshot = "/srv/mirrorlist_cache.proto"`},
		{`directory = ""`, `directory = "/srv/mirror"`},
		{`state = ""`, `state = "/srv/director"`},
		{`kind = ""`, `kind = "plain"`},
		{`upstreams = []`, `upstreams = ["hub+https://hub.example.org/tree/pub/"]`},
		{`token-file = ""`, `token-file = "mirror.token"`},
		{`token = ""`, `token = "sha256:` + strings.Repeat("0", 64) + `"`},
	} {
		active = bytes.ReplaceAll(active, []byte("\n"+required.empty), []byte("\n"+required.example))
	}
	for _, table := range []string{"hub.console", "mirror.directors.name", "mirror.watch"} { // another has the same key
		at := bytes.Index(active, []byte("\n["+table+"]"))
		active = append(active[:at:at], bytes.Replace(active[at:], []byte("\nurl = \"\""), []byte("\nurl = \"https://host.example.org\""), 1)...)
	}
	var cfg Config
	if err := config.Decode("default.toml", active, &cfg); err != nil {
		t.Errorf("%v\n%s", err, active)
	}
}
