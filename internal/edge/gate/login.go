package gate

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"

	"golang.org/x/crypto/bcrypt"
)

const (
	// maxKnown bounds the logins that are remembered, so that not every request
	// costs a hash that is slow on purpose.
	maxKnown = 4096
	// maxChecks bounds the slow hashes that are made at once.
	maxChecks = 2
	// maxPassword is what bcrypt looks at.
	maxPassword = 72
)

// logins know the passwords and tokens of a site.
type logins struct {
	passwords map[string][]byte // bcrypt, by name
	hashes    [][]byte          // those of passwords
	tokens    [][32]byte
	key       [32]byte      // of known
	checks    chan struct{} // a place for each slow hash that is under way

	mu    sync.Mutex
	known map[[32]byte]bool
}

func newLogins(cfg Config) (*logins, error) {
	l := &logins{passwords: make(map[string][]byte), known: make(map[[32]byte]bool), checks: make(chan struct{}, maxChecks)}
	_, _ = rand.Read(l.key[:]) // never fails
	for _, token := range cfg.Tokens {
		sum, err := parseHash(token)
		if err != nil {
			return nil, fmt.Errorf("token: %w", err)
		}
		l.tokens = append(l.tokens, sum)
	}
	if cfg.Passwords == "" {
		return l, nil
	}
	data, err := os.ReadFile(cfg.Passwords)
	if err != nil {
		return nil, fmt.Errorf("passwords: %w", err)
	}
	scan := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; scan.Scan(); n++ {
		line := strings.TrimSpace(scan.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, hash, ok := strings.Cut(line, ":")
		if _, err := bcrypt.Cost([]byte(hash)); !ok || name == "" || err != nil {
			return nil, fmt.Errorf("passwords: %s:%d: want a name, a colon and a hash of bcrypt, as htpasswd -B writes them", cfg.Passwords, n)
		}
		l.passwords[name] = []byte(hash)
		l.hashes = append(l.hashes, []byte(hash))
	}
	if err := scan.Err(); err != nil {
		return nil, fmt.Errorf("passwords: %s: %w", cfg.Passwords, err)
	}
	return l, nil
}

// check reports whether the request shows a password or token that is known.
func (l *logins) check(r *http.Request) bool {
	fields := r.Header["Authorization"]
	if len(fields) != 1 {
		return false
	}
	if scheme, token, ok := strings.Cut(fields[0], " "); ok && strings.EqualFold(scheme, "Bearer") {
		return l.token(strings.TrimSpace(token))
	}
	name, password, ok := r.BasicAuth()
	if !ok {
		return false
	}
	return l.token(password) || l.password(r, name, password)
}

// token compares with every token, however early one fits.
func (l *logins) token(s string) bool {
	sum := sha256.Sum256([]byte(s))
	found := 0
	for i := range l.tokens {
		found |= subtle.ConstantTimeCompare(sum[:], l.tokens[i][:])
	}
	return found == 1
}

// password compares with the password of the name. A name that nobody has costs
// as much as a wrong password, so that the time tells nothing of the names.
func (l *logins) password(r *http.Request, name, password string) bool {
	if len(l.passwords) == 0 || len(password) > maxPassword {
		return false
	}
	hash, ok := l.passwords[name]
	if !ok {
		hash = l.decoy(name)
	}
	id := l.mac("%d:%s%s", len(name), name, password)
	l.mu.Lock()
	known := l.known[id]
	l.mu.Unlock()
	if known {
		return true
	}
	select {
	case l.checks <- struct{}{}:
		defer func() { <-l.checks }()
	case <-r.Context().Done():
		return false
	}
	if bcrypt.CompareHashAndPassword(hash, []byte(password)) != nil || !ok {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.known) >= maxKnown {
		clear(l.known)
	}
	l.known[id] = true
	return true
}

// decoy is the hash of somebody: for the same name always of the same, lest a
// name shows by hashes of different cost.
func (l *logins) decoy(name string) []byte {
	id := l.mac("?%s", name)
	return l.hashes[binary.BigEndian.Uint64(id[:])%uint64(len(l.hashes))]
}

// mac is a digest that nobody outside can compute.
func (l *logins) mac(format string, args ...any) [32]byte {
	mac := hmac.New(sha256.New, l.key[:])
	_, _ = fmt.Fprintf(mac, format, args...)
	return [32]byte(mac.Sum(nil))
}
