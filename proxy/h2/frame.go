package h2

import (
	"encoding/binary"
	"fmt"
)

// Preface is what a client's connection starts with.
const Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

const (
	frameHead = 9
	frameMax  = 16 << 10 // of a payload, either way: the protocol's default
	maxID     = 1<<31 - 1
	maxWindow = 1<<31 - 1
)

type frameType uint8

const (
	data frameType = iota
	headers
	priority
	rstStream
	settings
	pushPromise
	ping
	goAway
	windowUpdate
	continuation
)

const (
	flagAck        = 0x1
	flagEndStream  = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

const (
	settingTable      = 1
	settingPush       = 2
	settingStreams    = 3
	settingWindow     = 4
	settingFrame      = 5
	settingHeaderList = 6
)

// Code is an error code of RFC 9113 section 7.
type Code uint32

// The codes that this package sends.
const (
	NoError         Code = 0x0
	ProtocolError   Code = 0x1
	InternalError   Code = 0x2
	FlowControl     Code = 0x3
	StreamClosed    Code = 0x5
	FrameSize       Code = 0x6
	RefusedStream   Code = 0x7
	Compression     Code = 0x9
	EnhanceYourCalm Code = 0xb
)

var codeNames = map[Code]string{NoError: "NO_ERROR", ProtocolError: "PROTOCOL_ERROR", InternalError: "INTERNAL_ERROR", FlowControl: "FLOW_CONTROL_ERROR",
	StreamClosed: "STREAM_CLOSED", FrameSize: "FRAME_SIZE_ERROR", RefusedStream: "REFUSED_STREAM", Compression: "COMPRESSION_ERROR",
	EnhanceYourCalm: "ENHANCE_YOUR_CALM"}

func (c Code) String() string {
	if s, ok := codeNames[c]; ok {
		return s
	}
	return fmt.Sprintf("code %#x", uint32(c))
}

// connError ends a connection with GOAWAY.
type connError struct {
	code   Code
	reason string
}

func (e *connError) Error() string { return fmt.Sprintf("connection error: %s (%s)", e.reason, e.code) }

// streamError ends one stream with RST_STREAM.
type streamError struct {
	code   Code
	reason string
}

func (e *streamError) Error() string { return fmt.Sprintf("stream error: %s (%s)", e.reason, e.code) }

func fatal(code Code, reason string) error { return &connError{code, reason} }

type frame struct {
	kind    frameType
	flags   uint8
	stream  uint32
	payload []byte
}

func (f *frame) has(flag uint8) bool { return f.flags&flag != 0 }

func payloadSize(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }

func appendFrameHead(dst []byte, size int, kind frameType, flags uint8, stream uint32) []byte {
	return append(dst, byte(size>>16), byte(size>>8), byte(size), byte(kind), flags,
		byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
}

func appendNumber(dst []byte, kind frameType, stream, n uint32) []byte {
	return binary.BigEndian.AppendUint32(appendFrameHead(dst, 4, kind, 0, stream), n)
}

func appendGoAway(dst []byte, last uint32, code Code) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(appendFrameHead(dst, 8, goAway, 0, 0), last), uint32(code))
}

func appendSetting(dst []byte, id uint16, v uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(dst, id), v)
}

// appendBlock appends a header block as HEADERS and as many CONTINUATION as it takes.
func appendBlock(dst, block []byte, stream uint32, end bool) []byte {
	kind, flags := headers, uint8(0)
	if end {
		flags = flagEndStream
	}
	for {
		n := min(len(block), frameMax)
		if n == len(block) {
			flags |= flagEndHeaders
		}
		dst = append(appendFrameHead(dst, n, kind, flags, stream), block[:n]...)
		if block = block[n:]; len(block) == 0 {
			return dst
		}
		kind, flags = continuation, 0
	}
}

// unpad takes padding off a payload.
func (f *frame) unpad() error {
	if !f.has(flagPadded) {
		return nil
	}
	if len(f.payload) == 0 {
		return fatal(FrameSize, "padded frame without a pad length")
	}
	pad := int(f.payload[0])
	if pad >= len(f.payload) {
		return fatal(ProtocolError, "padding is longer than its frame")
	}
	f.payload = f.payload[1 : len(f.payload)-pad]
	return nil
}
