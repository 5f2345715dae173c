package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"freshet/internal/director/directortest"
)

// scriptNetwork writes the files of a small network of mirrors into a folder.
func scriptNetwork(t *testing.T) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		directortest.Network{Time: 1700000000}.Write(t, ts.MkAbs(args[0]))
	}
}

// scriptFetch writes what a URL answers into a file, whatever it is: the status and the
// body.
func scriptFetch(ts *testscript.TestScript, _ bool, args []string) {
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Get(args[0])
	ts.Check(err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	head := fmt.Sprintf("%d %s\n", resp.StatusCode, resp.Header.Get("Location"))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), append([]byte(head), body...), 0o600))
}

// A program of the name of a command takes that command's options.
func TestUnderName(t *testing.T) {
	for _, c := range []struct{ args, want []string }{
		{[]string{"/usr/bin/freshet", "director", "--strict"}, []string{"director", "--strict"}},
		{[]string{"freshet"}, nil},
		{[]string{"mirrorlist-server"}, []string{"mirrorlist-server"}},
		{[]string{"/usr/local/bin/mirrorlist-server", "-m", "3"}, []string{"mirrorlist-server", "-m", "3"}},
	} {
		if got := underName(c.args); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.args, got, c.want)
		}
	}
}
