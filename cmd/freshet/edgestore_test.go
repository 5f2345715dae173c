package main

import (
	"slices"
	"testing"

	"freshet/internal/edge"
)

func TestAgeText(t *testing.T) {
	for seconds, want := range map[int64]string{0: "0s", 59: "59s", 61: "1m1s", 3600: "1h0m", 90061: "1d1h", -5: "-5s"} {
		if got := ageText(seconds); got != want {
			t.Errorf("%d: %q, want %q", seconds, got, want)
		}
	}
}

// The first of an order are the first, whatever comes in between, and no more
// than asked for.
func TestFirstOf(t *testing.T) {
	var answers []edge.Answer
	for n := range int64(500) {
		answers = append(answers, edge.Answer{Size: n * 7919 % 500, Age: n})
	}
	for name, compare := range answerOrders() {
		if compare == nil {
			continue
		}
		want := slices.SortedFunc(slices.Values(answers), compare)[:20]
		if got := firstOf(slices.Values(answers), compare, 20); !slices.Equal(got, want) {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := firstOf(slices.Values(answers[:3]), answerOrders()["size"], 20); len(got) != 3 {
		t.Errorf("%d of 3", len(got))
	}
}
