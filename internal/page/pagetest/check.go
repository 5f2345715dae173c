// Package pagetest checks the pages of a role as a browser, a screen reader and an
// attacker would: they are well formed, everything in them has a name, nothing in
// them runs, and every link leads somewhere. It is imported by tests only.
package pagetest

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// Problems returns what is wrong with a page; nil is good.
func Problems(text string) []string {
	c := checker{ids: map[string]int{}}
	if !strings.HasPrefix(text, "<!DOCTYPE html>\n<html lang=") {
		c.problem("does not begin with a doctype and a language")
	}
	c.balance(text)
	root, err := html.Parse(strings.NewReader(text))
	if err != nil {
		return append(c.problems, err.Error())
	}
	for n := range root.Descendants() {
		if n.Type == html.ElementNode {
			c.element(n)
		}
	}
	c.conclude()
	return c.problems
}

// checker collects what a page has.
type checker struct {
	problems         []string
	ids              map[string]int
	named, controls  []string // by label for=, and ids that need a name
	described        []string
	h1, main, titles int
	level            int
}

func (c *checker) problem(format string, args ...any) {
	c.problems = append(c.problems, fmt.Sprintf(format, args...))
}

// balance checks that every element that is opened is closed, in order: the parser
// of HTML would repair it in silence.
func (c *checker) balance(text string) {
	attribute := regexp.MustCompile(`\s([a-z-]+)="`)
	void := []string{"meta", "link", "input", "br", "img", "hr", "wbr"}
	var open []string
	for z := html.NewTokenizer(strings.NewReader(text)); ; {
		kind := z.Next()
		raw := string(z.Raw())
		name, _ := z.TagName()
		tag := string(name)
		seen := map[string]bool{}
		for _, attr := range attribute.FindAllStringSubmatch(raw, -1) { // the tokenizer drops the second of two
			if kind == html.StartTagToken && seen[attr[1]] {
				c.problem("<%s> has two %s", tag, attr[1])
			}
			seen[attr[1]] = true
		}
		switch kind {
		case html.ErrorToken:
			if len(open) > 0 {
				c.problem("never closed: %v", open)
			}
			return
		case html.StartTagToken:
			if !slices.Contains(void, tag) {
				open = append(open, tag)
			}
		case html.EndTagToken:
			if len(open) == 0 || open[len(open)-1] != tag {
				c.problem("</%s> closes nothing; open are %v", tag, open)
				return
			}
			open = open[:len(open)-1]
		case html.TextToken, html.SelfClosingTagToken, html.CommentToken, html.DoctypeToken:
		}
	}
}

func (c *checker) element(n *html.Node) {
	attr := map[string]string{}
	for _, a := range n.Attr {
		attr[a.Key] = a.Val
		if strings.HasPrefix(a.Key, "on") || a.Key == "style" {
			c.problem("<%s %s>: the policy does not allow it", n.Data, a.Key)
		}
		if slices.Contains([]string{"href", "src", "action", "formaction"}, a.Key) && !goodURL(a.Val) {
			c.problem("<%s %s=%q> leads nowhere good", n.Data, a.Key, a.Val)
		}
	}
	if id, has := attr["id"]; has {
		c.ids[id]++
	}
	c.described = append(c.described, strings.Fields(attr["aria-describedby"])...)
	switch n.Data {
	case "script", "style", "iframe", "object", "embed", "base":
		c.problem("<%s> must not be there", n.Data)
	case "h1", "h2", "h3", "h4":
		level := int(n.Data[1] - '0')
		if level > c.level+1 {
			c.problem("<%s> %q follows on a heading of level %d", n.Data, textOf(n), c.level)
		}
		if c.level = level; level == 1 {
			c.h1++
		}
	case "main":
		c.main++
	case "title":
		if n.Parent.Data == "head" && strings.TrimSpace(textOf(n)) != "" {
			c.titles++
		}
	case "label":
		c.named = append(c.named, attr["for"])
	case "input", "select", "textarea":
		if _, hidden := attr["hidden"]; !hidden && attr["type"] != "hidden" && attr["aria-label"] == "" {
			c.controls = append(c.controls, attr["id"])
		}
	case "a", "button":
		if strings.TrimSpace(textOf(n)) == "" && attr["aria-label"] == "" {
			c.problem("<%s> without a text: %v", n.Data, n.Attr)
		}
	case "img":
		if _, has := attr["alt"]; !has {
			c.problem("<img> without alt")
		}
	case "svg":
		if attr["aria-hidden"] != "true" && (attr["role"] != "img" && attr["role"] != "group" || attr["aria-label"] == "") {
			c.problem("<svg> without words: %v", n.Attr)
		}
	case "th":
		if attr["scope"] == "" {
			c.problem("<th> without scope: %s", textOf(n))
		}
	case "form":
		if attr["method"] == "post" && !has(n, "csrf") && attr["action"] != "" && !strings.HasSuffix(attr["action"], "/signin") {
			c.problem("<form action=%q> can be forged", attr["action"])
		}
	}
}

func (c *checker) conclude() {
	for id, n := range c.ids {
		if n > 1 {
			c.problem("id %q is there %d times", id, n)
		}
	}
	for _, id := range c.controls {
		if id == "" || !slices.Contains(c.named, id) {
			c.problem("control %q has no label", id)
		}
	}
	for _, id := range slices.Concat(c.named, c.described) {
		if c.ids[id] == 0 {
			c.problem("a label or description names %q, which is not there", id)
		}
	}
	if c.h1 != 1 || c.main != 1 || c.titles != 1 {
		c.problem("%d h1, %d main, %d titles; want one of each", c.h1, c.main, c.titles)
	}
}

// goodURL tells paths of the same site and web addresses from what a browser would
// run.
func goodURL(s string) bool {
	u, err := url.Parse(s)
	if err != nil {
		return false
	}
	if u.Scheme == "" {
		return u.Host == "" && slices.ContainsFunc([]string{"/", "#", "?", "./", "../"}, func(begin string) bool { return strings.HasPrefix(s, begin) })
	}
	return (u.Scheme == "https" || u.Scheme == "http") && u.Host != ""
}

func textOf(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return b.String()
}

// has tells whether a form has a field.
func has(form *html.Node, name string) bool {
	for n := range form.Descendants() {
		for _, a := range n.Attr {
			if n.Data == "input" && a.Key == "name" && a.Val == name {
				return true
			}
		}
	}
	return false
}

// Links returns the paths of the same site that a page leads to.
func Links(text string) (links []string) {
	root, err := html.Parse(strings.NewReader(text))
	if err != nil {
		return nil
	}
	for n := range root.Descendants() {
		for _, a := range n.Attr {
			if a.Key == "href" && strings.HasPrefix(a.Val, "/") {
				links = append(links, a.Val)
			}
		}
	}
	return links
}

// Page is what came back for a request.
type Page struct {
	Path   string
	Status int
	Header http.Header
	Body   string
}

// Get fetches a page.
func Get(tb testing.TB, client *http.Client, base, path string) Page {
	tb.Helper()
	request, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, base+path, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return Do(tb, client, request)
}

// Do makes a request.
func Do(tb testing.TB, client *http.Client, request *http.Request) Page {
	tb.Helper()
	response, err := client.Do(request)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return Page{request.URL.RequestURI(), response.StatusCode, response.Header, string(body)}
}

// Crawl follows every link from a path on, below it or beside it, and calls each
// with each page. It fails the test for links that do not lead to a page, for
// pages that are not good, and for those that are sent without their policy.
func Crawl(tb testing.TB, client *http.Client, base, start string, each func(Page)) {
	tb.Helper()
	const most = 2000
	seen, todo := map[string]bool{start: true}, []string{start}
	for len(todo) > 0 {
		path := todo[0]
		todo = todo[1:]
		page := Get(tb, client, base, path)
		if page.Status != http.StatusOK {
			tb.Errorf("%s: %d", path, page.Status)
			continue
		}
		Policy(tb, page)
		if !strings.HasPrefix(page.Header.Get("Content-Type"), "text/html") {
			continue
		}
		for _, problem := range Problems(page.Body) {
			tb.Errorf("%s: %s", path, problem)
		}
		each(page)
		for _, link := range Links(page.Body) {
			link, _, _ = strings.Cut(link, "#")
			if link != "" && !seen[link] && len(seen) < most {
				seen[link] = true
				todo = append(todo, link)
			}
		}
	}
}

// Policy checks that a browser is told to run nothing.
func Policy(tb testing.TB, page Page) {
	tb.Helper()
	policy := page.Header.Get("Content-Security-Policy")
	if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "script-src") {
		tb.Errorf("%s: policy %q", page.Path, policy)
	}
	if page.Header.Get("X-Content-Type-Options") != "nosniff" || page.Header.Get("Cache-Control") == "" {
		tb.Errorf("%s: %v", page.Path, page.Header)
	}
}
