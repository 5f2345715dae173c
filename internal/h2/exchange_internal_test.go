package h2

import "testing"

// Once the end of an answer is queued, somebody else may write it before the handler
// is back: whoever has it takes the stream for closed.
func TestEndClosesStream(t *testing.T) {
	for name, ended := range map[string]bool{"the client has sent all": true, "the client still sends": false} {
		t.Run(name, func(t *testing.T) {
			c := &conn{s: new(Server), streams: make(map[uint32]*stream)}
			x := &exchange{stream: stream{id: 1}, c: c, ended: ended}
			x.ex = x
			c.streams[x.id] = &x.stream
			if err := x.send([]byte{0x88}, nil, false, false); err != nil || c.streams[x.id] == nil {
				t.Fatalf("closed before the end, %v", err)
			}
			if err := x.send(nil, nil, true, false); err != nil || (c.streams[x.id] == nil) != ended {
				t.Errorf("stream %v after the end, %v", c.streams[x.id], err)
			}
		})
	}
}
