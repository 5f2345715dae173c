package setup_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"freshet/api/directorapi"
	"freshet/internal/control"
	"freshet/internal/durable"
	"freshet/internal/mirror/desired"
	"freshet/internal/mirror/setup"
	"freshet/internal/rsync"
)

// Variables of a process that sets up and is killed on the way.
const (
	killAt    = "FRESHET_TEST_KILL_AT"
	killClaim = "FRESHET_TEST_CLAIM"
	killTop   = "FRESHET_TEST_TOP"
)

func TestMain(m *testing.M) {
	if at, err := strconv.Atoi(os.Getenv(killAt)); err == nil {
		claim, err := directorapi.ParseClaim(os.Getenv(killClaim))
		if err != nil {
			panic(err)
		}
		o := options(claim, os.Getenv(killTop))
		o.Fault = func(string, string) error {
			if at--; at < 0 {
				return errors.Join(syscall.Kill(os.Getpid(), syscall.SIGKILL), errors.New("was to be killed"))
			}
			return nil
		}
		if _, err := setup.Run(context.Background(), o); err != nil {
			panic(err)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func options(claim directorapi.Claim, top string) setup.Options {
	return setup.Options{
		Claim: claim, Directory: filepath.Join(top, "data"), Config: filepath.Join(top, "etc", "mirror.toml"),
		Rsync: rsync.Options{AnyVersion: true},
	}
}

// director redeems claims as a director does.
type director struct {
	*httptest.Server
	claim  directorapi.Claim
	public ed25519.PublicKey

	mu     sync.Mutex
	signed directorapi.SignedDesired
	token  string // of the box that has shown the claim
}

func newDirector(t *testing.T) *director {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	d := &director{public: public}
	if d.signed, err = (directorapi.Desired{Mirror: "box7", Version: 3, Settings: "[mirror.limits]\nsyncs = 3\n"}).Sign(private); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+directorapi.RedeemPath, func(w http.ResponseWriter, r *http.Request) {
		var req directorapi.Redemption
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			t.Error(err)
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if req.Secret != "fk_x" || d.token != "" && d.token != req.Token {
			w.WriteHeader(http.StatusConflict)
			_ = json.NewEncoder(w).Encode(directorapi.Error{Reason: "redeemed", Message: "another box"})
			return
		}
		d.token = req.Token
		_ = json.NewEncoder(w).Encode(directorapi.Redeemed{Mirror: "box7", Desired: &d.signed})
	})
	d.Server = httptest.NewServer(mux)
	t.Cleanup(d.Close)
	d.claim = directorapi.Claim{URL: d.URL, Mirror: "box7", Secret: "fk_x", Key: directorapi.FormatKey(public)}
	return d
}

// check looks whether all of a setup is there, and agrees.
func (d *director) check(t *testing.T, o setup.Options) {
	t.Helper()
	folder := filepath.Dir(o.Config)
	token, err := os.ReadFile(filepath.Join(folder, "mirror.token"))
	if err != nil {
		t.Fatal(err)
	}
	if control.Hash(strings.TrimSpace(string(token))) != d.token {
		t.Error("the director knows another token")
	}
	for _, name := range []string{"mirror.token", "mirror-ops.token"} {
		if info, err := os.Stat(filepath.Join(folder, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	ops, err := os.ReadFile(filepath.Join(folder, "mirror-ops.token"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(o.Config)
	if err != nil || !strings.Contains(string(text), control.Hash(strings.TrimSpace(string(ops)))) {
		t.Errorf("%s, %v", text, err)
	}
	state, err := durable.Open(filepath.Join(o.Directory, "state"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = state.Root.Close() }()
	if have, err := desired.Load(state, d.public, "box7"); err != nil || have.Version != 3 {
		t.Errorf("%+v, %v", have, err)
	}
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) != 3 {
		t.Errorf("%v, %v", entries, err)
	}
}

// A setup that is killed at any step is completed by the same command, as the same box.
func TestKilled(t *testing.T) {
	for at := 0; ; at++ {
		d := newDirector(t)
		top := t.TempDir()
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), killAt+"="+strconv.Itoa(at), killClaim+"="+d.claim.String(), killTop+"="+top)
		out, err := cmd.CombinedOutput()
		o := options(d.claim, top)
		exit, failed := errors.AsType[*exec.ExitError](err)
		if failed && exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("step %d: %v\n%s", at, err, out)
		}
		if _, err := os.Stat(o.Config); failed && err == nil {
			// The file is there last, and then all of it is.
			d.check(t, o)
		}
		if _, err := setup.Run(t.Context(), o); err != nil {
			t.Errorf("after it was killed at step %d: %v", at, err)
		} else {
			d.check(t, o)
		}
		if !failed {
			if at < 10 {
				t.Errorf("there are %d steps only", at)
			}
			t.Logf("%d steps", at)
			return
		}
	}
}

// What the director of a claim says is believed if the key of the claim has signed it for this
// mirror; a configuration of somebody else's is not replaced, and does not cost the claim.
func TestRefuses(t *testing.T) {
	d := newDirector(t)
	o := options(d.claim, t.TempDir())
	if err := errors.Join(os.MkdirAll(filepath.Dir(o.Config), 0o755), os.WriteFile(o.Config, []byte("[mirror]\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := setup.Run(t.Context(), o); !errors.Is(err, setup.ErrExists) || d.token != "" {
		t.Errorf("%v, the claim is shown: %v", err, d.token != "")
	}
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := directorapi.Desired{Mirror: "box7", Version: 9}.Sign(stranger)
	if err != nil {
		t.Fatal(err)
	}
	d.signed = forged
	o = options(d.claim, t.TempDir())
	if _, err := setup.Run(t.Context(), o); !errors.Is(err, directorapi.ErrDesiredSignature) {
		t.Error(err)
	}
	if _, err := os.Stat(o.Config); err == nil {
		t.Error("there is a configuration all the same")
	}
}

// A director whose certificate no public authority vouches for is believed with a file of those that
// do; the mirror is given that file, too.
func TestPrivateAuthority(t *testing.T) {
	d := newDirector(t)
	secure := httptest.NewTLSServer(d.Config.Handler)
	t.Cleanup(secure.Close)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	d.claim.URL = secure.URL
	o := options(d.claim, t.TempDir())
	if _, err := setup.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without the file: %v", err)
	}
	o.CA = filepath.Join(t.TempDir(), "authority.pem")
	if _, err := setup.Run(t.Context(), o); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := os.WriteFile(o.CA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r, err := setup.Run(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		kept := filepath.Join(filepath.Dir(o.Config), "mirror-ca.pem")
		if n := strings.Count(r.Config, "ca = "+strconv.Quote(kept)); n != 2 {
			t.Errorf("the configuration names it %d times:\n%s", n, r.Config)
		}
		if info, err := os.Stat(kept); err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("%v, %v", info, err)
		}
	}
}

// What root sets up for another user is that user's: the folder, and the token to read. The token for
// orders is root's.
func TestUser(t *testing.T) {
	name, root := "nobody", os.Geteuid() == 0
	if !root { // who can give nothing away sets up for himself
		me, err := user.Current()
		if err != nil {
			t.Fatal(err)
		}
		name = me.Username
	}
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	d := newDirector(t)
	top := t.TempDir()
	if err := os.Chmod(filepath.Dir(top), 0o755); err != nil { // everybody may come to what is in it
		t.Fatal(err)
	}
	o := options(d.claim, top)
	o.User = name
	for range 2 {
		if _, err := setup.Run(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]struct {
		mode       fs.FileMode
		mine, read bool // it belongs to the user; his group may read it
	}{
		o.Directory: {0o755, true, true},
		filepath.Join(o.Directory, "state", "desired.json"):       {0, true, true},
		filepath.Join(filepath.Dir(o.Config), "mirror.token"):     {0o640, !root, true},
		filepath.Join(filepath.Dir(o.Config), "mirror-ops.token"): {0o600, !root, !root},
	} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		st := info.Sys().(*syscall.Stat_t)
		mode := want.mode
		if !root && mode == 0o640 {
			mode = 0o600
		}
		if mode != 0 && info.Mode().Perm() != mode || (strconv.Itoa(int(st.Uid)) == u.Uid) != want.mine || (strconv.Itoa(int(st.Gid)) == u.Gid) != want.read {
			t.Errorf("%s is %v of %d:%d", path, info.Mode(), st.Uid, st.Gid)
		}
	}
	if root {
		parent := filepath.Join(t.TempDir(), "locked") // of one user alone
		if err := os.Mkdir(parent, 0o700); err != nil {
			t.Fatal(err)
		}
		locked := options(d.claim, parent)
		locked.User = name
		if _, err := setup.Run(t.Context(), locked); err == nil || !strings.Contains(err.Error(), "user "+name+" cannot enter ") {
			t.Errorf("%v", err)
		}
		if _, err := os.Stat(filepath.Dir(locked.Config)); err == nil {
			t.Error("something was written all the same")
		}
	}
	o = options(d.claim, t.TempDir())
	o.User = "no-such-user"
	if _, err := setup.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "no-such-user") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(o.Config); err == nil {
		t.Error("there is a configuration all the same")
	}
}

// Where no service can be begun, it is said what is to be done.
func TestByHand(t *testing.T) {
	if _, err := os.Stat("/run/systemd/system"); err == nil && os.Geteuid() == 0 {
		t.Log("systemd runs here: nothing is left to do by hand, and nothing is installed by a test")
		return
	}
	d := newDirector(t)
	o := options(d.claim, t.TempDir())
	o.Service = true
	var said []string
	o.Say = func(line string) { said = append(said, line) }
	if _, err := setup.Run(t.Context(), o); !errors.Is(err, setup.ErrByHand) {
		t.Errorf("%v", err)
	}
	text := strings.Join(said, "\n")
	for _, part := range []string{"service: ", "sudo freshet mirror setup CLAIM --directory " + o.Directory, "freshet mirror --config " + o.Config} {
		if !strings.Contains(text, part) {
			t.Errorf("it is not said: %s\n%s", part, text)
		}
	}
	o.Service = false
	d.check(t, o)
}
