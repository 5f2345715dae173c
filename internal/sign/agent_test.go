package sign

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"freshet/internal/peertest"
	"freshet/internal/sign/agent"
)

// socket is that of the agent of the home.
func (g *gnupg) socket() string { return g.dir("agent-socket") }

// dir is one of the places that gpgconf lists.
func (g *gnupg) dir(name string) string {
	out := peertest.Run(g.t, "", []string{"GNUPGHOME=" + g.home}, "gpgconf", "--list-dirs", name)
	return strings.TrimSpace(string(out))
}

// key makes a key, and returns the file with its public part.
func (g *gnupg) key(algorithm, passphrase string) string {
	g.t.Helper()
	user := algorithm + " <key@example.org>"
	g.run("--passphrase", passphrase, "--quick-generate-key", user, algorithm, "sign", "never")
	return write(g.t, "public.gpg", g.run("--export", "="+user))
}

// agentCommand sends the agent a command, starting it unless it runs.
func (g *gnupg) agentCommand(command string) {
	g.t.Helper()
	out := peertest.Run(g.t, "", []string{"GNUPGHOME=" + g.home}, "gpg-connect-agent", command, "/bye")
	if !bytes.HasSuffix(out, []byte("OK\n")) {
		g.t.Fatalf("%s: %s", command, out)
	}
}

// killAgent ends the agent and waits until it is gone.
func (g *gnupg) killAgent() {
	g.t.Helper()
	out := peertest.Run(g.t, "", []string{"GNUPGHOME=" + g.home}, "gpg-connect-agent", "--no-autostart", "GETINFO pid", "/bye")
	text, _, _ := strings.Cut(strings.TrimPrefix(string(out), "D "), "\n")
	pid, err := strconv.Atoi(text)
	if err != nil {
		g.t.Fatalf("no pid of the agent: %s", out)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		g.t.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); <-time.After(5 * time.Millisecond) {
		if stat, err := os.ReadFile("/proc/" + text + "/stat"); err != nil || bytes.Contains(stat, []byte(") Z ")) {
			return
		}
	}
	g.t.Fatal("the agent does not end")
}

// The agent signs with each kind of key that we say it does, over one connection
// to the socket that allows little more, and gpg accepts that; the secret part never leaves it.
func TestAgentSigns(t *testing.T) {
	g := newGnuPG(t)
	for _, algorithm := range []string{"rsa3072", "ed25519", "nistp256", "nistp384", "nistp521"} {
		t.Run(algorithm, func(t *testing.T) {
			ring := openKeys(t, KeyFile{Path: g.key(algorithm, ""), Agent: g.dir("agent-extra-socket")})
			defer func() { _ = ring.Close() }()
			if !ring.Remote() {
				t.Error("it is not remote")
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
				if i == 0 {
					out := g.run("--status-fd", "1", "--verify", write(t, "sig", signatures[0]), write(t, "data", messages[i]))
					if !strings.Contains(string(out), "VALIDSIG "+ring.Keys()[0].Fingerprint) {
						t.Errorf("gpg says:\n%s", out)
					}
				}
				verifyWith(t, ring, messages[i], signatures)
			}
		})
	}
}

func verifyWith(t *testing.T, signer Signer, data []byte, signatures [][]byte) {
	t.Helper()
	verifier, err := NewVerifier(publicKeys(t, signer))
	if err != nil {
		t.Fatal(err)
	}
	if len(signatures) != len(signer.Keys()) {
		t.Errorf("%d signatures of %d keys", len(signatures), len(signer.Keys()))
	}
	for i, signature := range signatures {
		if key, err := verifier.Verify(data, signature); err != nil || key.Fingerprint != signer.Keys()[i].Fingerprint {
			t.Errorf("signature %d: %v, %v", i, key, err)
		}
	}
}

// The key is away while its agent is, and back with it: without a new start of
// ours.
func TestAgentComesBack(t *testing.T) {
	g := newGnuPG(t)
	ring := openKeys(t, KeyFile{Path: g.key("ed25519", ""), Agent: g.socket()})
	defer func() { _ = ring.Close() }()
	for range 2 {
		signatures, err := ring.Sign(t.Context(), []byte("data"))
		if err != nil {
			t.Fatal(err)
		}
		verifyWith(t, ring, []byte("data"), signatures)
		g.killAgent()
		_, err = ring.Sign(t.Context(), []byte("data"))
		if away, ok := Away(err); !ok || away.Key != ring.Keys()[0].ID {
			t.Errorf("without an agent: %v", err)
		}
		g.agentCommand("GETINFO version")
	}
	// Between two signatures the agent may be another one.
	if _, err := ring.Sign(t.Context(), []byte("data")); err != nil {
		t.Fatal(err)
	}
	g.killAgent()
	g.agentCommand("GETINFO version")
	if _, err := ring.Sign(t.Context(), []byte("data")); err != nil {
		t.Errorf("with another agent: %v", err)
	}
}

// A key whose passphrase nobody enters is away until somebody does.
func TestAgentLocked(t *testing.T) {
	g := newGnuPG(t)
	conf := "allow-preset-passphrase\npinentry-program /bin/false\n"
	if err := os.WriteFile(filepath.Join(g.home, "gpg-agent.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	ring := openKeys(t, KeyFile{Path: g.key("ed25519", "secret"), Agent: g.socket()})
	defer func() { _ = ring.Close() }()
	g.agentCommand("RELOADAGENT") // it forgets what it knew from making the key
	_, err := ring.Sign(t.Context(), []byte("data"))
	if _, ok := Away(err); !ok {
		t.Errorf("locked: %v", err)
	}
	if _, refused := errors.AsType[*agent.Error](err); !refused {
		t.Errorf("not the agent's own words: %v", err)
	}
	grip := strings.Split(string(g.run("--with-colons", "--with-keygrip", "--list-keys")), "\ngrp:::::::::")[1][:40]
	g.agentCommand("PRESET_PASSPHRASE " + grip + " -1 736563726574")
	if _, err := ring.Sign(t.Context(), []byte("data")); err != nil {
		t.Errorf("unlocked: %v", err)
	}
}

// A key that the agent does not have, and a fingerprint that the file does not
// have, are told apart: the first may come.
func TestAgentWithoutTheKey(t *testing.T) {
	g, other := newGnuPG(t), newGnuPG(t)
	file := other.key("rsa2048", "")
	g.key("ed25519", "")
	ring := openKeys(t, KeyFile{Path: file, Agent: g.socket()})
	defer func() { _ = ring.Close() }()
	_, err := ring.Sign(t.Context(), []byte("data"))
	if _, ok := Away(err); !ok || !strings.Contains(err.Error(), "No secret key") {
		t.Errorf("another agent: %v", err)
	}
	const wrong = "0123456789ABCDEF0123456789ABCDEF01234567"
	_, err = Open(KeyFile{Path: file, Agent: g.socket(), Fingerprint: wrong})
	if _, away := Away(err); away || err == nil || !strings.Contains(err.Error(), wrong) || !strings.Contains(err.Error(), ring.Keys()[0].Fingerprint) {
		t.Errorf("wrong fingerprint: %v", err)
	}
	same, err := Open(KeyFile{Path: file, Agent: g.socket(), Fingerprint: strings.ToLower(ring.Keys()[0].Fingerprint)})
	if err != nil || len(same.Keys()) != 1 {
		t.Errorf("right fingerprint: %v", err)
	}
}

// An agent that does not answer holds nobody up for longer than the timeout,
// and a caller who leaves is no fault of the key.
func TestAgentHangs(t *testing.T) {
	g := newGnuPG(t)
	file := g.key("ed25519", "")
	ring := openKeys(t, KeyFile{Path: file, Agent: silentSocket(t), Timeout: 50 * time.Millisecond})
	defer func() { _ = ring.Close() }()
	_, err := ring.Sign(t.Context(), []byte("data"))
	if _, ok := Away(err); !ok || !strings.Contains(err.Error(), "50ms") {
		t.Errorf("hangs: %v", err)
	}
	patient := openKeys(t, KeyFile{Path: file, Agent: silentSocket(t)})
	defer func() { _ = patient.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	_, err = patient.Sign(ctx, []byte("data"))
	if _, away := Away(err); away || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// BenchmarkAgent signs batches of 100 commits of 300 bytes with an ed25519 key.
func BenchmarkAgent(b *testing.B) {
	g := newGnuPG(b)
	ring := openKeys(b, KeyFile{Path: g.key("ed25519", ""), Agent: g.socket()})
	defer func() { _ = ring.Close() }()
	benchmarkAll(b, ring, 100)
}
