package serve_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
)

// Two hundred downloads are under way while the project switches, the file they fetch is
// gone from the new generation, and the old one is removed from the disk. Half of them
// are cut by their clients, and go on by a range over the switch.
func TestSwitchUnderDownloads(t *testing.T) {
	w := newWorld(t)
	const (
		clients = 200
		size    = 8 << 20 // more than the sockets hold
	)
	image := bytes.Repeat([]byte("0123456789abcde\n"), size/16)
	want := sha256.Sum256(image)
	w.publish(map[string]string{"big.iso": string(image), "kept.iso": string(image)})
	tag := w.get("/epel/kept.iso", "Range", "bytes=0-0").header.Get("Etag")

	var begun, ended sync.WaitGroup
	switched := make(chan struct{})
	errs := make(chan error, clients)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	defer client.CloseIdleConnections()
	for i := range clients {
		begun.Add(1)
		ended.Go(func() {
			begun := sync.OnceFunc(begun.Done)
			defer begun()
			name := "/epel/big.iso"
			if i%2 == 1 {
				name = "/epel/kept.iso"
			}
			errs <- fetchOver(client, w.base+name, begun, switched, i%2 == 1, want)
		})
	}
	begun.Wait()
	w.publish(map[string]string{"kept.iso": string(image), "other": "x"})
	if _, err := w.epel.Retire(t.Context(), 0); err != nil {
		t.Error(err)
	}
	close(switched)
	ended.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	if a := w.get("/epel/big.iso"); a.status != http.StatusNotFound {
		t.Errorf("a file of a generation that has ended: %d", a.status)
	}
	if got := w.get("/epel/kept.iso", "Range", "bytes=0-0").header.Get("Etag"); got != tag {
		t.Errorf("the tag is %q, and was %q", got, tag)
	}
}

// fetchOver begins a download, waits for the switch, and ends it: on the same connection,
// or by a range on another one.
func fetchOver(client *http.Client, url string, begun func(), switched <-chan struct{}, resume bool, want [sha256.Size]byte) error {
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	got := sha256.New()
	const first = 100_000
	if _, err := io.CopyN(got, resp.Body, first); err != nil {
		return err
	}
	begun()
	<-switched
	if resume {
		_ = resp.Body.Close()
		req, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", first))
		req.Header.Set("If-Range", resp.Header.Get("Etag"))
		if resp, err = client.Do(req); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusPartialContent {
			return fmt.Errorf("going on: %s", resp.Status)
		}
	}
	if _, err := io.Copy(got, resp.Body); err != nil {
		return err
	}
	if [sha256.Size]byte(got.Sum(nil)) != want {
		return errors.New("other bytes")
	}
	return nil
}
