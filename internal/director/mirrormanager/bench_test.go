package mirrormanager_test

import (
	"testing"

	"freshet/internal/director/mirrormanager"
)

// A million rows of what mirrors have. Fedora has some thirteen million.
func BenchmarkRead(b *testing.B) {
	dsn := database(b, schema, `
		INSERT INTO site (id, name) VALUES (1, 'site');
		INSERT INTO host (id, site_id, country) SELECT n, 1, (ARRAY['DE', 'US', 'FR', 'JP'])[1 + n % 4] FROM generate_series(1, 100) n;
		INSERT INTO directory (id, name) SELECT n, CASE n WHEN 1 THEN 'pub' ELSE 'pub/' || n || '/repodata' END FROM generate_series(1, 10000) n;
		INSERT INTO category (id, topdir_id) VALUES (1, 1);
		INSERT INTO category_directory SELECT 1, n FROM generate_series(1, 10000) n;
		INSERT INTO host_category (id, host_id, category_id) SELECT n, n, 1 FROM generate_series(1, 100) n;
		INSERT INTO host_category_url (host_category_id, url) SELECT n, 'https://mirror' || n || '.example/pub' FROM generate_series(1, 100) n;
		INSERT INTO host_category_dir (host_category_id, up2date, directory_id) SELECT h, (h * 7 + d) % 97 > 0, d FROM generate_series(1, 100) h, generate_series(1, 10000) d;`)
	b.ReportAllocs()
	for b.Loop() {
		s, err := mirrormanager.Read(b.Context(), dsn, options())
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(s.NumMirrorSets()), "sets")
	}
}
