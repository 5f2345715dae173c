package source

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReader(t *testing.T) {
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		r    io.Reader
		want error
	}{
		"ends":         {strings.NewReader("abc"), nil},
		"ends at once": {iotest.DataErrReader(strings.NewReader("abc")), nil},
		"breaks":       {io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(broken)), broken},
	} {
		t.Run(name, func(t *testing.T) {
			r := Reader{R: test.r}
			data, err := io.ReadAll(&r)
			if string(data) != "abc" || r.N != 3 || !errors.Is(err, test.want) || !errors.Is(r.Err, test.want) {
				t.Errorf("read %q, %d bytes, %v; remembers %v", data, r.N, err, r.Err)
			}
		})
	}
}
