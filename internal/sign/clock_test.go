package sign

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// keyOfLater is the file of a key that was made an hour after the clock of a bubble begins.
func keyOfLater(t *testing.T) (path string) {
	synctest.Test(t, func(*testing.T) {
		time.Sleep(time.Hour)
		path = generateKey(t, "Later")
	})
	return path
}

// A key that is younger than the clock shows is away until the clock is right: it says so,
// and names the clock.
func TestClockBeforeTheKey(t *testing.T) {
	path := keyOfLater(t)
	synctest.Test(t, func(t *testing.T) {
		ring := openKeys(t, KeyFile{Path: path})
		if keys := ring.Keys(); len(keys) != 1 || keys[0].UserID != "Later" {
			t.Errorf("%v", keys)
		}
		_, signErr := ring.Sign(t.Context(), []byte("data"))
		for what, err := range map[string]error{"Sign": signErr, "Ready": ring.Ready(t.Context())} {
			away, ok := Away(err)
			if !ok || !strings.Contains(away.Reason, "clock") || !strings.Contains(away.Reason, "is of 2000-01-01 00:59:59 UTC") ||
				!strings.Contains(away.Reason, "shows 2000-01-01 00:00:00 UTC") {
				t.Errorf("%s before the key was made: %v", what, err)
			}
		}
		time.Sleep(time.Hour) // the clock is right
		if err := ring.Ready(t.Context()); err != nil {
			t.Error(err)
		}
		if err := Probe(t.Context(), ring); err != nil {
			t.Error(err)
		}
	})
}

// No clock makes a revoked key a good one.
func TestClockBeforeTheRevocation(t *testing.T) {
	data, err := os.ReadFile(keyOfLater(t))
	if err != nil {
		t.Fatal(err)
	}
	entities, err := readKeys(data)
	if err != nil {
		t.Fatal(err)
	}
	late := func() time.Time { return entities[0].PrimaryKey.CreationTime.Add(time.Hour) }
	config := &packet.Config{Time: late}
	if err := entities[0].RevokeKey(packet.KeyRetired, "another one is used", config); err != nil {
		t.Fatal(err)
	}
	var revoked bytes.Buffer
	if err := entities[0].SerializePrivateWithoutSigning(&revoked, config); err != nil {
		t.Fatal(err)
	}
	path := write(t, "revoked", revoked.Bytes())
	synctest.Test(t, func(t *testing.T) {
		_, err := Open(KeyFile{Path: path})
		if _, away := Away(err); err == nil || away || !strings.Contains(err.Error(), "was revoked") {
			t.Errorf("a revoked key before it was made: %v", err)
		}
	})
}
