package inventory_test

import (
	"slices"
	"testing"

	"freshet/internal/inventory"

	"pgregory.net/rapid"
)

func holders() *rapid.Generator[[]inventory.Holder] {
	return rapid.Map(rapid.SliceOfNDistinct(rapid.Uint16Range(0, 300), 0, 20, rapid.ID), func(in []uint16) []inventory.Holder {
		out := make([]inventory.Holder, len(in))
		for i, h := range in {
			out[i] = inventory.Holder(h)
		}
		slices.Sort(out)
		return out
	})
}

// Sets do what lists of holders do, and equal ones are the same.
func TestSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := holders().Draw(t, "a"), holders().Draw(t, "b")
		s, o := inventory.SetOf(a...), inventory.SetOf(b...)
		if got := slices.Collect(s.All()); !slices.Equal(got, a) || s.Len() != len(a) {
			t.Fatalf("all of %v are %v, %d", a, got, s.Len())
		}
		both := slices.DeleteFunc(slices.Clone(a), func(h inventory.Holder) bool { return !slices.Contains(b, h) })
		if s.And(o) != inventory.SetOf(both...) {
			t.Fatalf("%v and %v have %v in common", a, b, slices.Collect(s.And(o).All()))
		}
		if s.Within(o) != (len(both) == len(a)) {
			t.Fatalf("%v within %v: %t", a, b, s.Within(o))
		}
		h := inventory.Holder(rapid.Uint16Range(0, 400).Draw(t, "h"))
		if s.Has(h) != slices.Contains(a, h) {
			t.Fatalf("%v has %d: %t", a, h, s.Has(h))
		}
		if with := s.With(h); !with.Has(h) || with.Without(h) != s.Without(h) || s.Has(h) && with != s {
			t.Fatalf("%v with %d is %v", a, h, slices.Collect(with.All()))
		}
	})
}
