package kind

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"freshet/internal/apkindex"
	"freshet/internal/sign"
)

// Keys are the keys that a project is signed with. The zero value has none.
type Keys struct {
	// OpenPGP is nil if there are none.
	OpenPGP *sign.Verifier
	// APK are those of Alpine.
	APK apkindex.Keys
}

// maxKeyFile is the largest file of keys that is read.
const maxKeyFile = 16 << 20

// LoadKeys reads files of public keys: of Alpine "NAME.rsa.pub" as they lie in
// /etc/apk/keys, of all others OpenPGP keys, armored or binary. The error has all problems
// in it.
func LoadKeys(format Format, files []string) (Keys, error) {
	var keys Keys
	var problems []error
	for _, file := range files {
		if err := keys.load(format, file); err != nil {
			problems = append(problems, fmt.Errorf("key %s: %w", file, err))
		}
	}
	return keys, errors.Join(problems...)
}

func (k *Keys) load(format Format, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	switch {
	case format == Plain:
		return errors.New("a plain tree is not signed: choose another kind, or leave the key out")
	case format == Alpine:
		return k.APK.Add(filepath.Base(file), data)
	case k.OpenPGP != nil:
		return k.OpenPGP.Add(data)
	}
	k.OpenPGP, err = sign.NewVerifier(data)
	return err
}
