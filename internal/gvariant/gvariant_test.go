package gvariant_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"freshet/internal/gvariant"
	"freshet/internal/peertest"
)

// TestSpecification encodes examples of the GVariant specification, chapter
// "Serialisation Examples", whose bytes are printed there.
func TestSpecification(t *testing.T) {
	str, i32 := gvariant.String, gvariant.Int32
	tests := []struct {
		name  string
		value gvariant.Value
		want  string
	}{
		{"string", str("hello world"), "68656c6c6f20776f726c6400"},
		{"maybe string", gvariant.Just(str("hello world")), "68656c6c6f20776f726c640000"},
		{"nothing", gvariant.Nothing("s"), ""},
		{"array of booleans", gvariant.Array("b", gvariant.Bool(true), gvariant.Bool(false), gvariant.Bool(false), gvariant.Bool(true), gvariant.Bool(true)), "0100000101"},
		{"string and number", gvariant.Tuple(str("foo"), i32(-1)), "666f6f00ffffffff04"},
		{
			"dictionary", gvariant.Array("{si}", gvariant.DictEntry(str("hi"), i32(-2)), gvariant.DictEntry(str("bye"), i32(-1))),
			"686900" + "00" + "feffffff" + "03" + "000000" + "62796500" + "ffffffff" + "04" + "09" + "15",
		},
		{"strings", gvariant.Strings([]string{"i", "can", "has", "strings?"}), "690063616e006861730073" + "7472696e67733f00" + "02060a13"},
		{"nested tuple", gvariant.Tuple(gvariant.Tuple(gvariant.Byte('i')), gvariant.Tuple(gvariant.Strings(nil))), "69"},
		{"unit", gvariant.Tuple(), "00"},
		{"variant", gvariant.Variant(str("x")), "78000073"},
		{"padded tuple", gvariant.Tuple(gvariant.Byte(1), gvariant.Uint32(2), gvariant.Byte(3)), "010000000200000003000000"},
		{"empty array", gvariant.Strings(nil), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := hex.EncodeToString(tt.value.Data()); got != tt.want {
				t.Errorf("encoded %s\nwant    %s", got, tt.want)
			}
			data, err := hex.DecodeString(tt.want)
			if err != nil {
				t.Fatal(err)
			}
			v, err := gvariant.Parse(tt.value.Type(), data)
			if err != nil {
				t.Fatal(err)
			}
			if again := rebuild(v); !again.Equal(v) {
				t.Errorf("rebuilt %x", again.Data())
			}
		})
	}
}

func TestMalformed(t *testing.T) {
	tests := []struct{ name, typ, data string }{
		{"no type", "", ""},
		{"two types", "ss", "0000"},
		{"open tuple", "(s", "00"},
		{"variant as key", "{vs}", "00"},
		{"half a dict entry", "{s}", "00"},
		{"truth value 2", "b", "02"},
		{"short number", "u", "010203"},
		{"long number", "y", "0102"},
		{"string without end", "s", "6869"},
		{"empty string", "s", ""},
		{"NUL in a string", "s", "68006900"},
		{"not UTF-8", "s", "ff00"},
		{"surrogate", "s", "eda08000"},
		{"not a path", "o", "2f612f00"},
		{"not a signature", "g", "7b00"},
		{"unit that is not zero", "()", "01"},
		{"padding in a tuple", "(yu)", "0101000002000000"},
		{"padding at the end", "(uy)", "0100000002000001"},
		{"array of halves", "aq", "010203"},
		{"array whose offsets begin beyond", "as", "690009"},
		{"array whose offsets go back", "as", "6900690004" + "02"},
		{"array with a hole", "as", "69006900" + "0204" + "00"},
		{"array with wide offsets", "as", strings.Repeat("69006900", 63) + "00" + strings.Repeat("0000", 10)},
		{"tuple whose offset is beyond", "(ss)", "690069000a"},
		{"tuple without offsets", "(ss)", ""},
		{"tuple with bytes left", "(su)", "6900000001000000aa02"},
		{"variant without type", "v", "69"},
		{"variant of no type", "v", "690000"},
		{"variant of two types", "v", "6900007373"},
		{"variant with bad content", "v", "020062"},
		{"maybe without end", "ms", "690001"},
		{"maybe of a wrong size", "mu", "01"},
		{"wrong fixed tuple", "(uu)", "0100000002"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			data, err := hex.DecodeString(tt.data)
			if err != nil {
				t.Fatal(err)
			}
			if v, err := gvariant.Parse(tt.typ, data); !errors.Is(err, gvariant.ErrMalformed) {
				t.Errorf("error = %v, value %x", err, v.Data())
			}
		})
	}
}

func TestNestingIsBounded(t *testing.T) {
	v := gvariant.Byte(1)
	for range 100 {
		v = gvariant.Variant(v)
	}
	if _, err := gvariant.Parse("v", v.Data()); err != nil {
		t.Errorf("100 variants: %v", err)
	}
	for range 100 {
		v = gvariant.Variant(v)
	}
	if _, err := gvariant.Parse("v", v.Data()); err == nil {
		t.Error("200 variants are accepted")
	}
	if gvariant.ValidType(strings.Repeat("a", 10_000) + "y") {
		t.Error("a type of 10000 arrays is accepted")
	}
	// Deep types around little data must not cost more than in proportion.
	deep := "a" + strings.Repeat("(", 120) + "b" + strings.Repeat(")", 120)
	if _, err := gvariant.Parse(deep, make([]byte, 1<<20)); !errors.Is(err, gvariant.ErrMalformed) {
		t.Errorf("error = %v, want the budget to be exceeded", err)
	}
}

func TestWrongTypesReadAsZero(t *testing.T) {
	for _, v := range []gvariant.Value{{}, gvariant.String("s"), gvariant.Byte(1), gvariant.Tuple(), gvariant.Strings([]string{"a"})} {
		if v.Is("s") || v.Str() == "" {
			if !v.Is("y") && (v.Uint64() != 0 || v.Byte() != 0) || v.Bool() || v.Int64() != 0 || v.Uint32() != 0 ||
				v.Uint32BE() != 0 || v.Uint64BE() != 0 || v.Double() != 0 || v.Bytes() != nil {
				t.Errorf("%s reads as something", v.Type())
			}
		}
		if c := v.Child(7); c.Type() != "" {
			t.Errorf("%s has a child of type %s", v.Type(), c.Type())
		}
		if c := v.Child(-1); c.Type() != "" {
			t.Errorf("%s has a child before the first", v.Type())
		}
		if _, ok := v.Lookup("s"); ok {
			t.Errorf("%s has a key", v.Type())
		}
		if _, ok := v.Search("s"); ok {
			t.Errorf("%s has a key", v.Type())
		}
		if u := v.Unwrap(); u.Type() != "" {
			t.Errorf("%s holds %s", v.Type(), u.Type())
		}
		for range v.Unwrap().Children() {
			t.Error("nothing has children")
		}
	}
}

func TestNumbers(t *testing.T) {
	for _, tt := range []struct {
		v    gvariant.Value
		u, i int64
	}{
		{gvariant.Byte(200), 200, 0},
		{gvariant.Uint16(65535), 65535, 0},
		{gvariant.Int16(-3), 0, -3},
		{gvariant.Uint32(1 << 31), 1 << 31, 0},
		{gvariant.Int32(-1 << 31), 0, -1 << 31},
		{gvariant.Uint64(1 << 40), 1 << 40, 0},
		{gvariant.Int64(-1 << 60), 0, -1 << 60},
	} {
		if tt.v.Uint64() != uint64(tt.u) || tt.v.Int64() != tt.i {
			t.Errorf("%s: %d, %d", tt.v.Type(), tt.v.Uint64(), tt.v.Int64())
		}
	}
	if v := gvariant.Uint64BE(1); v.Uint64BE() != 1 || v.Uint64() != 1<<56 {
		t.Error("big-endian t")
	}
	if v := gvariant.Uint32BE(1); v.Uint32BE() != 1 || v.Uint32() != 1<<24 {
		t.Error("big-endian u")
	}
	if v := gvariant.Double(-1.5); v.Double() != -1.5 {
		t.Error("double")
	}
}

func TestStringsAreMadeValid(t *testing.T) {
	v := gvariant.String("a\x00b\xffc")
	if _, err := gvariant.Parse("s", v.Data()); err != nil {
		t.Error(err)
	}
	if v.Str() != "a\uFFFDb\uFFFDc" {
		t.Errorf("%q", v.Str())
	}
}

func TestSearch(t *testing.T) {
	for _, n := range []int{0, 1, 7, 300, 70_000 / 8} {
		b := gvariant.ArrayBuilder{Elem: "{sv}"}
		for i := range n {
			b.AppendTuple(gvariant.String(fmt.Sprintf("key%06d", 2*i)), gvariant.Variant(gvariant.Int32(int32(i))))
		}
		v := b.Value()
		if v.Len() != n {
			t.Fatalf("length %d, want %d", v.Len(), n)
		}
		for i := range n {
			if at, ok := v.Search(fmt.Sprintf("key%06d", 2*i)); !ok || at != i {
				t.Fatalf("n=%d: key %d found at %d, %v", n, i, at, ok)
			}
			if at, ok := v.Search(fmt.Sprintf("key%06d", 2*i+1)); ok || at != i+1 {
				t.Fatalf("n=%d: key after %d found at %d, %v", n, i, at, ok)
			}
		}
		if got, ok := v.Lookup("key000012"); ok != (n > 6) || ok && got.Int64() != 6 {
			t.Errorf("n=%d: lookup gives %v, %v", n, got, ok)
		}
	}
}

func TestDictKeepsOrder(t *testing.T) {
	var d gvariant.Dict
	d.Set("z", gvariant.String("last"))
	d.Set("a", gvariant.Strings([]string{"x", "y"}))
	d.Set("m", gvariant.Uint64BE(7))
	parsed, err := gvariant.Parse("a{sv}", d.Value().Data())
	if err != nil {
		t.Fatal(err)
	}
	e, err := gvariant.DictOf(parsed)
	if err != nil {
		t.Fatal(err)
	}
	before := e.Clone()
	e.Set("a", gvariant.Bool(true))
	e.Set("new", gvariant.Byte(1))
	if !e.Delete("m") || e.Delete("m") {
		t.Error("delete tells the wrong thing")
	}
	var keys []string
	for k := range e.All() {
		keys = append(keys, k)
	}
	if got := strings.Join(keys, " "); got != "z a new" {
		t.Errorf("keys %s", got)
	}
	if s, ok := e.Str("z"); !ok || s != "last" {
		t.Errorf("z = %q, %v", s, ok)
	}
	if _, ok := e.Str("a"); ok {
		t.Error("a truth value is a string")
	}
	if before.Value().Equal(e.Value()) || !before.Value().Equal(parsed) {
		t.Error("the clone changed too")
	}
	if list, ok := before.Strings("a"); !ok || len(list) != 2 {
		t.Errorf("a = %v, %v", list, ok)
	}
	e.Sort()
	for k := range e.All() {
		if k != "a" {
			t.Errorf("first after sorting: %s", k)
		}
		break
	}
	if _, err := gvariant.DictOf(gvariant.String("")); !errors.Is(err, gvariant.ErrMalformed) {
		t.Errorf("dictionary of a string: %v", err)
	}
}

func TestAppendRaw(t *testing.T) {
	a, b := gvariant.ArrayBuilder{Elem: "(st)"}, gvariant.ArrayBuilder{Elem: "(st)"}
	a.Grow(5000, 100_000)
	for i := range 5000 {
		s, n := gvariant.String(strings.Repeat("x", i%13)), gvariant.Uint64(uint64(i))
		a.AppendRaw(gvariant.Tuple(s, n).Data())
		b.AppendTuple(s, n)
	}
	if a.Len() != 5000 || !a.Value().Equal(b.Value()) {
		t.Error("elements that were serialised before give another array")
	}
}

// rebuild makes a value anew from what its accessors say.
func rebuild(v gvariant.Value) gvariant.Value {
	children := func() []gvariant.Value {
		var list []gvariant.Value
		for c := range v.Children() {
			list = append(list, rebuild(c))
		}
		if v.Len() != len(list) {
			panic("Len and Children disagree on " + v.Type())
		}
		for i := range list {
			if !v.Child(i).Equal(list[i]) {
				panic("Child and Children disagree on " + v.Type())
			}
		}
		return list
	}
	switch v.Type()[0] {
	case 'b':
		return gvariant.Bool(v.Bool())
	case 'y':
		return gvariant.Byte(v.Byte())
	case 'n':
		return gvariant.Int16(int16(v.Int64()))
	case 'q':
		return gvariant.Uint16(uint16(v.Uint64()))
	case 'i':
		return gvariant.Int32(int32(v.Int64()))
	case 'u':
		return gvariant.Uint32(v.Uint32())
	case 'x':
		return gvariant.Int64(v.Int64())
	case 't':
		return gvariant.Uint64(v.Uint64())
	case 's':
		return gvariant.String(v.Str())
	case 'v':
		return gvariant.Variant(rebuild(v.Unwrap()))
	case 'm':
		if list := children(); len(list) == 1 {
			return gvariant.Just(list[0])
		}
		return gvariant.Nothing(v.Type()[1:])
	case 'a':
		return gvariant.Array(v.Type()[1:], children()...)
	case '(':
		return gvariant.Tuple(children()...)
	case '{':
		list := children()
		return gvariant.DictEntry(list[0], list[1])
	}
	return v // d, h, o and g have no constructor or do not keep their bits
}

var basicTypes = []string{"b", "y", "n", "q", "i", "u", "x", "t", "s"}

func drawType(t *rapid.T, depth int) string {
	kinds := []string{"v", "v", "a", "a", "a", "m", "(", "(", "(", "a{"}
	if depth < 4 {
		kinds = append(kinds, basicTypes...)
	}
	if depth <= 0 { // also inside variants of variants
		kinds = basicTypes
	}
	switch kind := rapid.SampledFrom(kinds).Draw(t, "type"); kind {
	case "a", "m":
		return kind + drawType(t, depth-1)
	case "a{":
		return "a{" + rapid.SampledFrom(basicTypes).Draw(t, "key") + drawType(t, depth-1) + "}"
	case "(":
		for range rapid.IntRange(0, 4).Draw(t, "members") {
			kind += drawType(t, depth-1)
		}
		return kind + ")"
	default:
		return kind
	}
}

func drawValue(t *rapid.T, typ string, depth int) gvariant.Value {
	n := rapid.Uint64().Draw(t, "number")
	switch typ[0] {
	case 'b':
		return gvariant.Bool(n&1 == 1)
	case 'y':
		return gvariant.Byte(byte(n))
	case 'n':
		return gvariant.Int16(int16(n))
	case 'q':
		return gvariant.Uint16(uint16(n))
	case 'i':
		return gvariant.Int32(int32(n))
	case 'u':
		return gvariant.Uint32(uint32(n))
	case 'x':
		return gvariant.Int64(int64(n))
	case 't':
		return gvariant.Uint64(n)
	case 's':
		return gvariant.String(rapid.StringOfN(rapid.RuneFrom([]rune("abcä ")), 0, 90, -1).Draw(t, "string"))
	case 'v':
		return gvariant.Variant(drawValue(t, drawType(t, depth-1), depth-1))
	case 'm':
		if n&1 == 1 {
			return gvariant.Nothing(typ[1:])
		}
		return gvariant.Just(drawValue(t, typ[1:], depth-1))
	case 'a':
		b := gvariant.ArrayBuilder{Elem: typ[1:]}
		for range rapid.IntRange(0, 6).Draw(t, "length") {
			b.Append(drawValue(t, typ[1:], depth-1))
		}
		return b.Value()
	case '(', '{':
		var values []gvariant.Value
		for i := 1; i < len(typ)-1; {
			end := i + 1
			for !gvariant.ValidType(typ[i:end]) {
				end++
			}
			values = append(values, drawValue(t, typ[i:end], depth-1))
			i = end
		}
		if typ[0] == '{' {
			return gvariant.DictEntry(values[0], values[1])
		}
		return gvariant.Tuple(values...)
	}
	panic("no such type " + typ)
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := drawValue(t, drawType(t, 4), 4)
		parsed, err := gvariant.Parse(v.Type(), v.Data())
		if err != nil {
			t.Fatalf("%s %x: %v", v.Type(), v.Data(), err)
		}
		if again := rebuild(parsed); !again.Equal(v) {
			t.Fatalf("%s %x became %x", v.Type(), v.Data(), again.Data())
		}
	})
}

// TestGLibAgrees asks the reference implementation about values that we made:
// they must be in normal form, and serialised anew from their text by GLib give
// the same bytes. About the same values with a byte changed, both must agree
// whether they are in normal form.
func TestGLibAgrees(t *testing.T) {
	python := peertest.GLib(t)
	type question struct {
		v      gvariant.Value
		broken bool
	}
	var questions []question
	var script strings.Builder
	gen := rapid.Custom(func(t *rapid.T) gvariant.Value { return drawValue(t, drawType(t, 4), 4) })
	for seed := range 600 {
		v := gen.Example(seed)
		questions = append(questions, question{v: v})
		fmt.Fprintf(&script, "%s %x.\n", v.Type(), v.Data())
		for i := range min(len(v.Data()), 12) {
			data := bytes.Clone(v.Data())
			at := len(data) - 1 - i
			if i%2 == 1 { // the tables of offsets are at the end, so look there more often
				at = (seed*31 + i*17) % len(data)
			}
			data[at] += byte(1 + i%5)
			_, err := gvariant.Parse(v.Type(), data)
			broken := question{broken: err != nil}
			if err == nil {
				broken.v, err = gvariant.Parse(v.Type(), data)
				if err != nil {
					t.Fatal(err)
				}
			}
			questions = append(questions, broken)
			fmt.Fprintf(&script, "%s %x.\n", v.Type(), data)
		}
	}
	file := t.TempDir() + "/questions"
	writeFile(t, file, script.String())
	out := peertest.Run(t, "", nil, python, "-c", `
import sys
from gi.repository import GLib
for line in open(sys.argv[1]):
    typ, data = line.strip().rstrip(".").split(" ")
    v = GLib.Variant.new_from_bytes(GLib.VariantType(typ), GLib.Bytes.new(bytes.fromhex(data)), False)
    if not v.is_normal_form():
        print("broken")
        continue
    w = GLib.Variant.parse(GLib.VariantType(typ), v.print_(True), None, None)
    print(w.get_data_as_bytes().get_data().hex() + ".")
`, file)
	answers := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(answers) != len(questions) {
		t.Fatalf("%d answers to %d questions", len(answers), len(questions))
	}
	asked := strings.Split(script.String(), "\n")
	broken := 0
	for i, q := range questions {
		want := hex.EncodeToString(q.v.Data()) + "."
		if q.broken {
			want = "broken"
			broken++
		}
		if answers[i] != want {
			t.Errorf("%s\nGLib says %s\nwe say    %s", asked[i], answers[i], want)
		}
	}
	t.Logf("%d values, %d of them broken", len(questions), broken)
}

func FuzzParse(f *testing.F) {
	for _, v := range []gvariant.Value{
		gvariant.Tuple(gvariant.String("s"), gvariant.Uint64(1), gvariant.Strings([]string{"a", "b"})),
		gvariant.Array("{sv}", gvariant.DictEntry(gvariant.String("k"), gvariant.Variant(gvariant.Strings([]string{"x", ""})))),
		gvariant.Variant(gvariant.Variant(gvariant.Tuple(gvariant.Byte(1), gvariant.Int32(2)))),
		gvariant.Just(gvariant.String("m")),
	} {
		f.Add(v.Type(), v.Data())
	}
	f.Add("(a{sv}aya(say)sstayay)", []byte("0123456789"))
	f.Fuzz(func(t *testing.T, typ string, data []byte) {
		v, err := gvariant.Parse(typ, data)
		if err != nil {
			if !errors.Is(err, gvariant.ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if len(data) > 4096 {
			return
		}
		if again := rebuild(v); !again.Equal(v) {
			t.Fatalf("%s %x became %x", typ, data, again.Data())
		}
		v.Lookup("k")
		v.Search("k")
	})
}

func BenchmarkArrayOfTuples(b *testing.B) {
	b.ReportAllocs()
	sum := bytes.Repeat([]byte{7}, 32)
	for b.Loop() {
		a := gvariant.ArrayBuilder{Elem: "(say)"}
		for range 4000 {
			a.AppendTuple(gvariant.String("a-file-name.txt"), gvariant.Bytes(sum))
		}
		b.SetBytes(int64(len(a.Value().Data())))
	}
}

func BenchmarkParse(b *testing.B) {
	a := gvariant.ArrayBuilder{Elem: "(say)"}
	for range 4000 {
		a.AppendTuple(gvariant.String("a-file-name.txt"), gvariant.Bytes(bytes.Repeat([]byte{7}, 32)))
	}
	v := a.Value()
	b.SetBytes(int64(len(v.Data())))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := gvariant.Parse(v.Type(), v.Data()); err != nil {
			b.Fatal(err)
		}
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
