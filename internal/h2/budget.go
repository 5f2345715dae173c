package h2

import (
	"time"

	"freshet/internal/h1"
)

// Reasons for which HTTP/2 connections end before their time, or requests are
// refused, besides those of package h1.
const (
	RejectProtocol     h1.Rejection = "h2_protocol"     // it breaks the rules of framing
	RejectCompression  h1.Rejection = "h2_compression"  // headers cannot be decompressed
	RejectResets       h1.Rejection = "h2_rapid_reset"  // it begins requests and gives them up
	RejectContinuation h1.Rejection = "h2_continuation" // a header in too many pieces, or too long
	RejectFrames       h1.Rejection = "h2_frame_flood"  // frames that ask for nothing
	RejectSecurity     h1.Rejection = "h2_security"     // what TLS agreed on is too weak
	RejectMalformed    h1.Rejection = "h2_malformed"    // a request that is none
	RejectStreams      h1.Rejection = "h2_streams"      // more requests at once than allowed
	RejectHeaderSize   h1.Rejection = "h2_header_size"  // a header that is too large
)

const (
	// A client may give up requests, or have them refused, this often at once,
	// and this often per second for long.
	resetBurst = 200
	resetRate  = 20
	// It may send this many frames at once, and per second, that ask for
	// nothing and carry nothing: SETTINGS, PING, PRIORITY, WINDOW_UPDATE, empty
	// DATA and frames of unknown kinds. What it asks for, and what it gets, is
	// to its credit.
	frameBurst = 2000
	frameRate  = 100
	// requestCredit and dataCredit are how many of them a request and a DATA
	// frame, of either side, pay for. One of a request that is over does not.
	requestCredit = 8
	dataCredit    = 4
	// settingsCost is that of SETTINGS, because each is acknowledged; what they
	// set costs as much as so many frames, because it may concern every stream.
	settingsCost = 20
)

// budget says how much useless work a client may still cause.
type budget struct {
	resets, frames int
	at             time.Time // when it was filled
}

func newBudget(now time.Time) budget { return budget{resets: resetBurst, frames: frameBurst, at: now} }

// refill adds what time brings.
func (b *budget) refill(now time.Time) {
	d := now.Sub(b.at)
	if d < 100*time.Millisecond {
		return
	}
	b.at = now
	d = min(d, time.Hour)
	b.resets = min(resetBurst, b.resets+int(d*resetRate/time.Second))
	b.frames = max(b.frames, min(frameBurst, b.frames+int(d*frameRate/time.Second)))
}

// earn adds credit for frames.
func (b *budget) earn(n int) { b.frames = min(10*frameBurst, b.frames+n) }

// reset pays for a request that came to nothing.
func (b *budget) reset() error {
	if b.resets--; b.resets < 0 {
		return &connError{codeCalm, RejectResets, "too many requests were given up"}
	}
	return nil
}

// frame pays for a frame.
func (b *budget) frame(cost int) error {
	if b.frames -= cost; b.frames < 0 {
		return &connError{codeCalm, RejectFrames, "too many frames ask for nothing"}
	}
	return nil
}
