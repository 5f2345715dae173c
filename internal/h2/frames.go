package h2

import (
	"encoding/binary"

	"freshet/internal/h1"
)

// Types of frames (RFC 9113 §6).
const (
	frameData byte = iota
	frameHeaders
	framePriority
	frameReset
	frameSettings
	framePushPromise
	framePing
	frameGoAway
	frameWindowUpdate
	frameContinuation
)

// Flags of frames.
const (
	flagEndStream  byte = 0x1 // DATA, HEADERS
	flagAck        byte = 0x1 // SETTINGS, PING
	flagEndHeaders byte = 0x4
	flagPadded     byte = 0x8
	flagPriority   byte = 0x20
)

// Settings (RFC 9113 §6.5.2, RFC 9218 §2.1).
const (
	settingTableSize    = 1
	settingEnablePush   = 2
	settingStreams      = 3
	settingWindow       = 4
	settingFrameSize    = 5
	settingHeaderList   = 6
	settingNoPriorities = 9
)

// code is an error code (RFC 9113 §7).
type code uint32

const (
	codeNone code = iota
	codeProtocol
	codeInternal
	codeFlowControl
	codeSettingsTimeout
	codeStreamClosed
	codeFrameSize
	codeRefused
	codeCancel
	codeCompression
	codeConnect
	codeCalm
	codeSecurity
)

const (
	preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

	frameHead = 9       // length of a frame's head
	maxFrame  = 1 << 14 // longest payload, of either side
	maxWindow = 1<<31 - 1
	defWindow = 1<<16 - 1 // of a stream and of a connection, unless told otherwise

	// dataFrame is how much of a body goes into a frame, so that a whole frame
	// is a record of TLS.
	dataFrame = maxFrame - frameHead

	// connWindow is how much the client may send of request bodies, over all its
	// streams, before they are read.
	connWindow = 256 << 10
	// maxStreams is how many requests of a connection may be under way.
	maxStreams = 128
	// maxHeaderList bounds a header: names, values and 32 bytes for each field
	// (RFC 9113 §6.5.2).
	maxHeaderList = 32 << 10
	// maxBlock bounds a header as it is sent.
	maxBlock = 48 << 10
	// maxContinuations bounds the frames of a header after the first.
	maxContinuations = 16
)

// frame is a frame that was received. Its payload lies in the read buffer.
type frame struct {
	kind, flags byte
	stream      uint32
	payload     []byte
}

func (f *frame) has(flag byte) bool { return f.flags&flag != 0 }

// parseHead reads the head of a frame: n is the length of the payload.
func parseHead(b []byte) (f frame, n int) {
	n = int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	return frame{kind: b[3], flags: b[4], stream: binary.BigEndian.Uint32(b[5:]) & maxWindow}, n
}

func appendHead(b []byte, kind, flags byte, stream uint32, n int) []byte {
	return append(b, byte(n>>16), byte(n>>8), byte(n), kind, flags,
		byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
}

func appendSetting(b []byte, id uint16, value uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, id), value)
}

// unpad takes the padding off a payload of DATA or HEADERS.
func (f *frame) unpad() error {
	if !f.has(flagPadded) {
		return nil
	}
	if len(f.payload) == 0 || int(f.payload[0]) >= len(f.payload) {
		return protocolError("padding is longer than its frame")
	}
	f.payload = f.payload[1 : len(f.payload)-int(f.payload[0])]
	return nil
}

// connError ends a connection.
type connError struct {
	code code
	why  h1.Rejection
	text string
}

func (e *connError) Error() string { return string(e.why) + ": " + e.text }

func protocolError(text string) error { return &connError{codeProtocol, RejectProtocol, text} }

func sizeError(text string) error { return &connError{codeFrameSize, RejectProtocol, text} }

func flowError(text string) error { return &connError{codeFlowControl, RejectProtocol, text} }
