package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"freshet/api/directorapi"
	"freshet/api/mirrorapi"
	"freshet/internal/config"
	"freshet/internal/mirror/desired"
	"freshet/internal/mirror/kind"
	"freshet/internal/mirror/presets"
	"freshet/internal/mirror/project"
	"freshet/internal/mirror/room"
)

// DesiredConfig is the table [mirror.desired]: the control side that says what this mirror
// carries. A change of it needs a restart. "freshet mirror setup" writes it.
type DesiredConfig struct {
	// URL is that of the admin listener of the director that has the mirror in its catalogue.
	// Default: none, and nobody is followed.
	URL string `toml:"url"`

	// TokenFile is a file with the mirror's token. Required with url.
	TokenFile string `toml:"token-file"`

	// CA is a file with the certificates that vouch for that of the director, in PEM.
	// Default: those of the system.
	CA string `toml:"ca"`

	// Mirror is the name of this mirror in the catalogue. Default: node.
	Mirror string `toml:"mirror"`

	// Key is the public key that signs what is desired: "ed25519:…". What no other has
	// signed is believed. Required with url.
	Key string `toml:"key"`
}

// Validate returns every problem of the table; see [config.Validator].
func (c DesiredConfig) Validate() []config.Problem {
	if c.URL == "" {
		return nil
	}
	var problems []config.Problem
	if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		problems = append(problems, config.Problem{Key: "url", Message: fmt.Sprintf("want http://host:port or https://host:port, got %q", c.URL)})
	}
	if c.TokenFile == "" {
		problems = append(problems, config.Missing("token-file", "the token of this mirror in the director's catalogue"))
	}
	if _, err := directorapi.ParseKey(c.Key); err != nil {
		problems = append(problems, config.Problem{Key: "key", Message: err.Error()})
	}
	return problems
}

// Desired is what the control side may say of a mirror: tables of its file, in which nothing
// of the box itself stands.
type Desired struct {
	// Limits are as in [Config].
	Limits LimitsConfig `toml:"limits"`

	// Keys are as in [Config].
	Keys map[string]string `toml:"keys"`

	// Projects are as in [Config]; their keys are names in Keys.
	Projects map[string]project.Config `toml:"projects"`
}

// Validate returns every problem of the tables; see [config.Validator].
func (d Desired) Validate() []config.Problem {
	c := Config{Directory: "/", TriggerKey: "of the box", Limits: d.Limits, Keys: d.Keys, Projects: d.Projects, Directors: make(map[string]DirectorConfig)}
	var problems []config.Problem
	for _, name := range slices.Sorted(maps.Keys(d.Projects)) {
		p := d.Projects[name]
		for _, director := range p.Directors {
			c.Directors[director] = DirectorConfig{URL: "http://of.the.box", TokenFile: "of the box"}
		}
		key := "projects." + name
		if p.TokenFile != "" {
			// It would go to a hub that is named beside it.
			problems = append(problems, config.Problem{Key: key + ".token-file", Message: "is a file of the box, and stands in the file of the box: secrets are not named here"})
		}
		files := false
		for i, file := range p.Keys {
			if _, text := d.Keys[file]; !text {
				files = true
				problems = append(problems, config.Problem{
					Key: fmt.Sprintf("%s.keys[%d]", key, i), Message: fmt.Sprintf("there is no key %q in [mirror.keys]: files of the box are not named here", file),
				})
			}
		}
		preset, err := presets.Find(p.Preset)
		if p.Preset != "" && err != nil || files {
			continue // told
		}
		if _, err := kind.LoadKeys(kind.Format(p.Over(preset.Config).Kind), p.Keys, d.Keys); err != nil {
			problems = append(problems, config.Problem{Key: key + ".keys", Message: err.Error()})
		}
	}
	return append(problems, c.Validate()...)
}

// desiredFile is the TOML of desired settings.
type desiredFile struct {
	// Mirror is all that may stand there.
	Mirror Desired `toml:"mirror"`
}

// ParseDesired reads settings that are desired of a mirror. The error says all that is wrong with them, by line
// and key.
func ParseDesired(settings string) (Desired, error) {
	if len(settings) > directorapi.MaxDesired {
		return Desired{}, fmt.Errorf("the settings have more than %d bytes", directorapi.MaxDesired)
	}
	var file desiredFile
	err := config.Decode("settings", []byte(settings), &file)
	return file.Mirror, err
}

// CheckDesired says what is wrong with settings that are desired of a mirror, of which
// nothing else is known.
func CheckDesired(settings string) error {
	_, err := ParseDesired(settings)
	return err
}

// with returns c with what is desired: each setting that c leaves out is the desired one, so that the file
// of the box goes before. Tables of projects that say neither what the project is nor are
// desired count for nothing.
func (c Config) with(d Desired) Config {
	c.Limits = c.Limits.over(d.Limits)
	keys := maps.Clone(d.Keys)
	if keys == nil {
		keys = make(map[string]string)
	}
	maps.Copy(keys, c.Keys)
	projects := make(map[string]project.Config, len(c.Projects)+len(d.Projects))
	for name, p := range d.Projects {
		projects[name] = c.Projects[name].Over(p)
	}
	for name, p := range c.Projects {
		if _, both := projects[name]; !both && !p.Partial() {
			projects[name] = p
		}
	}
	c.Keys, c.Projects = keys, projects
	return c
}

// over returns c with every limit that it leaves out taken from d.
func (c LimitsConfig) over(d LimitsConfig) LimitsConfig {
	return LimitsConfig{
		Bandwidth: cmp.Or(c.Bandwidth, d.Bandwidth), IO: cmp.Or(c.IO, d.IO), Syncs: cmp.Or(c.Syncs, d.Syncs),
		Connections: cmp.Or(c.Connections, d.Connections), DSCP: cmp.Or(c.DSCP, d.DSCP), Reserve: cmp.Or(c.Reserve, d.Reserve),
	}
}

// offer is what the control side desires; done is told what came of it.
type offer struct {
	desired Desired
	done    chan<- error
}

// begin puts the last good desired state under the file's settings, and makes who follows
// it. What cannot be used of it is left out: the files that are here are served when it can.
func (m *mirror) begin(ctx context.Context, local Config) (Config, error) {
	m.local = local
	if local.Desired.URL == "" {
		return local, nil
	}
	key, err := directorapi.ParseKey(local.Desired.Key)
	if err != nil {
		return local, err
	}
	token, err := os.ReadFile(local.Desired.TokenFile)
	if err != nil {
		return local, fmt.Errorf("desired: %w", err)
	}
	client, err := Trusting(m.env.HTTP, local.Desired.CA)
	if err != nil {
		return local, fmt.Errorf("desired: %w", err)
	}
	o := desired.Options{
		API: &directorapi.Client{Base: local.Desired.URL, Token: strings.TrimSpace(string(token)), HTTP: client},
		Key: key, Mirror: cmp.Or(local.Desired.Mirror, local.Node), Dir: m.state, Take: m.take, Log: m.log,
	}
	if o.Mirror == "" {
		return local, errors.New("desired: mirror: what is the mirror's name in the catalogue?")
	}
	cfg := local.with(Desired{})
	if o.Have, err = desired.Load(m.state, key, o.Mirror); err == nil && o.Have.Version > 0 {
		if m.wanted, err = ParseDesired(o.Have.Settings); err == nil {
			cfg = local.with(m.wanted)
			err = config.Check(cfg)
		}
		o.Refused = err
	}
	if err != nil {
		m.log.ErrorContext(ctx, "the last good desired state cannot be used: the mirror works by its file alone", slog.Any("error", err))
		m.wanted = Desired{}
		cfg = local.with(m.wanted)
	}
	m.follower = desired.New(o)
	return cfg, nil
}

// take has the mirror work by desired settings. It is called by the follower.
func (m *mirror) take(ctx context.Context, settings string) error {
	d, err := ParseDesired(settings)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	select {
	case m.offers <- offer{d, done}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return <-done // whoever has the offer ends it
}

// accept applies an offer, unless it does not fit here.
func (m *mirror) accept(ctx context.Context, d Desired) error {
	cfg := m.local.with(d)
	if err := m.fits(cfg); err != nil {
		return err
	}
	if err := config.Check(cfg); err != nil {
		return err
	}
	if err := m.apply(ctx, cfg); err != nil {
		return err
	}
	m.wanted = d
	return nil
}

// fits is an error if what a configuration says itself is more than the disk.
func (m *mirror) fits(cfg Config) error {
	space, err := m.store.Space()
	if err != nil {
		return err
	}
	size := int64(space.Bytes)
	need := cfg.WithDefaults().Limits.Reserve.Of(size)
	for _, p := range cfg.Projects {
		need += int64(p.HotSet)
	}
	if need > size {
		return fmt.Errorf("it does not fit: reserve and hot sets are %s, the disk has %s", room.Size(need), room.Size(size))
	}
	return nil
}

// silence is how long the control side may be away until that is worth a warning.
const silence = 15 * time.Minute

// desiredFindings judges how it is with the control side.
func (m *mirror) desiredFindings(now time.Time) []mirrorapi.Finding {
	if m.follower == nil {
		return nil
	}
	st := m.follower.State()
	from := m.cfg().Desired.URL
	var found []mirrorapi.Finding
	add := func(level, do, format string, args ...any) {
		found = append(found, mirrorapi.Finding{Level: level, About: "desired state", Message: fmt.Sprintf(format, args...), Do: do})
	}
	switch {
	case desired.IsRevoked(st.Err):
		add(mirrorapi.LevelError, "if this box is to be a mirror of it: freshet mirror setup, with a new claim",
			"%s does not know this mirror's token any more; what is here is served as before, by version %d: %v", from, st.Version, st.Err)
	case errors.Is(st.Err, directorapi.ErrDesiredSignature), errors.Is(st.Err, directorapi.ErrDesiredMirror), errors.Is(st.Err, desired.ErrOlder), errors.Is(st.Err, desired.ErrDiffers):
		add(mirrorapi.LevelError, "ask who runs it; after a change of its key: freshet mirror setup, with a new claim",
			"what %s sends is not believed, version %d goes on: %v", from, st.Version, st.Err)
	case st.Err != nil && now.Sub(st.Heard) > silence:
		add(mirrorapi.LevelWarning, "see whether it can be reached from here; nothing is lost meanwhile",
			"%s does not answer, version %d goes on: %v", from, st.Version, st.Err)
	}
	if st.Refused > 0 {
		add(mirrorapi.LevelError, "freshet director desired set, with what this box can take", "version %d is not taken, version %d goes on: %s", st.Refused, st.Version, st.Why)
	}
	if len(found) == 0 {
		add(mirrorapi.LevelOK, "", "version %d of %s is followed", st.Version, from)
	}
	return found
}
