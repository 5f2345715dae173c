package token

import (
	"bufio"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// maxSaid bounds what is kept of what the helper and the token's library
	// write to standard error: the end of it.
	maxSaid = 2 << 10
	// closeTime is how long a helper may take to log out and end.
	closeTime = 2 * time.Second
)

// errEnded says that the helper is no more.
var errEnded = errors.New("freshet-pkcs11 has ended")

var errProtocol = errors.New("freshet-pkcs11 answers in another protocol: install it and freshet from the same release")

// helper is a running freshet-pkcs11.
type helper struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	said   tail
	public crypto.PublicKey // nil when the token does not tell

	// done is closed when it has ended, with the reason in err.
	done chan struct{}
	err  error

	mu      sync.Mutex
	last    int64                   // id of a request
	waiting map[int64]chan Response // by id; nil after the end
}

// start runs the program. Standard input is its life line: at its end it ends.
func start(path string) (*helper, error) {
	h := &helper{cmd: exec.Command(path), done: make(chan struct{}), waiting: map[int64]chan Response{}} //nolint:noctx // it outlives the call
	// A Ctrl-C at the terminal is for the hub, which may want to end a publish.
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	h.cmd.Stderr = &h.said
	in, err := h.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	h.in = in
	if err := h.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start freshet-pkcs11: %w", err)
	}
	go h.run(out)
	return h, nil
}

// run hands out the answers until there are no more.
func (h *helper) run(out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, MaxLine)
	var wrong error
	for wrong == nil && lines.Scan() {
		var answer Response
		if err := json.Unmarshal(lines.Bytes(), &answer); err != nil {
			wrong = fmt.Errorf("%w: %w", errProtocol, err)
			break
		}
		h.mu.Lock()
		to := h.waiting[answer.ID]
		delete(h.waiting, answer.ID)
		h.mu.Unlock()
		if to != nil {
			to <- answer
		}
	}
	if wrong == nil && lines.Err() != nil {
		wrong = fmt.Errorf("%w: %w", errProtocol, lines.Err())
	}
	_ = h.cmd.Process.Kill() // it has nothing to say any more
	h.end(errors.Join(wrong, h.cmd.Wait()))
}

func (h *helper) end(err error) {
	h.err = errEnded
	if err != nil {
		h.err = fmt.Errorf("%w: %w", errEnded, err)
	}
	if said := h.said.String(); said != "" {
		h.err = fmt.Errorf("%w; it said: %s", h.err, said)
	}
	h.mu.Lock()
	h.waiting = nil
	h.mu.Unlock()
	close(h.done)
}

func (h *helper) running() bool {
	select {
	case <-h.done:
		return false
	default:
		return true
	}
}

// call sends a request and waits for its answer. Others may be under way.
func (h *helper) call(ctx context.Context, request Request) (*Response, error) {
	answered := make(chan Response, 1)
	err := h.send(&request, answered)
	if err != nil && !errors.Is(err, syscall.EPIPE) {
		return nil, err
	}
	// A pipe is broken when the helper ends, which says more.
	select {
	case answer := <-answered:
		if answer.Error != nil {
			return nil, answer.Error
		}
		return &answer, nil
	case <-h.done:
		return nil, h.err
	case <-ctx.Done():
		h.mu.Lock()
		delete(h.waiting, request.ID)
		h.mu.Unlock()
		return nil, fmt.Errorf("the token does not answer: %w", context.Cause(ctx))
	}
}

// send writes a request. The pipe takes many of them, so it does not wait for
// a helper that hangs.
func (h *helper) send(request *Request, answered chan Response) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waiting == nil {
		return h.err
	}
	h.last++
	request.ID = h.last
	line, err := json.Marshal(request)
	if err != nil {
		return err
	}
	h.waiting[request.ID] = answered
	if _, err := h.in.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("%w: it does not listen: %w", errEnded, err)
	}
	return nil
}

// kill ends the helper at once.
func (h *helper) kill() {
	_ = h.cmd.Process.Kill() // it may have ended
	_ = h.in.Close()
}

// close lets the helper log out, and waits for its end.
func (h *helper) close() error {
	_ = h.in.Close()
	timer := time.AfterFunc(closeTime, h.kill)
	defer timer.Stop()
	<-h.done
	return nil
}

// tail keeps the last lines that were written.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// Write implements [io.Writer].
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if len(t.text) > maxSaid {
		t.text = append(t.text[:0], t.text[len(t.text)-maxSaid:]...)
	}
	return len(p), nil
}

// String is one line of what was written.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(strings.Fields(strings.ToValidUTF8(string(t.text), "�")), " ")
}
