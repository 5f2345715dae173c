package console_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"freshet/internal/hub/console"
	"freshet/internal/peertest"
)

// shotsEnv names a folder into which the browser's tests put pictures of the pages.
const shotsEnv = "FRESHET_SHOTS"

// browser is a real one, with one tab.
type browser struct {
	t    *testing.T
	ctx  context.Context // of the tab
	base string

	mu       sync.Mutex
	problems []string
}

// startBrowser starts one that ends with the test.
func startBrowser(t *testing.T, base string) *browser {
	t.Helper()
	peertest.Require(t, "chromium")
	if testing.Short() {
		t.Skip("a real browser")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath("chromium"), chromedp.NoSandbox, chromedp.WSURLReadTimeout(2*time.Minute), chromedp.UserDataDir(t.TempDir()))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(allocator)
	b := &browser{t: t, ctx: ctx, base: base}
	t.Cleanup(func() { cancel(); _ = chromedp.WaitClosed(ctx) })
	must(t, chromedp.Listen(ctx, b.heard))
	// Pages work without scripts.
	run(b, func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return chromedp.Void{}, err
	})
	return b
}

// heard collects what the browser complains about: the policy broken, files that
// are not there, errors.
func (b *browser) heard(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *log.EventEntryAdded:
		b.problems = append(b.problems, e.Entry.Text+" "+e.Entry.URL)
	case *runtime.EventExceptionThrown:
		b.problems = append(b.problems, e.ExceptionDetails.Text)
	}
}

func run[T any](b *browser, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 2*time.Minute)
	defer cancel()
	result, err := chromedp.Run(ctx, action)
	if err != nil {
		b.t.Fatal(err)
	}
	return result
}

func (b *browser) open(path string) {
	b.t.Helper()
	run(b, chromedp.Navigate(b.base+console.Base+path))
}

// look makes the screen as wide as said, and the colours light or dark.
func (b *browser) look(width int64, scheme string) {
	b.t.Helper()
	run(b, chromedp.EmulateViewport(width, 900))
	run(b, func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return chromedp.Void{}, err
	})
}

// shoot keeps a picture, if anybody wants one.
func (b *browser) shoot(name string) {
	b.t.Helper()
	dir := os.Getenv(shotsEnv)
	if dir == "" {
		return
	}
	must(b.t, os.WriteFile(filepath.Join(dir, name+".png"), run(b, chromedp.FullScreenshot(100)), 0o644))
}

// tooWide is an element that sticks out of the screen, "" for none.
const tooWide = `(() => {
	const wide = document.documentElement.clientWidth;
	if (document.documentElement.scrollWidth <= wide) return "";
	for (const e of document.querySelectorAll("body *")) {
		if (e.getBoundingClientRect().right > wide + 1 && !e.closest("nav, pre, .skip, thead")) return e.tagName + "." + e.className + " " + e.textContent.slice(0, 60);
	}
	return "the page";
})()`

// tooPale lists texts that have less contrast with what is behind them than WCAG
// 2.2 asks for (1.4.3: 4.5 to 1).
const tooPale = `(() => {
	const parse = s => { const m = s.match(/[\d.]+/g).map(Number); return m.length < 4 ? [...m.slice(0, 3), 1] : m.slice(0, 4); };
	const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
	const light = c => { const f = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; return 0.2126 * f(c[0]) + 0.7152 * f(c[1]) + 0.0722 * f(c[2]); };
	const behind = e => { for (const all = []; ; e = e.parentElement) {
		const c = e ? parse(getComputedStyle(e).backgroundColor) : [255, 255, 255, 1];
		all.push(c);
		if (c[3] == 1) return all.reduceRight((under, c) => over(c, under));
	} };
	const found = new Set();
	for (const e of document.querySelectorAll("body *")) {
		if (e.closest(".skip, option") || ![...e.childNodes].some(n => n.nodeType == 3 && n.textContent.trim())) continue;
		const paper = behind(e), ink = over(parse(getComputedStyle(e).color), paper);
		const [a, b] = [light(ink), light(paper)].sort((x, y) => y - x);
		if ((a + 0.05) / (b + 0.05) < 4.5) found.add(e.tagName + "." + e.className + " " + ((a + 0.05) / (b + 0.05)).toFixed(2) + " " + e.textContent.trim().slice(0, 30));
	}
	return [...found].join("; ");
})()`

// In a real browser, with scripts forbidden: who signs in by the form sees every
// page without a complaint, nothing sticks out on a phone, and every text can be
// read in light and in dark.
func TestBrowser(t *testing.T) {
	w := newWorld(t, "")
	w.sample()
	b := startBrowser(t, w.server.URL)
	b.look(1280, "light")
	b.open("/builds?stage=failed")
	b.shoot("signin")
	run(b, chromedp.SendKeys("#token", "rubbish"+kb.Enter))
	run(b, chromedp.WaitVisible("#problem"))
	b.shoot("signin-wrong")
	b.problems = nil // the browser mentions the 401
	run(b, chromedp.SendKeys("#token", w.token(everything())+kb.Enter))
	run(b, chromedp.WaitVisible("main table"))
	if at := run(b, chromedp.Location()); !strings.HasSuffix(at, "/console/builds?stage=failed") {
		t.Errorf("signing in leads to %s", at)
	}
	b.open("/account")
	run(b, chromedp.SendKeys("#token", w.token(management())+kb.Enter))
	run(b, chromedp.WaitVisible("dl.facts:nth-of-type(2)"))
	for name, path := range map[string]string{
		"overview": "/", "builds": "/builds", "build": "/builds/60", "failed": "/builds/52", "job": "/jobs/4", "refs": "/refs?repo=stable", "ref": "/refs/stable/app/org.gnome.Maps/x86_64/stable",
		"publishes": "/publishes?repo=stable", "publish": "/publishes/stable/60", "publish-going": "/publishes/stable/64", "deltas": "/deltas?repo=stable", "queue": "/queue", "holds": "/holds",
		"tokens": "/tokens", "audit": "/audit", "account": "/account", "missing": "/refs/stable/app/none", "nowhere": "/none", "empty": "/publishes?repo=beta",
	} {
		for _, screen := range []struct {
			name   string
			width  int64
			scheme string
		}{{"desktop", 1280, "light"}, {"desktop-dark", 1280, "dark"}, {"phone", 390, "light"}, {"phone-dark", 320, "dark"}} {
			b.look(screen.width, screen.scheme)
			b.open(path)
			b.shoot(name + "-" + screen.name)
			if wide := run(b, chromedp.Evaluate[string](tooWide)); wide != "" {
				t.Errorf("%s, %s: sticks out: %s", path, screen.name, wide)
			}
			if pale := run(b, chromedp.Evaluate[string](tooPale)); pale != "" {
				t.Errorf("%s, %s: hard to read: %s", path, screen.name, pale)
			}
		}
		for _, problem := range b.problems {
			if name != "missing" && name != "nowhere" {
				t.Errorf("%s: the browser says: %s", path, problem)
			}
		}
		b.problems = nil
	}
	b.look(1280, "light")
	b.open("/")
	run(b, chromedp.KeyEvent(kb.Tab))
	if focused := run(b, chromedp.Evaluate[string](`document.activeElement.textContent`)); focused != "Skip to the content" {
		t.Errorf("the first thing a keyboard gets to is %q", focused)
	}
	run(b, chromedp.Click(".who button"))
	run(b, chromedp.WaitVisible("#token"))
}

// Names from outside run nothing in a real browser, with scripts allowed.
func TestBrowserHostile(t *testing.T) {
	w := newWorld(t, "")
	w.fill()
	b := startBrowser(t, w.server.URL)
	run(b, func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{})
		return chromedp.Void{}, err
	})
	b.look(390, "light")
	b.open("/signin")
	run(b, chromedp.SendKeys("#token", w.token(everything())+kb.Enter))
	run(b, chromedp.WaitVisible("main table"))
	for _, path := range []string{"/", "/builds/1", "/jobs/1", "/publishes/stable/1", "/holds", "/refs", "/queue"} {
		b.open(path)
		if n := run(b, chromedp.Evaluate[int](`document.scripts.length`)); n != 0 {
			t.Errorf("%s: %d scripts", path, n)
		}
		if wide := run(b, chromedp.Evaluate[string](tooWide)); wide != "" {
			t.Errorf("%s: sticks out: %s", path, wide)
		}
	}
	for _, problem := range b.problems {
		t.Errorf("the browser says: %s", problem)
	}
}
