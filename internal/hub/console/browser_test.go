package console_test

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"freshet/internal/hub/console"
	"freshet/internal/page/browsertest"
)

// In a real browser, with scripts forbidden: who signs in by the form sees every
// page without a complaint, nothing sticks out on a phone, and every text can be
// read in light and in dark.
func TestBrowser(t *testing.T) {
	w := newWorld(t, "")
	w.sample()
	b := browsertest.Start(t, w.server.URL)
	b.Look(1280, "light")
	b.Open(console.Base + "/builds?stage=failed")
	b.Shoot("signin")
	browsertest.Run(b, chromedp.SendKeys("#token", "rubbish"+kb.Enter))
	browsertest.Run(b, chromedp.WaitVisible("#problem"))
	b.Shoot("signin-wrong")
	b.Problems() // the browser mentions the 401
	browsertest.Run(b, chromedp.SendKeys("#token", w.token(everything())+kb.Enter))
	browsertest.Run(b, chromedp.WaitVisible("main table"))
	if at := browsertest.Run(b, chromedp.Location()); !strings.HasSuffix(at, "/console/builds?stage=failed") {
		t.Errorf("signing in leads to %s", at)
	}
	b.Open(console.Base + "/account")
	browsertest.Run(b, chromedp.SendKeys("#token", w.token(management())+kb.Enter))
	browsertest.Run(b, chromedp.WaitVisible("dl.facts:nth-of-type(2)"))
	for name, path := range map[string]string{
		"overview": "/", "builds": "/builds", "build": "/builds/60", "failed": "/builds/52", "job": "/jobs/4", "refs": "/refs?repo=stable", "ref": "/refs/stable/app/org.gnome.Maps/x86_64/stable",
		"publishes": "/publishes?repo=stable", "publish": "/publishes/stable/60", "publish-going": "/publishes/stable/64", "deltas": "/deltas?repo=stable", "queue": "/queue", "holds": "/holds",
		"tokens": "/tokens", "audit": "/audit", "account": "/account", "missing": "/refs/stable/app/none", "nowhere": "/none", "empty": "/publishes?repo=beta",
	} {
		for _, problem := range b.Inspect(name, console.Base+path) {
			if name != "missing" && name != "nowhere" {
				t.Errorf("%s: the browser says: %s", path, problem)
			}
		}
	}
	b.Look(1280, "light")
	b.Open(console.Base + "/")
	browsertest.Run(b, chromedp.KeyEvent(kb.Tab))
	if focused := browsertest.Run(b, chromedp.Evaluate[string](`document.activeElement.textContent`)); focused != "Skip to the content" {
		t.Errorf("the first thing a keyboard gets to is %q", focused)
	}
	browsertest.Run(b, chromedp.Click(".who button"))
	browsertest.Run(b, chromedp.WaitVisible("#token"))
}

// Names from outside run nothing in a real browser, with scripts allowed.
func TestBrowserHostile(t *testing.T) {
	w := newWorld(t, "")
	w.fill()
	b := browsertest.Start(t, w.server.URL)
	b.AllowScripts(true)
	b.Look(390, "light")
	b.Open(console.Base + "/signin")
	browsertest.Run(b, chromedp.SendKeys("#token", w.token(everything())+kb.Enter))
	browsertest.Run(b, chromedp.WaitVisible("main table"))
	for _, path := range []string{"/", "/builds/1", "/jobs/1", "/publishes/stable/1", "/holds", "/refs", "/queue"} {
		b.Open(console.Base + path)
		if n := browsertest.Run(b, chromedp.Evaluate[int](`document.scripts.length`)); n != 0 {
			t.Errorf("%s: %d scripts", path, n)
		}
		b.Check(path)
	}
	for _, problem := range b.Problems() {
		t.Errorf("the browser says: %s", problem)
	}
}
