package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"freshet/internal/archive"
	"freshet/internal/flatpak"
	"freshet/internal/peertest"
	"freshet/internal/rsync/rsynctest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"freshet": main, mirrorlistServerName: main})
}

// The command line as a user meets it: testdata/script/*.txtar.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireExplicitExec: false,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"origin": scriptOrigin, "addresses": scriptAddresses(t), "await": scriptAwait, "fill": scriptFill, "damage": scriptDamage, "repository": scriptRepository, "issuer": scriptIssuer(t), "expand": scriptExpand, "network": scriptNetwork(t), "fetch": scriptFetch, "port": scriptPort, "rsyncd": scriptRsyncd(t)},
	})
}

// scriptOrigin serves a folder, with the tag "files" on everything, and sets
// ORIGIN to its URL.
func scriptOrigin(ts *testscript.TestScript, _ bool, args []string) {
	files := http.FileServer(http.Dir(ts.MkAbs(args[0])))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Surrogate-Key", "files")
		files.ServeHTTP(w, r)
	}))
	ts.Defer(srv.Close)
	ts.Setenv("ORIGIN", srv.URL)
}

// scriptAddresses sets each of the variables to an address nobody listens on.
func scriptAddresses(t *testing.T) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		for _, name := range args {
			ts.Setenv(name, peertest.FreeAddr(t))
		}
	}
}

// scriptPort sets a variable to the port of the address in another.
func scriptPort(ts *testscript.TestScript, _ bool, args []string) {
	_, port, err := net.SplitHostPort(ts.Getenv(args[1]))
	ts.Check(err)
	ts.Setenv(args[0], port)
}

// scriptRsyncd serves a folder by the real rsync, and sets RSYNC to its URL.
func scriptRsyncd(t *testing.T) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		ts.Setenv("RSYNC", rsynctest.Serve(t, ts.MkAbs(args[0])))
	}
}

// scriptAwait waits until the URL answers with 200, and reads the whole answer.
func scriptAwait(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(3 * time.Minute)
	for ticker := time.NewTicker(10 * time.Millisecond); ; <-ticker.C {
		resp, err := http.Get(args[0])
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if err == nil && resp.StatusCode == http.StatusOK {
				return
			}
			err = errors.Join(err, fmt.Errorf("status %d", resp.StatusCode))
		}
		if time.Now().After(deadline) {
			ts.Fatalf("await %s: %v", args[0], err)
		}
	}
}

// scriptFill makes a file of so many letters.
func scriptFill(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), bytes.Repeat([]byte{'f'}, n), 0o600))
}

// scriptDamage changes a byte of the text in the one file of a pattern that has
// it.
func scriptDamage(ts *testscript.TestScript, _ bool, args []string) {
	names, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	for _, name := range names {
		data, err := os.ReadFile(name)
		ts.Check(err)
		if at := bytes.Index(data, []byte(args[1])); at >= 0 {
			data[at] ^= 1
			ts.Check(os.WriteFile(name, data, 0o600))
			return
		}
	}
	ts.Fatalf("damage: %q is in none of %q", args[1], names)
}

// scriptRepository makes a repository with a version of an application in the new
// folder.
func scriptRepository(ts *testscript.TestScript, _ bool, args []string) {
	dir, id, version := ts.MkAbs(args[0]), args[1], args[2]
	ts.Check(os.Mkdir(dir, 0o755))
	repo, err := archive.Create(dir)
	ts.Check(err)
	meta := flatpak.Metadata{
		Kind: flatpak.App, Name: id, Command: "hello",
		Runtime: "org.example.Platform/x86_64/stable", SDK: "org.example.Sdk/x86_64/stable",
	}
	files := []archive.File{{Path: "files/bin/hello", Content: []byte("#!/bin/sh\necho " + version + "\n"), Executable: true}}
	ts.Check(repo.CommitFlatpak("app/"+id+"/x86_64/stable", meta, files, []string{"export"}, time.Unix(1_700_000_000, 0)))
}
