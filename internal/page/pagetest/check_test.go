package pagetest_test

import (
	"strings"
	"testing"

	"freshet/internal/page/pagetest"
)

const good = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>T</title></head><body><main><h1>H</h1>%s</main></body></html>`

// The check finds what it is there for.
func TestProblems(t *testing.T) {
	for content, want := range map[string]string{
		``:                                       "",
		`<p>one <b>two</b></p>`:                  "",
		`<p>one <b>two</p></b>`:                  "closes nothing",
		`<p class="a" class="b">x</p>`:           "two class",
		`<div>`:                                  "closes nothing",
		`<script>1</script>`:                     "must not be there",
		`<p onclick="x">x</p>`:                   "policy does not allow",
		`<p style="color:red">x</p>`:             "policy does not allow",
		`<a href="javascript:alert(1)">x</a>`:    "leads nowhere good",
		`<a href="//elsewhere/x">x</a>`:          "leads nowhere good",
		`<a href="https://elsewhere/x">x</a>`:    "",
		`<a href="/x"></a>`:                      "without a text",
		`<h3>x</h3>`:                             "follows on a heading",
		`<h1>x</h1>`:                             "2 h1",
		`<input id="x">`:                         "no label",
		`<label for="x">X</label><input id="x">`: "",
		`<label for="y">X</label>`:               "not there",
		`<p id="a">x</p><p id="a">y</p>`:         "2 times",
		`<svg></svg>`:                            "without words",
		`<table><tbody><tr><th>x</th></tr></tbody></table>`:          "without scope",
		`<form method="post" action="/do"><button>x</button></form>`: "can be forged",
	} {
		problems := strings.Join(pagetest.Problems(strings.Replace(good, "%s", content, 1)), "; ")
		if (problems == "") != (want == "") || !strings.Contains(problems, want) {
			t.Errorf("%s: got %q, want %q", content, problems, want)
		}
	}
}
