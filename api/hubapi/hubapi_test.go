package hubapi_test

import (
	"encoding/json"
	"testing"
	"time"

	"freshet/api/hubapi"
)

// The form of flat-manager, which its clients and scripts parse.
func TestTimestampJSON(t *testing.T) {
	stamp := hubapi.Timestamp{Time: time.Date(2026, 1, 2, 4, 4, 5, 123_456_789, time.FixedZone("", 3600))}
	build := hubapi.Build{Created: stamp}
	data, err := json.Marshal(build)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(data, &fields); err != nil || fields["created"] != "2026-01-02T03:04:05.123" {
		t.Errorf("created is %v: %v", fields["created"], err)
	}
	var back hubapi.Build
	if err := json.Unmarshal(data, &back); err != nil || !back.Created.Equal(stamp.Truncate(time.Millisecond)) {
		t.Errorf("read %v: %v", back.Created, err)
	}
	for text, ok := range map[string]bool{
		`"2026-01-02T03:04:05"`: true, `"2026-01-02T03:04:05.1"`: true, `"2026-01-02T03:04:05.123456789"`: true, `null`: true,
		`"2026-01-02"`: false, `"2026-01-02T03:04:05Z"`: false, `7`: false, `""`: false,
	} {
		var ts hubapi.Timestamp
		if err := json.Unmarshal([]byte(text), &ts); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
	if data, err := json.Marshal(hubapi.Generation{}); err != nil || json.Unmarshal(data, &hubapi.Generation{}) != nil {
		t.Errorf("%s: %v", data, err)
	}
}
