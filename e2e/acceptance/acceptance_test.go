package acceptance

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

// known is a step of which it is known what becomes of it.
type known struct{ outcomes *map[string]Outcome }

func (k known) Run(_ context.Context, _ Options, names []string, tell func(string, Outcome)) error {
	for _, name := range names {
		if o, ok := (*k.outcomes)[name]; ok {
			tell(name, o)
		}
	}
	return nil
}

// What did not run has not passed.
func TestOutcomes(t *testing.T) {
	s := &seen{}
	s.see(event{Action: "output", Output: "    x_test.go:5: needs curl\n"}, "sub")
	s.see(event{Action: "attr", Key: "kills", Value: "50 of 50"}, "sub")
	s.see(event{Action: "skip"}, "sub")
	s.see(event{Action: "pass", Elapsed: 2}, "")
	var never *seen
	step := known{&map[string]Outcome{"good": {}, "bad": {Failed: true, Said: "why"}, "skipped": s.outcome("T", ""), "none": never.outcome("T", "no such package")}}
	in := func(names ...string) (list []Proof) {
		for _, name := range names {
			list = append(list, Proof{step, name})
		}
		return list
	}
	var out bytes.Buffer
	err := Run(t.Context(), Options{}, []Check{
		{1, "all good", in("good")},
		{2, "one bad", in("good", "bad", "skipped")},
		{3, "one skipped", in("good", "skipped")},
		{4, "nothing", nil},
		{5, "not there", in("none")},
		{6, "not told of", in("good", "forgotten")},
	}, nil, &out)
	if err == nil || err.Error() != "4 of 6 checks failed" {
		t.Error(err)
	}
	for _, want := range []string{
		"all good ok 0.0", "one bad FAIL 2.0", "why", "one skipped skipped(T: sub: needs curl) 2.0", "sub kills: 50 of 50",
		"nothing FAIL 0.0", "not there FAIL 0.0", "no such package",
	} {
		if got := strings.Join(strings.Fields(out.String()), " "); !strings.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	all := []Check{{Number: 1}, {Number: 8}, {Number: 15}}
	list, err := choose(all, []string{"15", "8", "8"})
	if err != nil || len(list) != 2 || list[0].Number != 8 {
		t.Errorf("%v, %v", list, err)
	}
	if err := Run(context.Background(), Options{}, all, []string{"99"}, nil); err == nil {
		t.Error("check 99 ran")
	}
}

// Real tests, of which one is not there.
func TestTests(t *testing.T) {
	t.Chdir("../..")
	got := make(map[string]Outcome)
	names := []string{"TestChoose", "TestNothing"}
	if err := Tests("e2e/acceptance").Run(t.Context(), Options{}, names, func(name string, o Outcome) { got[name] = o }); err != nil {
		t.Fatal(err)
	}
	if o := got["TestChoose"]; o.Failed || o.Skipped != "" || len(got) != 2 || !got["TestNothing"].Failed {
		t.Errorf("%+v", got)
	}
}
