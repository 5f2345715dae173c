package gate

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sys/unix"
)

// A name that nobody has costs as much as a wrong password: who tries names
// learns none by the clock.
func TestNamesAreNotFoundByTime(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("opensesame"), 8)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(file, []byte("ali:"+string(hash)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := newGate(t, Config{Passwords: file, Rules: []Rule{{Action: "login"}}})
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// least is how much work a refusal is at least.
	least := func(name, password string) time.Duration {
		best := time.Hour
		for range 5 {
			r := httptest.NewRequest("GET", "/", nil)
			r.SetBasicAuth(name, password)
			begun := worked(t)
			if g.login.check(r) {
				t.Errorf("%s is let in", name)
			}
			best = min(best, worked(t)-begun)
		}
		return best
	}
	wrong := least("ali", "wrong")
	for _, c := range [][2]string{{"nobody", "wrong"}, {"nobody", "opensesame"}, {"", ""}} {
		if took := least(c[0], c[1]); took < wrong/2 || took > 4*wrong {
			t.Errorf("%q takes %v, a wrong password %v", c, took, wrong)
		}
	}
}

// worked is for how long the thread has had a processor, however many others
// want one.
func worked(t *testing.T) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}
