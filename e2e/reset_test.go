package e2e

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A client that begins requests and gives them up as fast as it can is cut
// after some hundred, costs the origin no more than that, is counted by the
// reason, and disturbs nobody else; so are twenty of them at once.
func TestRapidReset(t *testing.T) {
	parallel(t)
	dir := t.TempDir()
	donor := httptest.NewTLSServer(nil)
	defer donor.Close()
	writePair(t, dir, donor.TLS.Certificates[0])
	secure := freeAddr(t)
	v := newVictim(t, "--listen-tls", secure, "--tls-cert", dir+"/cert.pem", "--tls-key", dir+"/key.pem")
	v.well()
	const attackers, most = 20, 1000
	type result struct {
		begun int
		code  http2.ErrCode
		err   error
	}
	results := make(chan result, attackers)
	for i := range attackers {
		go func() {
			n, code, err := resetRapidly(secure, fmt.Sprintf("/reset/%d/", i), 100*most)
			results <- result{n, code, err}
		}()
	}
	begun := time.Now()
	for range 20 { // others, meanwhile
		v.well()
	}
	took := time.Since(begun)
	for range attackers {
		r := <-results
		if r.err != nil || r.code != http2.ErrCodeEnhanceYourCalm {
			t.Errorf("cut after %d requests with %v, %v", r.begun, r.code, r.err)
		}
	}
	if took > promised(5*time.Second) {
		t.Errorf("20 ordinary requests took %v", took)
	}
	if n := v.metric(`freshet_http_rejections_total{reason="h2_rapid_reset",role="edge"}`); n != attackers {
		t.Errorf("%v were counted, want %d", n, attackers)
	}
	v.mu.Lock()
	if n := len(v.asked); n > attackers*most {
		t.Errorf("the origin was asked %d times", n)
	}
	v.mu.Unlock()
	v.well()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	resp, err := client.Get("https://" + secure + "/well")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || string(body) != "this is /well" || resp.ProtoMajor != 2 {
		t.Errorf("by HTTP/%d: %q, %v", resp.ProtoMajor, body, err)
	}
}

// resetRapidly begins requests for paths with this prefix and gives each up at
// once, until it is told to go away or has done so many. It returns how many it
// began and the code it was told.
func resetRapidly(addr, prefix string, limit int) (begun int, code http2.ErrCode, err error) {
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, 0, err
	}
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return 0, 0, err
	}
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	fr := http2.NewFramer(conn, conn)
	if err := fr.WriteSettings(); err != nil {
		return 0, 0, err
	}
	told := make(chan http2.ErrCode, 1)
	go func() {
		defer close(told)
		for {
			f, err := fr.ReadFrame()
			if err != nil {
				return
			}
			if away, ok := f.(*http2.GoAwayFrame); ok {
				told <- away.ErrCode
				return
			}
		}
	}()
	for ; begun < limit; begun++ {
		block.Reset()
		for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", addr}, {":path", fmt.Sprint(prefix, begun)}} {
			if err := enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
				return begun, 0, err
			}
		}
		id := uint32(2*begun + 1)
		if fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}) != nil ||
			fr.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
			break // it is cut
		}
	}
	code, ok := <-told
	if !ok {
		return begun, 0, fmt.Errorf("cut without a word after %d requests", begun)
	}
	return begun, code, nil
}
