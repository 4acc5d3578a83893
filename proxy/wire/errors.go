package wire

import "errors"

// Error says why a message was refused, and with which status a server answers it.
type Error struct {
	Status int
	Reason string
}

func (e *Error) Error() string { return "malformed message: " + e.Reason }

// IsMalformed tells whether err is, or wraps, a refusal by this package.
func IsMalformed(err error) bool {
	var e *Error
	return errors.As(err, &e)
}

func bad(reason string) *Error { return &Error{Status: 400, Reason: reason} }

// The refusals. They are values, so that refusing costs no allocation.
var (
	errBareLF       = bad("line not ended by CRLF")
	errStartLine    = bad("start line is not three words")
	errMethod       = bad("method is not a token")
	errTarget       = bad("request target is not in a form for an origin server")
	errTargetByte   = bad("request target holds a space, control byte or fragment")
	errVersion      = bad("HTTP version is malformed")
	errVersionOther = &Error{Status: 505, Reason: "HTTP version is neither 1.1 nor 1.0"}
	errConnect      = &Error{Status: 501, Reason: "CONNECT is not for an origin server"}
	errFold         = bad("field line starts with white space")
	errFieldName    = bad("field name is not a token followed by a colon")
	errFieldValue   = bad("field value holds a control byte")
	errFieldCount   = &Error{Status: 431, Reason: "too many fields"}
	errHostMissing  = bad("no Host field")
	errHostTwice    = bad("more than one Host field")
	errHostValue    = bad("Host is not a host with an optional port")
	errHostMismatch = bad("absolute target and Host name different authorities")
	errLength       = bad("Content-Length is not one decimal number")
	errLengthTwice  = bad("more than one Content-Length")
	errCoding       = bad("Transfer-Encoding is not exactly one \"chunked\"")
	errCodingAndLen = bad("both Transfer-Encoding and Content-Length")
	errCodingOld    = bad("Transfer-Encoding in an HTTP/1.0 message")
	errConnection   = bad("Connection lists too many names")
	errExpect       = &Error{Status: 417, Reason: "Expect is not 100-continue"}
	errStatusLine   = bad("status line is malformed")
	errChunkSize    = bad("chunk size is malformed")
	errChunkExt     = bad("chunk extension is malformed or too long")
	errChunkEnd     = bad("chunk data is not followed by CRLF")
	errTrailer      = bad("trailer section is malformed or too long")
)
