package sign

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"freshet/internal/peertest"
)

// softHSM is a token of SoftHSM in a folder of its own.
type softHSM struct {
	t      testing.TB
	tokens string
}

const (
	softHSMModule = "/usr/lib/softhsm/libsofthsm2.so"
	softHSMPIN    = "123456"
)

func newSoftHSM(t testing.TB) *softHSM {
	t.Helper()
	peertest.Require(t, "softhsm2-util", "pkcs11-tool")
	dir := t.TempDir()
	s := &softHSM{t: t, tokens: filepath.Join(dir, "tokens")}
	if err := os.Mkdir(s.tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+s.tokens+"\nlog.level = ERROR\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	setenv(t, "SOFTHSM2_CONF", conf)
	peertest.Run(t, "", nil, "softhsm2-util", "--init-token", "--free", "--label", "Releases", "--pin", softHSMPIN, "--so-pin", "12345678")
	return s
}

func setenv(t testing.TB, name, value string) {
	t.Helper()
	switch t := t.(type) {
	case *testing.T:
		t.Setenv(name, value)
	case *testing.B:
		t.Setenv(name, value)
	}
}

// key makes a key in the token and returns where it is.
func (s *softHSM) key(kind, label, id string) KeyFile {
	s.t.Helper()
	peertest.Run(s.t, "", nil, "pkcs11-tool", "--module", softHSMModule, "--login", "--pin", softHSMPIN,
		"--keypairgen", "--key-type", kind, "--label", label, "--id", id)
	return KeyFile{
		PKCS11:     "pkcs11:token=Releases;object=" + label + "?module-path=" + softHSMModule,
		Helper:     helperProgram(s.t),
		Passphrase: write(s.t, "pin", []byte(softHSMPIN+"\n")),
	}
}

// certified makes the certificate of a key, whose file then has it.
func (s *softHSM) certified(file KeyFile) KeyFile {
	s.t.Helper()
	_, certificate, err := Certify(s.t.Context(), file, "Token <token@example.org>", time.Now().Add(-time.Minute))
	if err != nil {
		s.t.Fatal(err)
	}
	file.Path = write(s.t, "certificate.gpg", certificate)
	return file
}

// helperProgram is freshet-pkcs11, built once.
func helperProgram(t testing.TB) string {
	t.Helper()
	peertest.Require(t, "cc")
	path, err := buildHelper()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var buildHelper = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "freshet-pkcs11-")
	if err != nil {
		return "", err
	}
	helperDir = dir
	path := filepath.Join(dir, "freshet-pkcs11")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, "freshet/cmd/freshet-pkcs11")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
})

// helperDir is removed by TestMain.
var helperDir string

func TestMain(m *testing.M) {
	code := m.Run()
	if helperDir != "" {
		_ = os.RemoveAll(helperDir)
	}
	os.Exit(code)
}

// A token signs with each kind of key that we say it does, and gpg and gpgv
// accept certificate and signatures.
func TestTokenSigns(t *testing.T) {
	hsm, g := newSoftHSM(t), newGnuPG(t)
	peertest.Require(t, "gpgv")
	for i, test := range []struct{ kind, algorithm, gpg string }{
		{"rsa:3072", "rsa3072", " 4 0 1 10 00 "},
		{"EC:edwards25519", "ed25519", " 4 0 22 10 00 "},
		{"EC:prime256v1", "algorithm 19", " 4 0 19 10 00 "},
	} {
		t.Run(test.algorithm, func(t *testing.T) {
			label := fmt.Sprintf("key%d", i)
			file := hsm.certified(hsm.key(test.kind, label, fmt.Sprintf("0%d", i)))
			ring := openKeys(t, file)
			defer func() { _ = ring.Close() }()
			if key := ring.Keys()[0]; key.Algorithm != test.algorithm || key.UserID != "Token <token@example.org>" {
				t.Errorf("%+v", key)
			}
			messages := make([][]byte, 20)
			for i := range messages {
				messages[i] = fmt.Appendf(nil, "commit %d", i)
			}
			all, err := All(t.Context(), ring, messages)
			if err != nil {
				t.Fatal(err)
			}
			for i, signatures := range all {
				verifyWith(t, ring, messages[i], signatures)
			}
			sig, data := write(t, "sig", all[0][0]), write(t, "data", messages[0])
			g.run("--import", file.Path)
			out := string(g.run("--status-fd", "1", "--verify", sig, data))
			if !strings.Contains(out, "VALIDSIG "+ring.Keys()[0].Fingerprint) || !strings.Contains(out, test.gpg) {
				t.Errorf("gpg says:\n%s", out)
			}
			peertest.Run(t, "", nil, "gpgv", "--keyring", file.Path, sig, data)
		})
	}
}

// The key is away with its token, its helper, its library or its PIN, and comes
// back with them, without a new start of ours.
func TestTokenComesBack(t *testing.T) {
	hsm := newSoftHSM(t)
	file := hsm.certified(hsm.key("EC:edwards25519", "stable", "01"))
	ring := openKeys(t, file)
	defer func() { _ = ring.Close() }()
	signs := func() {
		t.Helper()
		signatures, err := ring.Sign(t.Context(), []byte("data"))
		if err != nil {
			t.Fatal(err)
		}
		verifyWith(t, ring, []byte("data"), signatures)
	}
	away := func(because string) {
		t.Helper()
		_, err := ring.Sign(t.Context(), []byte("data"))
		if _, ok := Away(err); !ok || !strings.Contains(err.Error(), because) {
			t.Errorf("want an error with %q: %v", because, err)
		}
	}
	signs()
	// The token is unplugged while nobody signs, and put back.
	gone := hsm.tokens + ".gone"
	for range 2 {
		if err := os.Rename(hsm.tokens, gone); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(hsm.tokens, 0o700); err != nil {
			t.Fatal(err)
		}
		away("")
		away("no token")
		if err := errors.Join(os.RemoveAll(hsm.tokens), os.Rename(gone, hsm.tokens)); err != nil {
			t.Fatal(err)
		}
		signs()
	}
	// The helper dies, as it does of a fault in the token's library.
	if err := syscall.Kill(helperPID(t), syscall.SIGSEGV); err != nil {
		t.Fatal(err)
	}
	signs()
	// It hangs.
	ring.members[0].remote.timeout = 100 * time.Millisecond
	freeze(t, helperPID(t))
	away("no signature within 100ms")
	ring.members[0].remote.timeout = DefaultTimeout
	signs()
}

// freeze stops a process and waits until none of its threads runs: the kernel
// stops them one after the other, and until the last one is one may answer.
func freeze(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil || len(threads) == 0 {
			t.Fatalf("threads of %d: %v", pid, err)
		}
		running := slices.ContainsFunc(threads, func(path string) bool {
			stat, err := os.ReadFile(path)
			_, state, _ := strings.Cut(string(stat), ") ")
			return err == nil && !strings.HasPrefix(state, "T")
		})
		if !running {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d does not stop", pid)
		}
	}
}

// helperPID finds the process of the only helper that runs.
func helperPID(t *testing.T) int {
	t.Helper()
	helpers, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range helpers {
		pids, err := os.ReadFile(list)
		if err != nil {
			continue // a thread that has ended
		}
		for text := range strings.FieldsSeq(string(pids)) {
			pid, err := strconv.Atoi(text)
			name, readErr := os.ReadFile("/proc/" + text + "/comm")
			if err == nil && readErr == nil && strings.HasPrefix(string(name), "freshet-pkcs11") {
				return pid
			}
		}
	}
	t.Fatal("no helper runs")
	return 0
}

// A PIN that the token refused is not tried again and again: that would lock
// the token.
func TestTokenWrongPIN(t *testing.T) {
	hsm := newSoftHSM(t)
	file := hsm.certified(hsm.key("EC:edwards25519", "stable", "01"))
	if err := os.WriteFile(file.Passphrase, []byte("654321"), 0o600); err != nil {
		t.Fatal(err)
	}
	ring := openKeys(t, file)
	defer func() { _ = ring.Close() }()
	for _, want := range []string{"CKR_PIN_INCORRECT", "has refused the PIN", "has refused the PIN"} {
		_, err := ring.Sign(t.Context(), []byte("data"))
		if _, ok := Away(err); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q: %v", want, err)
		}
	}
	if err := os.WriteFile(file.Passphrase, []byte(softHSMPIN), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Sign(t.Context(), []byte("data")); err != nil {
		t.Errorf("with the right one: %v", err)
	}
}

// Another key than that of the certificate is not away: it is wrong.
func TestTokenWrongKey(t *testing.T) {
	hsm := newSoftHSM(t)
	file := hsm.certified(hsm.key("EC:edwards25519", "stable", "01"))
	file.PKCS11 = hsm.key("EC:edwards25519", "other", "02").PKCS11
	ring := openKeys(t, file)
	defer func() { _ = ring.Close() }()
	_, err := ring.Sign(t.Context(), []byte("data"))
	key, ok := errors.AsType[*KeyError](err)
	if !ok || key.Away || !strings.Contains(err.Error(), "is not the one in the token") {
		t.Errorf("other key: %v", err)
	}
	// Nor does a token whose public key nobody can read get away with it.
	secret := ring.members[0].remote.secret
	ring.members[0].remote.secret = openUnchecked(t, file)
	defer func() { _ = secret.Close() }()
	_, err = ring.Sign(t.Context(), []byte("data"))
	if key, ok := errors.AsType[*KeyError](err); !ok || key.Away || !strings.Contains(err.Error(), "another one") {
		t.Errorf("other key, found out late: %v", err)
	}
}

func openUnchecked(t *testing.T, file KeyFile) secret {
	t.Helper()
	key, err := openToken(&file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// What is not there is said to be away, with what is to be done.
func TestTokenAbsent(t *testing.T) {
	hsm := newSoftHSM(t)
	file := hsm.certified(hsm.key("EC:edwards25519", "stable", "01"))
	for name, change := range map[string]func(*KeyFile){
		"no token pkcs11:token=Nightly": func(f *KeyFile) { f.PKCS11 = strings.Replace(f.PKCS11, "Releases", "Nightly", 1) },
		"no secret key":                 func(f *KeyFile) { f.PKCS11 = strings.Replace(f.PKCS11, "stable", "beta", 1) },
		"cannot be loaded":              func(f *KeyFile) { f.PKCS11 = strings.Replace(f.PKCS11, "libsofthsm2", "none", 1) },
		"not installed":                 func(f *KeyFile) { f.Helper = "freshet-no-such-program" },
		"has ended":                     func(f *KeyFile) { f.Helper = "/bin/false" },
		"another protocol":              func(f *KeyFile) { f.Helper = "/bin/pwd" },
		"wants a PIN":                   func(f *KeyFile) { f.Passphrase = "" },
	} {
		changed := file
		change(&changed)
		ring := openKeys(t, changed)
		_, err := ring.Sign(t.Context(), []byte("data"))
		if _, ok := Away(err); !ok || !strings.Contains(err.Error(), name) {
			t.Errorf("want an error with %q: %v", name, err)
		}
		if err := ring.Close(); err != nil {
			t.Error(err)
		}
	}
}

// BenchmarkToken signs batches of 100 commits of 300 bytes with an ed25519 key.
func BenchmarkToken(b *testing.B) {
	hsm := newSoftHSM(b)
	ring := openKeys(b, hsm.certified(hsm.key("EC:edwards25519", "stable", "01")))
	defer func() { _ = ring.Close() }()
	benchmarkAll(b, ring, 100)
}
