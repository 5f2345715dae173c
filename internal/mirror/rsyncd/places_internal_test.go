package rsyncd

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Who names no module yields its place after a moment, and loses it after a while; who has
// named one keeps it.
func TestPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := places{most: 3, perAddress: 2, within: nameWithin, yields: yieldsAfter, active: prometheus.NewGauge(prometheus.GaugeOpts{})}
		here, there := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("192.0.2.2/32")
		var cut []string
		enter := func(name string, from netip.Prefix, want string) *client {
			t.Helper()
			c := &client{from: from, cut: func() { cut = append(cut, name) }}
			got := p.enter(c, time.Now())
			if got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
			if got == "" {
				p.ask(c, time.Now())
			}
			return c
		}
		isCut := func(want ...string) {
			t.Helper()
			if len(cut) != len(want) || len(cut) > 0 && cut[len(cut)-1] != want[len(want)-1] {
				t.Errorf("cut: %q, want %q", cut, want)
			}
		}
		speaks := enter("speaks", here, "")
		p.named(speaks)
		first := enter("first", here, "")
		enter("too early", here, reasonConnsPerIP)
		second := enter("second", netip.Prefix{}, "")
		enter("too early", there, reasonConns)
		isCut()
		time.Sleep(yieldsAfter)
		third := enter("third", here, "") // the place of the first, the only silent one from there
		isCut("first")
		fourth := enter("fourth", there, "")
		isCut("first", "second")
		p.named(fourth)
		enter("while all others speak", there, reasonConns)
		time.Sleep(nameWithin)
		synctest.Wait()
		isCut("first", "second", "third")
		for c, silent := range map[*client]bool{speaks: false, first: true, second: true, third: true, fourth: false} {
			if got := p.leave(c); got != silent {
				t.Errorf("it was cut: %v, want %v", got, silent)
			}
		}
		if p.all != 0 || len(p.from) != 0 || len(p.silent) != 0 {
			t.Errorf("places are left: %+v", &p)
		}
	})
}
