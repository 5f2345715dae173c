package gate

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
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
	// least is how long a refusal takes at least.
	least := func(name, password string) time.Duration {
		best := time.Hour
		for range 5 {
			r := httptest.NewRequest("GET", "/", nil)
			r.SetBasicAuth(name, password)
			begun := time.Now()
			if g.login.check(r) {
				t.Errorf("%s is let in", name)
			}
			best = min(best, time.Since(begun))
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
