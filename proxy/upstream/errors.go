package upstream

import (
	"errors"
	"fmt"
	"os"
)

// Class says what kind of trouble an upstream was.
type Class uint8

const (
	OK        Class = iota
	Dial            // no connection could be made
	Busy            // all connections are in use, and none became free in time
	Timeout         // a wait took too long
	Cut             // the connection broke
	Malformed       // the answer is not strict HTTP/1.1
)

func (c Class) String() string {
	return [...]string{"ok", "dial", "busy", "timeout", "cut", "malformed"}[c]
}

// Error is the trouble an upstream made.
type Error struct {
	Upstream string // its name
	Doing    string // what was being done
	Class    Class
	Reused   bool // the connection had carried a request before: its peer may have closed it just then
	Sent     bool // some of the request may have reached the backend
	Answered bool // some of an answer had come
	Err      error
}

func (e *Error) Error() string {
	sent := "nothing of the request had been sent"
	if e.Answered {
		sent = "the answer had begun"
	} else if e.Sent {
		sent = "the request may have been received"
	}
	return fmt.Sprintf("upstream %s: %s: %v (%s; %s)", e.Upstream, e.Doing, e.Err, e.Class, sent)
}

func (e *Error) Unwrap() error { return e.Err }

// Unsent tells that err is an upstream's and that no byte of the request can have reached the backend: sending it (to
// whomever) is a first send.
func Unsent(err error) bool {
	var e *Error
	return errors.As(err, &e) && !e.Sent
}

// Unanswered tells that err is an upstream's and came before the first byte of an answer. Whether the backend acted on
// the request is not known, unless it is Unsent too.
func Unanswered(err error) bool {
	var e *Error
	return errors.As(err, &e) && !e.Answered
}

// ClassOf is the class of err: OK for nil and for what is not an upstream's error.
func ClassOf(err error) Class {
	var e *Error
	if errors.As(err, &e) {
		return e.Class
	}
	return OK
}

// ErrAnswered is SendBody's way to say that the backend has answered before the whole body was sent.
var ErrAnswered = errors.New("answered before the whole request was sent")

var (
	errClosed   = errors.New("pool is closed")
	errBusy     = errors.New("no connection became free in time")
	errStale    = errors.New("connection was closed by the backend while it was idle")
	errSpoke    = errors.New("backend sent bytes that nobody asked for")
	errHeadSize = errors.New("head of the answer is larger than the limit")
	errCut      = errors.New("connection closed before the answer was complete")
	errInterim  = errors.New("too many interim answers")
)

func classify(err error) Class {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return Timeout
	}
	return Cut
}
