package control_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/control"
	"freshet/internal/disktest"
)

// A client is known by its token, else by its certificate; a token that is not known is not
// made good by a certificate, and nobody is known without either.
func TestClients(t *testing.T) {
	token, hash := control.NewToken("fx_")
	other, _ := control.NewToken("fx_")
	if control.Hash(token) != hash || token == other || len(token) != 3+64 {
		t.Errorf("%q %q", token, hash)
	}
	clients, err := control.NewClients("they stand there", map[string]control.Entry{
		"ada": {Token: hash, Allow: []string{"read"}, Only: []string{"box7"}}, "ben": {Certificate: "ben.example"}, "empty": {Certificate: "x"},
	})
	if err != nil {
		t.Fatal(err)
	}
	signed := func(name string) *tls.ConnectionState {
		return &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{Subject: pkix.Name{CommonName: name}}}}}
	}
	unverified := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{Subject: pkix.Name{CommonName: "ben.example"}}}}
	for what, c := range map[string]struct {
		header map[string]string
		tls    *tls.ConnectionState
		want   string
	}{
		"nothing":              {nil, nil, ""},
		"its token":            {map[string]string{"Authorization": "Bearer " + token}, nil, "ada"},
		"in other letters":     {map[string]string{"Authorization": "bEARER  " + token}, nil, "ada"},
		"another scheme":       {map[string]string{"Authorization": "Basic " + token}, nil, ""},
		"no scheme":            {map[string]string{"Authorization": hash}, nil, ""},
		"the hash":             {map[string]string{"Authorization": "Bearer " + hash}, nil, ""},
		"a part":               {map[string]string{"Authorization": "Bearer " + token[:66]}, nil, ""},
		"a key":                {map[string]string{"Fastly-Key": token}, nil, "ada"},
		"another one":          {map[string]string{"Authorization": "Bearer " + other}, nil, ""},
		"an empty one":         {map[string]string{"Authorization": "Bearer "}, nil, ""},
		"a certificate":        {nil, signed("ben.example"), "ben"},
		"one of somebody else": {nil, signed("eve.example"), ""},
		"one without a name":   {nil, signed(""), ""},
		"one nobody verified":  {nil, unverified, ""},
		"a wrong token too":    {map[string]string{"Authorization": "Bearer " + other}, signed("ben.example"), ""},
	} {
		r := &http.Request{Header: make(http.Header), TLS: c.tls}
		for key, value := range c.header {
			r.Header.Set(key, value)
		}
		got, err := clients.Of(r)
		switch {
		case c.want == "" && (!errors.Is(err, control.ErrUnknown) || !strings.Contains(err.Error(), "they stand there") || strings.Contains(err.Error(), other)):
			t.Errorf("%s: %v, %v", what, got, err)
		case c.want != "" && (err != nil || got.Name != c.want):
			t.Errorf("%s: %v, %v, want %s", what, got, err, c.want)
		}
	}
	ada, err := clients.Of(&http.Request{Header: http.Header{"Authorization": {"Bearer " + token}}})
	if err != nil || !ada.May("read") || ada.May("write") || !ada.MayTouch("box7") || ada.MayTouch("box8") || ada.MayTouchAll() {
		t.Errorf("%+v, %v", ada, err)
	}
	if _, err := new(control.Clients).Of(&http.Request{Header: http.Header{"Authorization": {"Bearer x"}}}); !errors.Is(err, control.ErrUnknown) {
		t.Errorf("without clients: %v", err)
	}
}

// What is wrong with clients is said by its key.
func TestCheck(t *testing.T) {
	_, hash := control.NewToken("")
	for want, entries := range map[string]map[string]control.Entry{
		"clients.a b":        {"a b": {Token: hash}},
		"clients.a":          {"a": {}},
		"clients.a.token":    {"a": {Token: "fx_secret"}},
		"clients.b.token":    {"a": {Token: hash}, "b": {Token: strings.Replace(hash, "sha256:", "sha256:", 1)}},
		"clients.a.allow[1]": {"a": {Token: hash, Allow: []string{"read", "rule"}}},
		"clients.b.certificate": {
			"a": {Certificate: "x"}, "b": {Certificate: "x"},
		},
	} {
		problems := control.Check(entries, "read", "write")
		if len(problems) != 1 || problems[0].Key != want || strings.Contains(problems[0].Message, "fx_secret") {
			t.Errorf("%s: %+v", want, problems)
		}
	}
	if problems := control.Check(map[string]control.Entry{"a": {Token: hash, Allow: []string{"write"}}}, "read", "write"); problems != nil {
		t.Error(problems)
	}
	for _, bad := range []string{"", "sha256:", hash + "0", hash[:70], strings.ToUpper(hash), "md5:" + hash[7:]} {
		if _, err := control.ParseHash(bad); err == nil {
			t.Errorf("%q is taken for a hash", bad)
		}
	}
}

// Each order is one line, whatever its giver writes, by many at once; nobody else may read
// them, and a second process adds to what is there.
func TestAudit(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit")
	var said bytes.Buffer
	audit, err := control.OpenAudit(file, slog.New(slog.NewJSONHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	hostile := "a\n{\"client\":\"root\"}\x00\x1b[2J\xff" + strings.Repeat("x", 20<<10)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 5 {
				audit.Note(t.Context(), control.Order{Client: hostile[:20], Action: "drop", What: hostile, Result: "refused", Detail: hostile, Count: -1})
			}
		})
	}
	all.Wait()
	audit.Note(t.Context(), control.Order{Client: "ada", Action: "sync", Result: control.Done})
	if err := errors.Join(audit.Close(), audit.Close()); err != nil {
		t.Error(err)
	}
	audit.Note(t.Context(), control.Order{Client: "late"}) // to the log alone
	if audit, err = control.OpenAudit(file, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	audit.Note(t.Context(), control.Order{Client: "ben", What: func() {}}) // which is no JSON
	audit.Note(t.Context(), control.Order{Client: "ben", Result: control.Done})
	if err := audit.Close(); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(lines) != 42 || !strings.Contains(lines[40], `"ada"`) || !strings.Contains(lines[41], `"ben"`) {
		t.Errorf("%d lines", len(lines))
	}
	for _, line := range lines {
		var o control.Order
		if err := json.Unmarshal([]byte(line), &o); err != nil || len(line) > 64<<10 || o.Time.IsZero() {
			t.Fatalf("%.200q: %v", line, err)
		}
	}
	if n := strings.Count(said.String(), "\n"); n != 42 {
		t.Errorf("%d lines in the log", n)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	new(control.Audit).Note(t.Context(), control.Order{Client: "nobody"})
}

// Who is not known does not fill the disk, and cannot hide what others order.
func TestAuditOfStrangers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit")
	synctest.Test(t, func(t *testing.T) {
		audit, err := control.OpenAudit(file, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		stranger := control.Order{Action: "redeem", What: strings.Repeat("x", 10<<10), Result: "forbidden", Detail: strings.Repeat("y", 10<<10)}
		for range 10_000 {
			audit.Note(t.Context(), stranger)
		}
		audit.Note(t.Context(), control.Order{Client: "ada", Action: "sync", Result: "forbidden"})
		audit.Note(t.Context(), control.Order{Action: "redeem", Result: control.Done})
		time.Sleep(time.Minute)
		for range 61 {
			audit.Note(t.Context(), stranger)
		}
		if err := audit.Close(); err != nil {
			t.Error(err)
		}
	})
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	actions, unnoted := make(map[string]int), 0
	for line := range strings.Lines(string(text)) {
		var o control.Order
		if err := json.Unmarshal([]byte(line), &o); err != nil || len(line) > 2<<10 {
			t.Fatalf("%.200q: %v", line, err)
		}
		actions[o.Action]++
		if o.Action == control.Unnoted {
			unnoted += o.Count
		}
	}
	if actions["redeem"] != 121 || actions["sync"] != 1 || actions[control.Unnoted] != 2 || unnoted != 9_941 {
		t.Errorf("%v, %d were not noted", actions, unnoted)
	}
}

// A disk that fills up in the middle of a record costs that record, and none of those after it.
func TestAuditOnFullDisk(t *testing.T) {
	disk := disktest.New(t, 4<<20, 100)
	file := filepath.Join(disk.Path, "audit")
	audit, err := control.OpenAudit(file, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	order := control.Order{Client: "ada", Action: "sync", What: strings.Repeat("x", 999), Result: control.Done}
	audit.Note(t.Context(), order)
	empty := disk.Fill(0)
	for range 20 { // until a block is full
		audit.Note(t.Context(), order)
	}
	empty()
	last := control.Order{Client: "ben", Action: "sync", Result: control.Done}
	audit.Note(t.Context(), last)
	audit.Note(t.Context(), last)
	if err := audit.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	damaged, late := 0, 0
	for line := range strings.Lines(string(text)) {
		var o control.Order
		if json.Unmarshal([]byte(line), &o) != nil {
			damaged++
		}
		if o.Client == "ben" {
			late++
		}
	}
	if damaged != 1 || late != 2 {
		t.Errorf("%d damaged lines, %d of 2 that came later:\n%.3000s", damaged, late, text)
	}
}
