package e2e

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"os"
	"strings"
	"testing"
)

// writeFlatpakRepoKey writes the key that a .flatpakrepo file carries.
func writeFlatpakRepoKey(t testing.TB, flatpakrepo []byte, path string) {
	t.Helper()
	for scan := bufio.NewScanner(bytes.NewReader(flatpakrepo)); scan.Scan(); {
		encoded, ok := strings.CutPrefix(scan.Text(), "GPGKey=")
		if !ok {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			t.Fatalf("GPGKey: %v", err)
		}
		if err := os.WriteFile(path, key, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("no GPGKey in:\n%s", flatpakrepo)
}
