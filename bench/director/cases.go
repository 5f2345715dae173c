package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"freshet/bench/measure"
)

// different is how many different requests a case has.
const different = 4096

// benchCase are requests and what is expected of them.
type benchCase struct {
	name     string
	ratio    float64 // to nginx, at most; 0: no goal is set
	cpu, rps float64 // µs at most and requests/s at least, if there are such goals
	requests [][]byte
	expected func(status int) bool
	stated   float64  // µs of another program that was measured elsewhere
	static   [][]byte // what nginx is asked instead: files of the same sizes
}

// asked is a request before it is one.
type asked struct {
	target string
	client netip.Addr
}

func cases(w *world) []*benchCase {
	m := mixer{world: w, rand: rand.New(rand.NewPCG(3, 4))}
	m.findRepositories()
	global := func() asked { return asked{m.metalink().target, netip.AddrFrom4([4]byte{127, 0, 0, 1})} }
	return []*benchCase{
		{name: "mix", requests: m.many(m.mix), ratio: 4.5, cpu: 50, rps: 20_000},
		{name: "metalink", requests: m.many(m.metalink), ratio: 4.5, cpu: 50, rps: 20_000},
		{name: "mirrorlist", requests: m.many(m.mirrorlist), ratio: 3.5},
		{name: "redirect", requests: m.many(m.redirect)},
		{name: "unknown", requests: m.many(m.unknown)},
		{name: "global", requests: m.many(global)},
	}
}

// mixer makes requests.
type mixer struct {
	*world
	rand  *rand.Rand
	repos []string // "repo=R&arch=A"
	files []string // paths
}

func (m *mixer) findRepositories() {
	for key := range m.snapshot.Repositories() {
		repo, arch, _ := strings.Cut(key, "+")
		m.repos = append(m.repos, "repo="+repo+"&arch="+arch)
	}
	// What is asked for most is not what sorts first.
	m.rand.Shuffle(len(m.repos), func(i, j int) { m.repos[i], m.repos[j] = m.repos[j], m.repos[i] })
	for dir := range m.snapshot.Directories() {
		if m.rand.IntN(40) == 0 {
			m.files = append(m.files, dir.Name()+"/bash-5.2.26-3.x86_64.rpm")
		}
	}
}

func (m *mixer) many(one func() asked) [][]byte {
	list := make([][]byte, different)
	for i := range list {
		a := one()
		list[i] = fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: mirrors.example.org\r\nUser-Agent: libdnf (Sample Linux 44; server; Linux.x86_64)\r\n"+
			"Accept: */*\r\nX-Forwarded-For: %s\r\n\r\n", a.target, a.client)
	}
	return list
}

func (m *mixer) client() netip.Addr { return m.clients[m.rand.IntN(len(m.clients))] }

// popular is a repository: a few are asked for most.
func (m *mixer) popular() string {
	return m.repos[rand.NewZipf(m.rand, 1.3, 4, uint64(len(m.repos)-1)).Uint64()]
}

func (m *mixer) metalink() asked {
	return asked{"/metalink?" + m.popular() + "&infra=$infra&content=$contentdir&countme=2", m.client()}
}

func (m *mixer) mirrorlist() asked {
	return asked{"/mirrorlist?" + m.popular() + "&infra=$infra", m.client()}
}

func (m *mixer) redirect() asked {
	return asked{"/mirrorlist?path=" + m.files[m.rand.IntN(len(m.files))] + "&redirect=1&protocol=https", m.client()}
}

func (m *mixer) unknown() asked {
	return asked{fmt.Sprintf("/metalink?repo=gone-%d&arch=x86_64", m.rand.IntN(100)), m.client()}
}

// mix is what mirrors are asked: metalinks mostly, and some mistakes.
func (m *mixer) mix() asked {
	var a asked
	switch n := m.rand.IntN(100); {
	case n < 4:
		return m.unknown()
	case n < 85:
		a = m.metalink()
	case n < 97:
		a = m.mirrorlist()
	default:
		return m.redirect()
	}
	switch n := m.rand.IntN(100); {
	case n < 2:
		a.target += "&country=de,at"
	case n < 3:
		a.target += "&protocol=https"
	}
	return a
}

func answered(status int) bool {
	return status == http.StatusOK || status == http.StatusFound || status == http.StatusNotFound
}

func (c *benchCase) load(s *server) measure.Load {
	l := measure.Load{Addr: s.addr, Requests: c.requests, Conns: 64, Expected: answered}
	if c.expected != nil {
		l.Expected = c.expected
	}
	if s.name == nginx {
		l.Requests = c.static
	}
	return l
}

// writeStatic makes files of the sizes of our answers, for nginx.
func (c *benchCase) writeStatic(ctx context.Context, dir string, servers []*server) error {
	www := filepath.Join(dir, "www", c.name)
	if err := os.MkdirAll(www, 0o755); err != nil {
		return err
	}
	client := measure.Client{Addr: servers[0].addr}
	zeros := make([]byte, 1<<20)
	for i := range different / 8 {
		status, length, err := client.Do(ctx, c.requests[i])
		switch {
		case err != nil:
			return err
		case !answered(status):
			return fmt.Errorf("%q is answered with status %d", c.requests[i], status)
		}
		if err := os.WriteFile(filepath.Join(www, fmt.Sprint(i)), zeros[:min(length, int64(len(zeros)))], 0o644); err != nil {
			return err
		}
		c.static = append(c.static, fmt.Appendf(nil, "GET /%s/%d HTTP/1.1\r\nHost: mirrors.example.org\r\nAccept: */*\r\n\r\n", c.name, i))
	}
	return client.Conn.Close()
}
