package httpcache

import "testing"

func TestParseContentRange(t *testing.T) {
	for field, want := range map[string]struct {
		part Range
		size int64
	}{
		"bytes 0-0/1":     {Range{0, 1}, 1},
		"bytes 5-9/100":   {Range{5, 5}, 100},
		"Bytes 90-99/100": {Range{90, 10}, 100},
		"bytes 0-9223372036854775806/9223372036854775807": {Range{0, 1<<63 - 1}, 1<<63 - 1},
	} {
		if part, size, ok := ParseContentRange(field); !ok || part != want.part || size != want.size {
			t.Errorf("%q: %v of %d, %v", field, part, size, ok)
		}
	}
	for _, field := range []string{
		"", "bytes", "bytes */100", "bytes 0-9/*", "bytes 9-5/100", "bytes 0-100/100", "bytes -5/100", "bytes 5-/100", "bytes=0-9/100",
		"lines 0-9/100", "bytes 0-9/100x", "bytes  0-9/100", "bytes 0-9/10/10", "bytes +1-9/100", "bytes 0-99999999999999999999/99999999999999999999",
	} {
		if part, size, ok := ParseContentRange(field); ok {
			t.Errorf("%q: %v of %d", field, part, size)
		}
	}
}

// What is read back says what was written.
func FuzzParseContentRange(f *testing.F) {
	f.Add("bytes 5-9/100")
	f.Add("bytes */100")
	f.Fuzz(func(t *testing.T, field string) {
		part, size, ok := ParseContentRange(field)
		if !ok {
			return
		}
		if part.Length < 1 || part.Start < 0 || part.Start > size-part.Length {
			t.Fatalf("%q: %v of %d", field, part, size)
		}
		if again, n, ok := ParseContentRange(part.ContentRange(size)); !ok || again != part || n != size {
			t.Errorf("%q: %v of %d, then %v of %d", field, part, size, again, n)
		}
	})
}
