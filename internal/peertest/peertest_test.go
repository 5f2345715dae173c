package peertest_test

import (
	"strings"
	"testing"

	"freshet/internal/peertest"
)

// recorder is a testing.TB that remembers how a test would have ended.
type recorder struct {
	testing.TB
	skipped, failed string
}

func (r *recorder) Helper() {}

func (r *recorder) Skipf(format string, _ ...any) { r.skipped = format }

func (r *recorder) Fatalf(format string, _ ...any) {
	if r.failed == "" {
		r.failed = format
	}
}

func TestRequire(t *testing.T) {
	const absent = "no-such-program-anywhere"
	tests := []struct {
		demanded, program string
		skips, fails      bool
	}{
		{"", "sh", false, false},
		{"all", "sh", false, false},
		{"", absent, true, false},
		{"other", absent, true, false},
		{"all", absent, true, true},
		{"other, " + absent, absent, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.demanded+"/"+tt.program, func(t *testing.T) {
			t.Setenv(peertest.RequireEnv, tt.demanded)
			r := &recorder{TB: t}
			peertest.Require(r, tt.program)
			if got := r.failed != ""; got != tt.fails {
				t.Errorf("failed = %v, want %v", got, tt.fails)
			}
			if got := r.skipped != ""; got != tt.skips {
				t.Errorf("skipped = %v, want %v", got, tt.skips)
			}
		})
	}
}

func TestTryReportsStandardError(t *testing.T) {
	_, err := peertest.Try(t, "", nil, "sh", "-c", "echo broken >&2; exit 3")
	if err == nil || !strings.Contains(err.Error(), "broken") || !strings.Contains(err.Error(), "exit status 3") {
		t.Fatalf("error = %v, want the exit status and standard error", err)
	}
	if out := peertest.Run(t, "", []string{"WORD=hello"}, "sh", "-c", "printf %s $WORD"); string(out) != "hello" {
		t.Fatalf("output = %q, want hello", out)
	}
}
