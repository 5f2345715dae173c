// Package browsertest looks at pages in a real browser, Debian's Chromium: that it
// complains about nothing, that nothing sticks out of a small screen, and that every
// text can be read in light and in dark. It is imported by tests only.
package browsertest

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"freshet/internal/peertest"
)

// shotsEnv names a folder into which pictures of the pages are put.
const shotsEnv = "FRESHET_SHOTS"

// Browser is a real one, with one tab, in which scripts are forbidden. It is for one
// goroutine.
type Browser struct {
	t    testing.TB
	ctx  context.Context //nolint:containedctx // the tab is one
	base string

	mu       sync.Mutex
	problems []string
}

// Start starts one that ends with the test. Paths are below the URL base.
func Start(t testing.TB, base string) *Browser {
	t.Helper()
	peertest.Require(t, "chromium")
	if testing.Short() {
		t.Skip("a real browser")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath("chromium"), chromedp.NoSandbox, chromedp.WSURLReadTimeout(2*time.Minute), chromedp.UserDataDir(t.TempDir()))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(allocator)
	b := &Browser{t: t, ctx: ctx, base: base}
	t.Cleanup(func() { cancel(); _ = chromedp.WaitClosed(ctx) })
	if err := chromedp.Listen(ctx, b.heard); err != nil {
		t.Fatal(err)
	}
	b.AllowScripts(false) // pages work without
	return b
}

// AllowScripts lets pages run scripts from now on, or not.
func (b *Browser) AllowScripts(allow bool) {
	b.t.Helper()
	Run(b, func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !allow})
		return chromedp.Void{}, err
	})
}

// heard collects what the browser complains about: the policy broken, files that
// are not there, errors.
func (b *Browser) heard(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *log.EventEntryAdded:
		b.problems = append(b.problems, e.Entry.Text+" "+e.Entry.URL)
	case *runtime.EventExceptionThrown:
		b.problems = append(b.problems, e.ExceptionDetails.Text)
	}
}

// Problems are the complaints since the last call.
func (b *Browser) Problems() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	problems := b.problems
	b.problems = nil
	return problems
}

// Run does something in the tab, and fails the test if it cannot be done.
func Run[T any](b *Browser, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 2*time.Minute)
	defer cancel()
	result, err := chromedp.Run(ctx, action)
	if err != nil {
		b.t.Fatal(err)
	}
	return result
}

// Open goes to a page.
func (b *Browser) Open(path string) {
	b.t.Helper()
	Run(b, chromedp.Navigate(b.base+path))
}

// Look makes the screen as wide as said, and the colours "light" or "dark".
func (b *Browser) Look(width int64, scheme string) {
	b.t.Helper()
	Run(b, chromedp.EmulateViewport(width, 900))
	Run(b, func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return chromedp.Void{}, err
	})
}

// Shoot keeps a picture, if anybody wants one.
func (b *Browser) Shoot(name string) {
	b.t.Helper()
	dir := os.Getenv(shotsEnv)
	if dir == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), Run(b, chromedp.FullScreenshot(100)), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// Check fails the test if something sticks out of the screen, or is hard to read.
func (b *Browser) Check(what string) {
	b.t.Helper()
	if wide := Run(b, chromedp.Evaluate[string](tooWide)); wide != "" {
		b.t.Errorf("%s: sticks out: %s", what, wide)
	}
	if pale := Run(b, chromedp.Evaluate[string](tooPale)); pale != "" {
		b.t.Errorf("%s: hard to read: %s", what, pale)
	}
}

// Inspect opens a page on screens of all kinds, checks it and keeps pictures under its
// name, and returns what the browser complained about.
func (b *Browser) Inspect(name, path string) (problems []string) {
	b.t.Helper()
	b.Problems()
	for _, screen := range []struct {
		name   string
		width  int64
		scheme string
	}{{"desktop", 1280, "light"}, {"desktop-dark", 1280, "dark"}, {"phone", 390, "light"}, {"phone-dark", 320, "dark"}} {
		b.Look(screen.width, screen.scheme)
		b.Open(path)
		b.Shoot(name + "-" + screen.name)
		b.Check(path + ", " + screen.name)
	}
	return b.Problems()
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
