package probe

import (
	"strings"
	"testing"
	"time"
)

// script feeds a judge with one look each ten seconds. Of the steps, "." is a good look,
// "x" a bad one of the mirror's, "t" one that could be our own network's fault while
// others were reached since the step before, "u" one while nobody was. "|" is a scan.
// It returns what the judge says after each look: "+" if the way works, "-" if not.
func script(j *judge, now time.Time, steps string) string {
	var said strings.Builder
	inventory := time.Time{}
	reached := now
	for _, step := range steps {
		now = now.Add(10 * time.Second)
		if step == '|' {
			inventory = now
			continue
		}
		o := outcome{begun: now.Add(-time.Second), ended: now, inventory: inventory, renews: true}
		switch step {
		case 'x':
			o.why = Refused
		case 't':
			o.why = Frozen
		case 'u':
			o.why = Unreachable
		}
		if step != 'u' {
			reached = o.begun.Add(-time.Second)
		}
		o.reached = reached
		j.look(o)
		if j.Works {
			said.WriteByte('+')
		} else {
			said.WriteByte('-')
		}
	}
	return said.String()
}

func TestJudge(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ steps, want string }{
		"the first good look is enough":              {"..", "++"},
		"one that never worked":                      {"xxx.", "---+"},
		"one bad look is forgiven":                   {".x..........x....", "+++++++++++++++++"},
		"two in a row are not":                       {".xx", "++-"},
		"nor are three of ten":                       {".x.x.x", "+++++-"},
		"three of more than ten are":                 {".x....x....x...", "+++++++++++++++"},
		"back after three good looks and a scan":     {".xx.|..", "++---+"},
		"a scan may come late":                       {".xx.....|.", "++------+"},
		"not without a scan":                         {".xx......", "++-------"},
		"nor with one from before the last bad look": {".xx|x......", "++--------"},
		"one from after it will do":                  {".xx|...", "++---+"},
		"a bad look begins anew":                     {".xx..x|..|.", "++------+"},
		"the second time it takes six":               {".xx.|..xx.....|.", "++---++-" + "-----+"},
		"silence while others are reached":           {".tt", "++-"},
		"silence while nobody is":                    {".uuuuuu", "+++++++"},
		"and then somebody is":                       {".uuut", "++++-"},
		"and then it works again":                    {".uuu.....t", "++++++++++"},
		"one bad look, then nobody is":               {".x..uuu...", "++++++++++"},
		"silence every other time":                   {".t.t.t", "+++++-"},
		"what is no network's fault needs no proof":  {".ux", "++-"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var j judge
			if got := script(&j, time.Unix(1e9, 0), c.steps); got != c.want {
				t.Errorf("%s\n got %s\nwant %s", c.steps, got, c.want)
			}
		})
	}
}

// After each fall within a day twice as many good looks are needed, up to a bound; a
// day later three are again.
func TestJudgeNeeds(t *testing.T) {
	t.Parallel()
	var j judge
	now := time.Unix(1e9, 0)
	look := func(why Reason) {
		now = now.Add(10 * time.Second)
		j.look(outcome{begun: now, ended: now, why: why})
	}
	fall := func() (good int) {
		look(Refused)
		look(Refused)
		if j.Works {
			t.Fatal("it works after two bad looks")
		}
		for ; !j.Works; good++ {
			look(Fine)
		}
		return good
	}
	look(Fine)
	for _, want := range []int{3, 6, 12, 24, 24, 24} {
		if got := fall(); got != want {
			t.Errorf("%d good looks brought it back, want %d", got, want)
		}
	}
	now = now.Add(25 * time.Hour)
	if got := fall(); got != 3 {
		t.Errorf("a day later: %d good looks, want 3", got)
	}
}
