// Package setup makes a mirror of a fresh box that has a claim: it looks whether the box can be
// one, shows the claim to the director, and writes what a mirror begins with.
//
//	CONFIG's folder / mirror.token       the mirror's token, which the director knows by its hash
//	CONFIG's folder / mirror-ops.token   that of whoever gives orders on this box
//	CONFIG's folder / mirror-ca.pem      who vouches for the director, if that is not a public authority
//	DIRECTORY / state / desired.json     the first desired state                      desired
//	CONFIG                               the configuration: with it, all is done
//
// They are written in this order, each as a whole. After a crash in between the same claim is shown again, with
// the same token, and the rest is done.
package setup

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"freshet/api/directorapi"
	"freshet/internal/control"
	"freshet/internal/durable"
	"freshet/internal/mirror"
	"freshet/internal/mirror/desired"
	"freshet/internal/mirror/generation"
	"freshet/internal/rsync"
)

// Names of the files beside the configuration.
const (
	tokenName = "mirror.token"
	opsName   = "mirror-ops.token"
	caName    = "mirror-ca.pem"
)

// Prefixes of tokens.
const (
	mirrorPrefix = "fm_"
	opsPrefix    = "fw_"
)

// Options say what is to be set up.
type Options struct {
	Claim directorapi.Claim
	// Directory is for the projects, Config the path of the configuration.
	Directory, Config string
	// Listen is where the mirror serves, Admin where it takes orders. Empty: ":8083", "127.0.0.1:9600".
	Listen, Admin string
	// Rsync is how rsync is looked for.
	Rsync rsync.Options
	// CA is a file with the certificates that vouch for the director's; empty: the system's.
	CA string
	// User is who the mirror runs as, and is given what it needs; empty: whoever sets up.
	User string
	// Service has it run as a service of systemd, as ServiceUser unless User says otherwise.
	Service bool
	// HTTP makes requests; nil: the default client.
	HTTP *http.Client
	// DryRun only looks, and says what would be written.
	DryRun bool
	// Say is told what is done, in a line each; nil: nobody is.
	Say func(line string)
	// Fault is called before each step that changes something, see [durable.Dir]. For tests.
	Fault func(step, name string) error
}

// Result is what there is afterwards.
type Result struct {
	// Config is the text of the configuration.
	Config string
	// OpsToken is the file with the token for orders on this box.
	OpsToken string
	// Version is that of the first desired state; 0: nothing is desired yet.
	Version int64
	// Runs says that a mirror runs in the directory.
	Runs bool
}

// ErrExists says that there is a configuration that says something else.
var ErrExists = errors.New("there is another configuration: move it away, or name another with --config")

// Run sets the box up. It may be repeated with the same claim, whatever came of it before.
func Run(ctx context.Context, o Options) (r Result, err error) {
	o.Listen, o.Admin = cmp.Or(o.Listen, ":8083"), cmp.Or(o.Admin, "127.0.0.1:9600")
	if o.Say == nil {
		o.Say = func(string) {}
	}
	if o.HTTP == nil {
		o.HTTP = http.DefaultClient
	}
	if o.HTTP, err = mirror.Trusting(o.HTTP, o.CA); err != nil {
		return r, err
	}
	for _, path := range []*string{&o.Directory, &o.Config} {
		if *path, err = filepath.Abs(*path); err != nil {
			return r, err
		}
		if !utf8.ValidString(*path) || strings.ContainsFunc(*path, unicode.IsControl) {
			return r, fmt.Errorf("%q: such a path cannot be written into a configuration: name another folder", *path)
		}
	}
	if err := o.look(ctx); err != nil {
		return r, err
	}
	byHand := error(nil)
	if o.Service {
		o.User = cmp.Or(o.User, ServiceUser)
		if byHand = obstacle(); byHand == nil {
			if err := o.fits(ctx); err != nil {
				return r, err
			}
		}
	}
	if o.Service && byHand == nil && !o.DryRun {
		byHand = o.prepare(ctx)
	}
	if o.User != "" && byHand == nil && (!o.DryRun || !o.Service) {
		if err := o.reach(ctx); err != nil { // before the claim is used up
			return r, err
		}
	}
	folder := filepath.Dir(o.Config)
	r.OpsToken = filepath.Join(folder, opsName)
	if o.DryRun {
		ops, err := readToken(r.OpsToken)
		if err != nil {
			return r, err
		}
		r.Config = o.config(cmp.Or(ops, "a token that is made then"))
		switch {
		case byHand != nil:
			o.Say("service: " + byHand.Error() + ": it will be said what is to be done by hand")
		case o.Service:
			o.Say("service: " + unitName + " will run as user " + o.User)
		}
		return r, o.checkConfig(r.Config, ops != "")
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return r, needsRoot(err)
	}
	dir, err := durable.Open(folder)
	if err != nil {
		return r, needsRoot(err)
	}
	dir.Fault = o.Fault
	defer func() { err = errors.Join(err, dir.Root.Close()) }()
	if _, err := dir.Sweep("."); err != nil { // what a crash has left
		return r, err
	}
	token, err := ownToken(dir, tokenName, mirrorPrefix)
	if err != nil {
		return r, err
	}
	ops, err := ownToken(dir, opsName, opsPrefix)
	if err != nil {
		return r, err
	}
	r.Config = o.config(ops)
	if err := o.checkConfig(r.Config, true); err != nil { // before the claim is used up
		return r, err
	}
	if o.CA != "" {
		text, err := os.ReadFile(o.CA)
		if err == nil {
			err = dir.WriteFile(caName, text, 0o644)
		}
		if err != nil {
			return r, err
		}
	}
	signed, err := o.redeem(ctx, token)
	if err != nil {
		return r, err
	}
	if signed != nil {
		if r.Version, r.Runs, err = o.keep(ctx, *signed); err != nil {
			return r, err
		}
	}
	if byHand == nil {
		if err := os.MkdirAll(o.Directory, 0o755); err != nil {
			return r, needsRoot(err)
		}
		if err := o.own(folder); err != nil {
			return r, err
		}
	}
	if err := dir.WriteFile(filepath.Base(o.Config), []byte(r.Config), 0o644); err != nil {
		return r, err
	}
	o.Say("wrote " + o.Config)
	switch {
	case byHand != nil:
		o.Say("service: " + byHand.Error() + "; so:")
		for _, line := range o.ByHand() {
			o.Say("  " + line)
		}
		return r, ErrByHand
	case o.Service:
		return r, o.begin(ctx)
	}
	return r, nil
}

// needsRoot says of a lack of rights what to do about it.
func needsRoot(err error) error {
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		return fmt.Errorf("%w: again with sudo, or with --config and --directory in folders of your own", err)
	}
	return err
}

// look finds out whether the box can be a mirror.
func (o *Options) look(ctx context.Context) error {
	at := o.Directory
	for {
		if _, err := os.Stat(at); err == nil || at == "/" {
			break
		}
		at = filepath.Dir(at)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); err != nil {
		return fmt.Errorf("directory %s: %w", o.Directory, err)
	}
	if st.Flags&unix.ST_RDONLY != 0 {
		return fmt.Errorf("directory %s: the file system is read only", o.Directory)
	}
	free := float64(st.Bavail) * float64(st.Bsize)
	o.Say(fmt.Sprintf("disk: %.1f GB are free at %s", free/1e9, at))
	if st.Files > 0 && st.Ffree < 10_000 {
		return fmt.Errorf("directory %s: the file system has %d inodes left: a mirror needs one for each file", o.Directory, st.Ffree)
	}
	switch program, err := rsync.Find(ctx, o.Rsync); {
	case errors.Is(err, rsync.ErrOld):
		o.Say("rsync: " + err.Error() + " (by --any-rsync); what comes by https can be mirrored all the same")
	case err != nil:
		o.Say("rsync: " + err.Error() + "; what comes by https can be mirrored all the same")
	default:
		o.Say("rsync: version " + program.Version().String())
	}
	return o.lookAtDirector(ctx)
}

// maxSkew is how far the clocks of box and director may be apart: signatures and certificates have times.
const maxSkew = 5 * time.Minute

// lookAtDirector finds out whether the director is there, and compares clocks.
func (o *Options) lookAtDirector(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(o.Claim.URL, "/")+"/-/healthy", nil)
	if err != nil {
		return err
	}
	resp, err := o.HTTP.Do(req)
	if err != nil {
		return fmt.Errorf("the director of the claim cannot be reached: %w", err)
	}
	_ = resp.Body.Close() // what it says is not wanted
	o.Say("director: " + o.Claim.URL + " answers")
	if strings.HasPrefix(o.Claim.URL, "http:") {
		o.Say("director: the claim's URL is http: whoever is on the way can read the claim")
	}
	there, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return nil // it does not say what time it is
	}
	skew := time.Since(there).Round(time.Second)
	if skew.Abs() > maxSkew {
		return fmt.Errorf("the clock of this box is %v off from the director's: set it (timedatectl set-ntp true), then again", skew)
	}
	o.Say("clock: as the director's")
	return nil
}

// config is the text of the configuration. It is the same each time, with the same token.
func (o *Options) config(ops string) string {
	var b strings.Builder
	folder, ca := filepath.Dir(o.Config), ""
	if o.CA != "" {
		ca = fmt.Sprintf("\nca = %q", filepath.Join(folder, caName))
	}
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Written by freshet mirror setup. What this box carries is said by its director")
	line("# (freshet director desired set %s); settings that are added here go before that.", o.Claim.Mirror)
	line("[admin]\nlisten = %q\n", o.Admin)
	line("[mirror]\ndirectory = %q\nlisten = %q\nnode = %q\n", o.Directory, o.Listen, o.Claim.Mirror)
	line("[mirror.desired]\nurl = %q\nmirror = %q\ntoken-file = %q\nkey = %q%s\n", o.Claim.URL, o.Claim.Mirror, filepath.Join(folder, tokenName), o.Claim.Key, ca)
	line("[mirror.directors.main]\nurl = %q\nmirror = %q\ntoken-file = %q%s\n", o.Claim.URL, o.Claim.Mirror, filepath.Join(folder, tokenName), ca)
	if o.Rsync.AnyVersion {
		line("[mirror.rsync]\nany-version = true\n")
	}
	line("[mirror.control.clients.ops]\ntoken = %q", control.Hash(ops))
	return b.String()
}

// checkConfig is an error if there is another configuration. One of the same text is what a setup before has
// written.
func (o *Options) checkConfig(text string, known bool) error {
	there, err := os.ReadFile(o.Config)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !known || !bytes.Equal(there, []byte(text)):
		return fmt.Errorf("%s: %w", o.Config, ErrExists)
	}
	return nil
}

// readToken reads a token, empty if there is none.
func readToken(file string) (string, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(text)), err
}

// ownToken is the token in a file, which is made when it is not there.
func ownToken(dir durable.Dir, name, prefix string) (string, error) {
	text, err := dir.Root.ReadFile(name)
	if err == nil && strings.HasPrefix(string(text), prefix) {
		return strings.TrimSpace(string(text)), nil
	}
	if err == nil {
		return "", fmt.Errorf("%s holds no token of Freshet: move it away", name)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	token, _ := control.NewToken(prefix)
	return token, dir.WriteFile(name, []byte(token+"\n"), 0o600)
}

// redeem shows the claim, and returns the desired state, nil if there is none.
func (o *Options) redeem(ctx context.Context, token string) (*directorapi.SignedDesired, error) {
	if err := o.fault("redeem"); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	api := directorapi.Client{Base: o.Claim.URL, HTTP: o.HTTP}
	got, err := api.Redeem(ctx, directorapi.Redemption{Mirror: o.Claim.Mirror, Secret: o.Claim.Secret, Token: control.Hash(token)})
	if err != nil {
		return nil, err
	}
	o.Say("claim: this box is mirror " + o.Claim.Mirror)
	return got.Desired, o.fault("redeemed")
}

func (o *Options) fault(step string) error {
	if o.Fault == nil {
		return nil
	}
	return o.Fault(step, "")
}

// keep checks the first desired state and lays it where the mirror finds it.
func (o *Options) keep(ctx context.Context, signed directorapi.SignedDesired) (version int64, runs bool, err error) {
	key, err := directorapi.ParseKey(o.Claim.Key)
	if err != nil {
		return 0, false, err
	}
	d, err := signed.Open(key, o.Claim.Mirror)
	if err != nil {
		return 0, false, fmt.Errorf("what the director says is not believed: %w", err)
	}
	if err := mirror.CheckDesired(d.Settings); err != nil {
		return 0, false, fmt.Errorf("version %d of what is desired cannot be taken by this version of Freshet: %w", d.Version, err)
	}
	if err := os.MkdirAll(filepath.Dir(o.Directory), 0o755); err != nil {
		return 0, false, needsRoot(err)
	}
	store, err := generation.Open(ctx, o.Directory, generation.Options{}) // it is a mirror's, and not in use
	if errors.Is(err, durable.ErrInUse) {
		if !o.Service { // which has it take over what is new
			o.Say("a mirror runs in " + o.Directory + ": it follows what is desired when it is started again")
		}
		return d.Version, true, nil
	}
	if err != nil {
		return 0, false, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	state, err := durable.Open(filepath.Join(o.Directory, "state"))
	if err != nil {
		return 0, false, err
	}
	state.Fault = o.Fault
	defer func() { err = errors.Join(err, state.Root.Close()) }()
	before, err := desired.Load(state, key, o.Claim.Mirror)
	if err == nil && before.Version >= d.Version {
		return before.Version, false, nil // a mirror was here, and knows more
	}
	if err := desired.Keep(state, signed); err != nil {
		return 0, false, err
	}
	o.Say(fmt.Sprintf("desired: version %d", d.Version))
	return d.Version, false, nil
}
