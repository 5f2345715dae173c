package hub_test

import (
	"strings"
	"testing"
	"time"

	"freshet/internal/hub"
)

func TestStorageConfig(t *testing.T) {
	t.Parallel()
	good := hub.StorageConfig{Endpoint: "https://s3.example.org", Bucket: "flatpak", Prefix: "a/b", PathStyle: true}
	for name, c := range map[string]struct {
		change func(*hub.StorageConfig)
		wrong  string // the key that is complained of; empty: none
	}{
		"whole":               {func(*hub.StorageConfig) {}, ""},
		"none":                {func(c *hub.StorageConfig) { *c = hub.StorageConfig{} }, ""},
		"prefix with a slash": {func(c *hub.StorageConfig) { c.Prefix = "a/" }, ""},
		"no endpoint":         {func(c *hub.StorageConfig) { c.Endpoint = "" }, "storage.endpoint"},
		"a path":              {func(c *hub.StorageConfig) { c.Endpoint += "/bucket" }, "storage.endpoint"},
		"no scheme":           {func(c *hub.StorageConfig) { c.Endpoint = "s3.example.org" }, "storage.endpoint"},
		"keys in the URL":     {func(c *hub.StorageConfig) { c.Endpoint = "https://a:b@s3.example.org" }, "storage.endpoint"},
		"no bucket":           {func(c *hub.StorageConfig) { c.Bucket = "" }, "storage.bucket"},
		"bucket in capitals":  {func(c *hub.StorageConfig) { c.Bucket = "Flatpak" }, "storage.bucket"},
		"prefix that leads":   {func(c *hub.StorageConfig) { c.Prefix = "../a" }, "storage.prefix"},
		"prefix of a slash":   {func(c *hub.StorageConfig) { c.Prefix = "/a" }, "storage.prefix"},
		"hidden prefix":       {func(c *hub.StorageConfig) { c.Prefix = ".freshet" }, "storage.prefix"},
		"CA without https":    {func(c *hub.StorageConfig) { c.Endpoint, c.CAFile = "http://127.0.0.1:9000", "/etc/ca.pem" }, "storage.ca-file"},
		"negative":            {func(c *hub.StorageConfig) { c.Timeout = -time.Second }, "storage.timeout"},
	} {
		storage := good
		c.change(&storage)
		cfg := hub.Config{Dir: t.TempDir(), Storage: storage}.WithDefaults()
		var keys []string
		for _, problem := range cfg.Validate() {
			keys = append(keys, problem.Key)
		}
		if got := strings.Join(keys, " "); got != c.wrong {
			t.Errorf("%s: problems with %q, want %q", name, got, c.wrong)
		}
	}
}
