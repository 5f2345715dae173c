package hook_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freshet/internal/hub/hook"
	"freshet/internal/peertest"
)

// dialVariable makes this program one that connects to "NETWORK ADDRESS".
const dialVariable = "FRESHET_TEST_DIAL"

// TestMain is the program that TestSockets runs, when it is.
func TestMain(m *testing.M) {
	to := os.Getenv(dialVariable)
	if to == "" {
		os.Exit(m.Run())
	}
	network, address, _ := strings.Cut(to, " ")
	conn, err := net.Dial(network, address)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("connected", conn.Close())
	os.Exit(0)
}

// TestSockets: a command reaches the services of this machine only if it may.
func TestSockets(t *testing.T) {
	if !hook.ConfinesPorts() {
		peertest.Missing(t, "Landlock with TCP ports")
	}
	listen := func(network, address string) net.Addr {
		t.Helper()
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return l.Addr()
	}
	path := listen("unix", filepath.Join(t.TempDir(), "socket")).String()
	name := listen("unix", "@freshet-"+filepath.Base(t.TempDir())+fmt.Sprint(os.Getpid())).String()
	tcp := listen("tcp", "127.0.0.1:0").(*net.TCPAddr)
	other := listen("tcp", "127.0.0.1:0").(*net.TCPAddr)
	for _, test := range []struct {
		network, address string
		sockets          bool
		ports            []int
		may              bool
	}{
		{"unix", path, false, nil, false},
		{"unix", path, true, nil, true},
		{"unix", name, false, nil, false},
		{"unix", name, true, nil, true},
		{"tcp", tcp.String(), false, nil, true},
		{"tcp", tcp.String(), false, []int{tcp.Port}, true},
		{"tcp", other.String(), false, []int{tcp.Port}, false},
		{"tcp", tcp.String(), false, []int{}, false},
	} {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		c := hook.Command{
			Args: []string{self}, Env: []string{dialVariable + "=" + test.network + " " + test.address},
			Sockets: test.sockets, Ports: test.ports,
		}
		if out, err := run(t, c); (err == nil) != test.may {
			t.Errorf("%+v: %v %q", test, err, out)
		}
	}
	// What programs need for themselves is there.
	if out, err := run(t, shell("echo a | cat; (sleep 0) & wait")); err != nil || out != "a\n" {
		t.Errorf("%v %q", err, out)
	}
}
