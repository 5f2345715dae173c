package s3

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// TestEqualContent: what ends is compared, wherever reads end; what breaks off is not
// taken for its end.
func TestEqualContent(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("0123456789abcdef", 5000) // 80,000 bytes: more than two reads
	cut := func(at int) io.Reader {
		return io.MultiReader(strings.NewReader(text[:at]), iotest.ErrReader(io.ErrUnexpectedEOF))
	}
	for name, c := range map[string]struct {
		a, b   io.Reader
		equal  bool
		failed bool
	}{
		"nothing":              {a: strings.NewReader(""), b: strings.NewReader(""), equal: true},
		"same":                 {a: strings.NewReader(text), b: strings.NewReader(text), equal: true},
		"a buffer full":        {a: strings.NewReader(text[:32<<10]), b: strings.NewReader(text[:32<<10]), equal: true},
		"in pieces":            {a: iotest.HalfReader(strings.NewReader(text)), b: iotest.DataErrReader(strings.NewReader(text)), equal: true},
		"shorter":              {a: strings.NewReader(text[:40_000]), b: strings.NewReader(text)},
		"longer":               {a: strings.NewReader(text), b: strings.NewReader(text[:32<<10])},
		"another end":          {a: strings.NewReader(text), b: strings.NewReader(text[:len(text)-1] + "x")},
		"cut":                  {a: cut(40_000), b: strings.NewReader(text), failed: true},
		"cut where it ends":    {a: cut(len(text)), b: strings.NewReader(text), failed: true},
		"cut with a full read": {a: cut(32 << 10), b: strings.NewReader(text[:32<<10]), failed: true},
		"the other is cut":     {a: strings.NewReader(text), b: cut(40_000), failed: true},
		"both cut alike":       {a: cut(40_000), b: cut(40_000), failed: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			equal, err := equalContent(c.a, c.b)
			if equal != c.equal || (err != nil) != c.failed {
				t.Errorf("%v, %v; want %v, failed: %v", equal, err, c.equal, c.failed)
			}
		})
	}
}
