package flatpak

import "freshet/internal/gvariant"

// RepoInfo is what a repository says about itself to its clients. Empty fields
// are left out.
type RepoInfo struct {
	Title         string
	Comment       string // one line
	Description   string // a paragraph
	Homepage      string // URL
	Icon          string // URL
	DefaultBranch string
	RedirectURL   string // clients change to this URL for good

	CollectionID string

	// DeployCollectionID tells clients to take over the collection id;
	// DeploySideloadCollectionID only for repositories on removable media.
	DeployCollectionID         bool
	DeploySideloadCollectionID bool

	// GPGKeys are public OpenPGP keys in binary form, which replace those a client
	// has: for the change of keys.
	GPGKeys []byte

	AuthenticatorName    string
	AuthenticatorInstall *bool       // nil says nothing
	AuthenticatorOptions [][2]string // key and value

	// Mode is the mode of the repository as its config has it; empty means
	// archive-z2, which is the only one that is served.
	Mode string

	// TombstoneCommits is core.tombstone-commits of the config.
	TombstoneCommits bool
}

// keyLastModified is when a summary was made: t, big-endian, seconds since 1970.
const keyLastModified = "ostree.summary.last-modified"

// KeySerial is the number of the publish in the metadata of summary.idx and of the
// compat summary: t, big-endian. Clients know nothing of it and pass over it.
const KeySerial = "freshet.serial"

// xaCacheVersion says that subsummaries have all that a writer needs.
const xaCacheVersion = 2

// summaryMetadata is the metadata of summary.idx and, with more, of the compat
// summary.
func (o *BuildOptions) summaryMetadata() gvariant.Dict {
	d := o.Repo.summaryMetadata(o.Now)
	if o.Serial > 0 {
		d.Set(KeySerial, gvariant.Uint64BE(o.Serial))
	}
	return d
}

func (r *RepoInfo) summaryMetadata(now uint64) gvariant.Dict {
	var d gvariant.Dict
	str := func(key, value string) {
		if value != "" {
			d.Set(key, gvariant.String(value))
		}
	}
	mode := r.Mode
	if mode == "" {
		mode = "archive-z2"
	}
	str("ostree.summary.mode", mode)
	d.Set("ostree.summary.tombstone-commits", gvariant.Bool(r.TombstoneCommits))
	d.Set("ostree.summary.indexed-deltas", gvariant.Bool(true))
	d.Set(keyLastModified, gvariant.Uint64BE(now))
	str("ostree.summary.collection-id", r.CollectionID)
	str("xa.title", r.Title)
	str("xa.comment", r.Comment)
	str("xa.description", r.Description)
	str("xa.homepage", r.Homepage)
	str("xa.icon", r.Icon)
	str("xa.redirect-url", r.RedirectURL)
	str("xa.default-branch", r.DefaultBranch)
	switch {
	case r.DeployCollectionID:
		str("ostree.deploy-collection-id", r.CollectionID)
	case r.DeploySideloadCollectionID:
		str("xa.deploy-collection-id", r.CollectionID)
	}
	str("xa.authenticator-name", r.AuthenticatorName)
	if r.AuthenticatorInstall != nil {
		d.Set("xa.authenticator-install", gvariant.Bool(*r.AuthenticatorInstall))
	}
	d.Set("xa.cache-version", gvariant.Uint32(xaCacheVersion))
	for _, option := range r.AuthenticatorOptions {
		str("xa.authenticator-options."+option[0], option[1])
	}
	if len(r.GPGKeys) > 0 {
		d.Set("xa.gpg-keys", gvariant.Bytes(r.GPGKeys))
	}
	return d
}
