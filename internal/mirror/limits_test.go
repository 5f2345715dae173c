package mirror_test

import (
	"testing"

	"freshet/internal/mirror"
)

func TestDSCP(t *testing.T) {
	for text, want := range map[string]mirror.DSCP{"CS1": 8, "cs7": 56, "AF11": 10, "AF43": 38, "EF": 46, "LE": 1, "0": 0, "63": 63, "DF": 0} {
		var d mirror.DSCP
		if err := d.UnmarshalText([]byte(text)); err != nil || d != want {
			t.Errorf("%s: %d, %v, want %d", text, d, err, want)
		}
	}
	for _, text := range []string{"", "64", "-1", "CS8", "AF14", "AF51", "low"} {
		var d mirror.DSCP
		if err := d.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q: %d", text, d)
		}
	}
}

func TestReserve(t *testing.T) {
	for _, c := range []struct {
		text string
		disk int64
		want int64
	}{
		{"8%", 1000, 80}, {"90%", 200, 180}, {"100GB", 1e12, 1e11}, {"100GB", 1e10, 1e10}, {"0B", 1e12, 0},
	} {
		var r mirror.Reserve
		if err := r.UnmarshalText([]byte(c.text)); err != nil || r.Of(c.disk) != c.want {
			t.Errorf("%s of %d: %d, %v, want %d", c.text, c.disk, r.Of(c.disk), err, c.want)
		}
		var again mirror.Reserve
		if err := again.UnmarshalText([]byte(r.String())); err != nil || again != r {
			t.Errorf("%s: %s is %v, %v", c.text, r, again, err)
		}
	}
	for _, text := range []string{"", "0%", "91%", "-1%", "8 %", "much"} {
		var r mirror.Reserve
		if err := r.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q: %v", text, r)
		}
	}
}
