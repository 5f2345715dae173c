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
// /etc/apk/keys, of all others OpenPGP keys, armored or binary. Those that are in texts, by
// their names, are not read from files. The error has all problems in it.
func LoadKeys(format Format, files []string, texts map[string]string) (Keys, error) {
	var keys Keys
	var problems []error
	for _, file := range files {
		data, err := ReadKey(file, texts)
		if err == nil {
			err = keys.add(format, file, data)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("key %s: %w", file, err))
		}
	}
	return keys, errors.Join(problems...)
}

// ReadKey reads a file of public keys, or the text of that name.
func ReadKey(file string, texts map[string]string) ([]byte, error) {
	if text, ok := texts[file]; ok {
		return []byte(text), nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	return data, errors.Join(err, f.Close())
}

func (k *Keys) add(format Format, file string, data []byte) (err error) {
	switch {
	case format == Plain:
		return errors.New("a plain tree is not signed: choose another kind, or leave the key out")
	case format == Alpine:
		return k.APK.Add(filepath.Base(file), data)
	case k.OpenPGP != nil:
		err = k.OpenPGP.Add(data)
	default:
		k.OpenPGP, err = sign.NewVerifier(data)
	}
	if err != nil {
		return fmt.Errorf("want public keys of OpenPGP, armored or binary: %w", err)
	}
	return nil
}
