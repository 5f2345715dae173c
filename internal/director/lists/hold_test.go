package lists_test

import (
	"runtime"
	"testing"
	"weak"

	"freshet/internal/director/lists"
)

// What is used again holds nothing of data that is not in use any more.
func TestAnswerLetsGo(t *testing.T) {
	var a lists.Answer
	r := lists.Request{Target: "/metalink?repo=r-1&arch=x86_64", Peer: inDE, Now: made}
	before := func() weak.Pointer[lists.Data] {
		d := example().data(t, lists.Options{Minimum: 1})
		a.Make(d, &r)
		return weak.Make(d)
	}()
	now := example().data(t, lists.Options{Minimum: 1})
	r.Target = "/"
	a.Make(now, &r)
	runtime.GC()
	if before.Value() != nil {
		t.Error("it holds the data before")
	}
	runtime.KeepAlive(&a)
}
