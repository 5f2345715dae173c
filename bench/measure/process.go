package measure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"time"
)

// Start starts a program, if it does not run yet, with its output in the file log,
// and waits until it accepts connections at addr.
func Start(ctx context.Context, cmd *exec.Cmd, addr, log string) error {
	if cmd.Process == nil {
		out, err := os.Create(log)
		if err != nil {
			return err
		}
		cmd.Stdout, cmd.Stderr = out, out
		err = cmd.Start()
		if err := errors.Join(err, out.Close()); err != nil {
			return err
		}
	}
	for end := time.Now().Add(20 * time.Second); ; {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(end) {
			said, _ := os.ReadFile(log) // to explain
			return fmt.Errorf("%w\n%s", err, said)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// Stop ends a program, if it runs.
func Stop(cmd *exec.Cmd) {
	if cmd.Process != nil && cmd.ProcessState == nil {
		_ = cmd.Process.Signal(os.Interrupt) // it may have ended
		_ = cmd.Wait()                       // what it measured is known
	}
}

// FreePorts finds ports that nobody uses now.
func FreePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
		if err != nil {
			return nil, err
		}
		defer func() { _ = ln.Close() }() // it was only to find the number
		ports = append(ports, ln.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// Profile writes a CPU profile of four seconds of a freshet, which it gives at its
// admin address, to the file name.
func Profile(ctx context.Context, admin, name string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/debug/pprof/profile?seconds=4", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	return os.WriteFile(name, data, 0o600)
}
