package mirrorapi

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"
)

// TriggerPath is the path of triggers on the public listener of a mirror. It takes a
// POST of [SignedTrigger] and answers with a [TriggerAnswer].
const TriggerPath = "/.freshet/trigger"

// Trigger says that there is something new upstream of a project. Its sender signs it,
// and a mirror that knows the sender's key syncs the project. It is harmless to send one
// twice, or to send one that somebody has overheard: a mirror acts on the first, and on
// none that is older than one of the same key that it has acted on.
type Trigger struct {
	// Project is the name of it on the mirror.
	Project string `json:"project"`
	// Key is the name of the key that signs.
	Key string `json:"key"`
	// Sent is when it was made.
	Sent time.Time `json:"sent"`
	// Host is the host of the mirror it is for, as in the URL it is sent to, so that no
	// mirror can use what it got for another. Empty: any mirror that has the key.
	Host string `json:"host,omitempty"`
	// Spread is in how many seconds the mirror may begin, at a moment of its own: for
	// triggers that many mirrors get at once. At most an hour.
	Spread int `json:"spread,omitempty"`
}

// Bounds of triggers.
const (
	// MaxTrigger is the size of the body, in bytes.
	MaxTrigger = 8 << 10
	// MaxSpread is the most of [Trigger.Spread], in seconds.
	MaxSpread = 3600
	// TriggerAhead is how far the clock of a sender may be ahead of the mirror's. There
	// is no bound on how late a trigger may come: it may have been kept for the mirror.
	TriggerAhead = 10 * time.Minute
)

// SignedTrigger is a [Trigger] in JSON, byte by byte as it was signed, and the signature:
// Ed25519 (RFC 8032) over [triggerContext] and Text.
type SignedTrigger struct {
	Text      string `json:"text"`
	Signature []byte `json:"signature"`
}

// TriggerAnswer says what came of a trigger. What is answered so survives a crash.
type TriggerAnswer struct {
	// Known: one that is as new has come before, and nothing is to be done.
	Known bool  `json:"known"`
	State State `json:"state"`
}

// triggerContext begins what is signed, so that the signature is good for nothing else.
const triggerContext = "freshet mirror trigger v1\n"

// Sign signs a trigger.
func (t Trigger) Sign(key ed25519.PrivateKey) (SignedTrigger, error) {
	text, err := json.Marshal(t)
	if err != nil {
		return SignedTrigger{}, fmt.Errorf("encode the trigger: %w", err)
	}
	return SignedTrigger{Text: string(text), Signature: ed25519.Sign(key, append([]byte(triggerContext), text...))}, nil
}

// ErrTriggerSignature says that no known key has signed a trigger.
var ErrTriggerSignature = errors.New("signed by no key that may trigger this project")

// Open returns the trigger that one of the keys has signed, else an error that wraps
// [ErrTriggerSignature]. Nothing is taken from the text before that is known.
func (s SignedTrigger) Open(keys []TriggerKey) (Trigger, error) {
	for _, key := range keys {
		if !ed25519.Verify(key.Public, append([]byte(triggerContext), s.Text...), s.Signature) {
			continue
		}
		var t Trigger
		if err := json.Unmarshal([]byte(s.Text), &t); err != nil {
			return Trigger{}, fmt.Errorf("text of the trigger: %w", err)
		}
		t.Key = key.Name
		return t, nil
	}
	return Trigger{}, ErrTriggerSignature
}

// TriggerKey is the public key of one who may trigger a project.
type TriggerKey struct {
	Name   string
	Public ed25519.PublicKey
}

// keyPrefix stands between the name of a key and its base64.
const keyPrefix = "ed25519:"

// ParseTriggerKey reads what [TriggerKey.String] returns.
func ParseTriggerKey(s string) (TriggerKey, error) {
	bad := fmt.Errorf(`want "NAME %sBASE64" as freshet mirror trigger-key prints it, got %q`, keyPrefix, s)
	name, rest, _ := strings.Cut(s, " ")
	text, ok := strings.CutPrefix(rest, keyPrefix)
	public, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(public) != ed25519.PublicKeySize {
		return TriggerKey{}, bad
	}
	if !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$`).MatchString(name) {
		return TriggerKey{}, fmt.Errorf(`%q is no name of a key: want up to 64 letters, digits, ".", "_", "@" and "-"`, name)
	}
	return TriggerKey{Name: name, Public: public}, nil
}

// String is "NAME ed25519:" and the key in base64.
func (k TriggerKey) String() string {
	return k.Name + " " + keyPrefix + base64.StdEncoding.EncodeToString(k.Public)
}

// ReadTriggerKey reads the private key that signs triggers: Ed25519, in a file of PEM as
// "freshet mirror trigger-key" and "openssl genpkey -algorithm ed25519" write it.
func ReadTriggerKey(file string) (ed25519.PrivateKey, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the key of triggers: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("key of triggers %s: want a private key in PEM", file)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("key of triggers %s: %w", file, err)
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("key of triggers %s: want one of Ed25519, got %T", file, key)
	}
	return private, nil
}
