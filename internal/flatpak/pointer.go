package flatpak

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"freshet/internal/keyfile"
)

// ErrPointerFile is wrapped by every error about a malformed .flatpakrepo or
// .flatpakref file.
var ErrPointerFile = errors.New("malformed flatpak file")

// maxPointerFile bounds these files; flatpak reads up to 10 MiB of one over HTTP.
const maxPointerFile = 10 << 20

const (
	groupRepo = "Flatpak Repo"
	groupRef  = "Flatpak Ref"
)

// RepoFile is a .flatpakrepo file: all that a client needs to add a repository.
// Empty fields are left out.
type RepoFile struct {
	Title, URL, Homepage, Comment, Description, Icon string

	DefaultBranch string
	Subset        string // show this part of the repository only
	GPGKey        []byte // public keys in binary form

	// CollectionID is taken over by clients (DeployCollectionID in the file).
	CollectionID string

	AuthenticatorName string
}

// Bytes returns the file.
func (f *RepoFile) Bytes() ([]byte, error) {
	w := pointerWriter{group: groupRepo}
	w.set("Title", f.Title)
	w.set("Url", f.URL)
	w.set("Homepage", f.Homepage)
	w.set("Comment", f.Comment)
	w.set("Description", f.Description)
	w.set("Icon", f.Icon)
	w.set("DefaultBranch", f.DefaultBranch)
	w.set("Subset", f.Subset)
	w.set("DeployCollectionID", f.CollectionID)
	w.set("AuthenticatorName", f.AuthenticatorName)
	w.set("GPGKey", base64.StdEncoding.EncodeToString(f.GPGKey))
	return w.bytes(f.URL)
}

// ParseRepoFile reads a .flatpakrepo file. Keys it does not know are no error.
func ParseRepoFile(data []byte) (RepoFile, error) {
	r, err := readPointer(data, groupRepo)
	if err != nil {
		return RepoFile{}, err
	}
	f := RepoFile{
		Title: r.get("Title"), URL: r.get("Url"), Homepage: r.get("Homepage"),
		Comment: r.get("Comment"), Description: r.get("Description"), Icon: r.get("Icon"),
		DefaultBranch: r.get("DefaultBranch"), Subset: r.get("Subset"),
		CollectionID: r.collectionID(), AuthenticatorName: r.get("AuthenticatorName"),
	}
	f.GPGKey, err = r.key()
	return f, err
}

// RefFile is a .flatpakref file: all that a client needs to install one
// application or runtime. Empty fields are left out.
type RefFile struct {
	Ref               Ref // its architecture is not written: clients take their own
	Title             string
	URL               string // of the repository
	SuggestRemoteName string
	RuntimeRepo       string // URL of the .flatpakrepo that has the runtime
	Homepage          string
	Comment           string
	Description       string
	Icon              string
	GPGKey            []byte // public keys in binary form
	CollectionID      string // DeployCollectionID in the file
}

// Bytes returns the file.
func (f *RefFile) Bytes() ([]byte, error) {
	w := pointerWriter{group: groupRef}
	w.set("Title", f.Title)
	w.set("Name", f.Ref.ID)
	w.set("Branch", f.Ref.Branch)
	w.set("Url", f.URL)
	w.set("SuggestRemoteName", f.SuggestRemoteName)
	w.set("Homepage", f.Homepage)
	w.set("Comment", f.Comment)
	w.set("Description", f.Description)
	w.set("Icon", f.Icon)
	w.set("RuntimeRepo", f.RuntimeRepo)
	w.set("DeployCollectionID", f.CollectionID)
	if w.err == nil {
		w.err = w.file.SetBool(groupRef, "IsRuntime", f.Ref.Kind == Runtime)
	}
	w.set("GPGKey", base64.StdEncoding.EncodeToString(f.GPGKey))
	return w.bytes(f.URL)
}

// ParseRefFile reads a .flatpakref file. Keys it does not know are no error.
func ParseRefFile(data []byte) (RefFile, error) {
	r, err := readPointer(data, groupRef)
	if err != nil {
		return RefFile{}, err
	}
	f := RefFile{
		Ref:   Ref{Kind: App, ID: r.get("Name"), Branch: r.get("Branch")},
		Title: r.get("Title"), URL: r.get("Url"), SuggestRemoteName: r.get("SuggestRemoteName"),
		RuntimeRepo: r.get("RuntimeRepo"), Homepage: r.get("Homepage"), Comment: r.get("Comment"),
		Description: r.get("Description"), Icon: r.get("Icon"), CollectionID: r.collectionID(),
	}
	if err := CheckID(f.Ref.ID); err != nil {
		return RefFile{}, fmt.Errorf("%w: %w", ErrPointerFile, err)
	}
	runtime, err := r.file.Bool(groupRef, "IsRuntime", false)
	if err != nil {
		return RefFile{}, fmt.Errorf("%w: %w", ErrPointerFile, err)
	}
	if runtime {
		f.Ref.Kind = Runtime
	}
	f.GPGKey, err = r.key()
	return f, err
}

// pointerWriter sets keys until the first error.
type pointerWriter struct {
	group string
	file  keyfile.File
	err   error
}

func (w *pointerWriter) set(key, value string) {
	if w.err == nil && value != "" {
		w.err = w.file.Set(w.group, key, value)
	}
}

func (w *pointerWriter) bytes(url string) ([]byte, error) {
	if w.err == nil && url == "" {
		w.err = errors.New("it has no Url")
	}
	if w.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPointerFile, w.err)
	}
	return w.file.Bytes(), nil
}

type pointerReader struct {
	group string
	file  *keyfile.File
}

func readPointer(data []byte, group string) (pointerReader, error) {
	if len(data) > maxPointerFile {
		return pointerReader{}, fmt.Errorf("%w: %d bytes", ErrPointerFile, len(data))
	}
	file, err := keyfile.Parse(data)
	if err != nil {
		return pointerReader{}, fmt.Errorf("%w: %w", ErrPointerFile, err)
	}
	r := pointerReader{group: group, file: file}
	if r.get("Url") == "" {
		return pointerReader{}, fmt.Errorf("%w: no Url in group %s", ErrPointerFile, group)
	}
	return r, nil
}

func (r *pointerReader) get(key string) string {
	value, _ := r.file.Get(r.group, key)
	return value
}

// collectionID also takes the name the key had at first.
func (r *pointerReader) collectionID() string {
	if id := r.get("DeployCollectionID"); id != "" {
		return id
	}
	return r.get("CollectionID")
}

func (r *pointerReader) key() ([]byte, error) {
	text := strings.TrimSpace(r.get("GPGKey"))
	if text == "" {
		return nil, nil
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%w: GPGKey: %w", ErrPointerFile, err)
	}
	return key, nil
}
