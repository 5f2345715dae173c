package handover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"freshet/internal/systemd"
)

// heirVar is the variable by which a process knows that it takes over: a list in JSON of
// the names of the sockets that it has. The descriptor of the conversation is 3, those of
// the sockets follow.
const heirVar = "FRESHET_HANDOVER"

const speechFD = 3

// Inherited is what a process was given when it was started.
type Inherited struct {
	// Sockets are the listening sockets, if any.
	Sockets *Sockets
	// Before is the process that it takes over from, nil if there is none.
	Before *Predecessor
}

// Inherit returns what this process was given when it was started, by another one that
// hands over to it or by systemd. It is called once, before anything else is opened.
func Inherit(getenv func(string) string) (Inherited, error) {
	i := Inherited{Sockets: new(Sockets)}
	if given := getenv(heirVar); given != "" {
		var err error
		i.Before, err = inherit(i.Sockets, given)
		return i, err
	}
	fds, names, err := systemd.Sockets(getenv)
	for n, fd := range fds {
		err = errors.Join(err, i.Sockets.take(fd, names[n]))
	}
	return i, err
}

type inheritedKey struct{}

// In returns a context in which [InheritedIn] finds i.
func (i Inherited) In(ctx context.Context) context.Context {
	return context.WithValue(ctx, inheritedKey{}, i)
}

// InheritedIn returns what was given to the process that ctx is of: nothing, if nobody has
// said.
func InheritedIn(ctx context.Context) Inherited {
	if i, ok := ctx.Value(inheritedKey{}).(Inherited); ok {
		return i
	}
	return Inherited{Sockets: new(Sockets)}
}

func inherit(set *Sockets, given string) (*Predecessor, error) {
	var names []string
	if err := json.Unmarshal([]byte(given), &names); err != nil {
		return nil, fmt.Errorf("%s: %w", heirVar, err)
	}
	for i := range len(names) + 1 {
		unix.CloseOnExec(speechFD + i)
	}
	conn, err := connOf(speechFD)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", heirVar, err)
	}
	before := &Predecessor{newSpeech(conn)}
	for i, name := range names {
		if err := set.take(speechFD+1+i, name); err != nil {
			before.Failed(err)
			return nil, err
		}
	}
	return before, os.Unsetenv(heirVar)
}
