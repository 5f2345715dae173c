package h1

import (
	"os"
	"time"
)

// Handler answers requests whose answers are at hand. Its methods are called
// by many goroutines at once.
type Handler interface {
	// Answer describes in res what is to be sent, and reports whether there is
	// an answer. It must not wait. If it reports false, the request is left to
	// the handler of [Server.HTTP], and nothing of res counts.
	Answer(req *Request, res *Response) bool
	// Sent follows each Answer that reported true, once its last byte is with
	// the kernel or sending it has failed: sent is how much of the body went
	// out. What the response was made of is free afterwards.
	Sent(req *Request, res *Response, sent int64, err error)
}

// Watcher is a [Handler] that wants to know how answers go out that take long.
type Watcher interface {
	Handler
	// Sending is called now and then while an answer goes out, with how much of the body
	// did so far, by who sends it. It must not wait.
	Sending(req *Request, res *Response, sent int64)
}

// WatchEvery is how often a [Watcher] is told.
const WatchEvery = 10 * time.Second

// Response is an answer: a head, and a body in memory or in a file.
type Response struct {
	// Status is the status code, for Sent: what the client gets stands in Head.
	Status int
	// Head takes the status line and the fields, each with its CRLF, without
	// the empty line; Connection is not the handler's. For [Request.H2] it takes
	// the status and the fields as HPACK has them, without its dynamic table. It
	// begins empty, with room for most heads.
	Head []byte
	// Body is the body, or nil.
	Body []byte
	// Whole is Head, with the empty line, and Body in one piece of memory, or nil:
	// then it is what is sent, and Head does not count.
	Whole []byte
	// Closing is set before: the head is going to be completed with a Connection
	// field, and there can be no Whole.
	Closing bool
	// File holds the body instead, Length bytes from Offset on. Its position is
	// neither used nor changed: many may send from one file.
	File           *os.File
	Offset, Length int64
	// Started is when the head was with the kernel, for Sent. Zero: with all
	// the rest.
	Started time.Time
	// Told is for a [Watcher], which may keep there how much it has counted.
	Told int64
	// Tag carries what the handler wants to see again in Sent.
	Tag any
}
