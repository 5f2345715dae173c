package agent

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
)

// written takes what is written to an agent that says text.
type written struct {
	net.Conn
	text bytes.Buffer
}

func (w *written) Write(p []byte) (int, error) { return w.text.Write(p) }

func agentThatSays(text string) (*connection, *written) {
	w := &written{}
	return &connection{Conn: w, lines: bufio.NewReaderSize(strings.NewReader(text), maxLine)}, w
}

func TestAnswer(t *testing.T) {
	c, asked := agentThatSays("# comment\nS PROGRESS x\nINQUIRE PINENTRY_LAUNCHED 7\nD a%0Ab%25\nD c\nOK done\n")
	if data, err := c.answer(); err != nil || string(data) != "a\nb%c" {
		t.Errorf("%q, %v", data, err)
	}
	if asked.text.String() != "CAN\n" {
		t.Errorf("to the question it says %q", asked.text.String())
	}
	c, _ = agentThatSays("ERR 67108881 No secret key <GPG Agent>\n")
	_, err := c.answer()
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != 17 || e.Text != "No secret key" {
		t.Errorf("refusal: %v", err)
	}
	for name, text := range map[string]string{
		"end":           "D a\n",
		"other program": "220 mail.example.org ESMTP\n",
		"long line":     strings.Repeat("x", 2*maxLine) + "\n",
		"endless lines": strings.Repeat("S x\n", maxLines+1),
		"endless data":  strings.Repeat("D "+strings.Repeat("x", 900)+"\n", 30) + "OK\n",
		"bad escape":    "D %0\nOK\n",
		"bad error":     "ERR x\n",
	} {
		c, _ := agentThatSays(text)
		if data, err := c.answer(); err == nil || len(data) > maxAnswer {
			t.Errorf("%s: %d bytes, %v", name, len(data), err)
		}
	}
}

func TestSignature(t *testing.T) {
	half := strings.Repeat("r", 32)
	for _, test := range []struct {
		public any
		sexp   string
		length int
	}{
		{ed25519.PublicKey(make([]byte, 32)), "(7:sig-val(5:eddsa(1:r32:" + half + ")(1:s31:" + half[1:] + ")))", 64},
		{&rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 511)}, "(7:sig-val(3:rsa(1:s3:\x00ab)))", 64},
		{&ecdsa.PublicKey{Curve: elliptic.P256()}, "(7:sig-val(5:ecdsa(1:r1:a)(1:s1:b)))", 8},
	} {
		v, err := parseSigVal([]byte(test.sexp))
		if err != nil {
			t.Fatalf("%q: %v", test.sexp, err)
		}
		if signature, err := v.signature(test.public); err != nil || len(signature) != test.length {
			t.Errorf("%q: %d bytes, %v", test.sexp, len(signature), err)
		}
		if _, err := v.signature("another key"); !errors.Is(err, errSigVal) {
			t.Errorf("%q: %v", test.sexp, err)
		}
	}
}

// FuzzAnswer takes anything for what an agent says.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte("D (7:sig-val(5:eddsa(1:r1:a)(1:s1:b)))\nOK\n"))
	f.Add([]byte("INQUIRE X\nERR 17 No\n"))
	f.Fuzz(func(t *testing.T, said []byte) {
		c, _ := agentThatSays(string(said))
		data, err := c.answer()
		if err != nil {
			return
		}
		if v, err := parseSigVal(data); err == nil {
			signature, err := v.signature(ed25519.PublicKey(make([]byte, 32)))
			if err == nil && len(signature) != ed25519.SignatureSize {
				t.Errorf("%d bytes", len(signature))
			}
		}
	})
}
