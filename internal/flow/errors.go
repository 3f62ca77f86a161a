package flow

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
)

// Code says why a stream could not be opened or was cut. It crosses the wire: numbers are never reused.
type Code uint16

// The codes. PROTOCOL.md lists them; each capture maps them to its own protocol's answers.
const (
	CodeNone          Code = 0  // ended as asked, no error
	CodeRefused       Code = 1  // the host answered with a reset
	CodeNetUnreach    Code = 2  // no route to its network, or its address family cannot be reached from here
	CodeHostUnreach   Code = 3  // its network says the host is not there
	CodeTimeout       Code = 4  // nobody answered
	CodeNameNotFound  Code = 5  // the name does not exist or has no address
	CodeNameFailed    Code = 6  // the name could not be looked up now
	CodeDenied        Code = 7  // the gateway's policy refuses this destination
	CodeBusy          Code = 8  // a limit of this device is reached: try again later
	CodeBadTarget     Code = 9  // not something that can be connected to
	CodeReset         Code = 10 // the connection was reset after it had been opened
	CodeSessionLost   Code = 11 // the session ended: the gateway or the client was restarted or slept too long
	CodeMemory        Code = 12 // reset to stay inside the memory limit
	CodeInternal      Code = 13 // a bug: the other end's log says more
	CodeLocalShutdown Code = 14 // the program at this end is stopping
)

var codeTexts = map[Code]string{
	CodeNone:          "ended",
	CodeRefused:       "connection refused",
	CodeNetUnreach:    "network unreachable",
	CodeHostUnreach:   "host unreachable",
	CodeTimeout:       "timed out",
	CodeNameNotFound:  "no such name",
	CodeNameFailed:    "name lookup failed",
	CodeDenied:        "destination refused by the gateway's policy",
	CodeBusy:          "too many connections at once",
	CodeBadTarget:     "bad target",
	CodeReset:         "connection reset",
	CodeSessionLost:   "session lost",
	CodeMemory:        "reset to stay within memory",
	CodeInternal:      "internal error",
	CodeLocalShutdown: "shutting down",
}

// String is a short English phrase.
func (c Code) String() string {
	if s, ok := codeTexts[c]; ok {
		return s
	}
	return fmt.Sprintf("code %d", uint16(c))
}

// ErrReset is matched by every *Error that ended a stream which had been open.
var ErrReset = errors.New("stream reset")

// Error is a stream's failure, as it crosses the wire: the code only, never text from elsewhere.
type Error struct {
	Code Code
	// Detail is local text for a log or a person; it never leaves this machine.
	Detail string
}

// Errorf makes an *Error with a local detail.
func Errorf(c Code, format string, args ...any) *Error {
	return &Error{Code: c, Detail: fmt.Sprintf(format, args...)}
}

func (e *Error) Error() string {
	if e.Detail != "" {
		return e.Detail
	}
	return e.Code.String()
}

// Is makes errors.Is work with ErrReset, the matching syscall errors, net.ErrClosed and deadlines.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrReset, syscall.ECONNRESET:
		return e.Code == CodeReset || e.Code == CodeSessionLost || e.Code == CodeMemory
	case syscall.ECONNREFUSED:
		return e.Code == CodeRefused
	case syscall.ENETUNREACH:
		return e.Code == CodeNetUnreach
	case syscall.EHOSTUNREACH:
		return e.Code == CodeHostUnreach
	case syscall.ETIMEDOUT, os.ErrDeadlineExceeded:
		return e.Code == CodeTimeout
	}
	return false
}

// Timeout makes *Error a net.Error.
func (e *Error) Timeout() bool { return e.Code == CodeTimeout }

// Temporary completes net.Error.
func (e *Error) Temporary() bool { return e.Code == CodeBusy || e.Code == CodeNameFailed }

// CodeOf finds the code that tells the far side what err was.
func CodeOf(err error) Code {
	var fe *Error
	var dns *net.DNSError
	var ne net.Error
	switch {
	case err == nil:
		return CodeNone
	case errors.As(err, &fe):
		return fe.Code
	case errors.As(err, &dns):
		if dns.IsNotFound {
			return CodeNameNotFound
		}
		return CodeNameFailed
	case errors.Is(err, syscall.ECONNREFUSED):
		return CodeRefused
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EAFNOSUPPORT), errors.Is(err, syscall.EADDRNOTAVAIL):
		return CodeNetUnreach
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EHOSTDOWN):
		return CodeHostUnreach
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return CodeDenied
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOBUFS):
		return CodeBusy
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return CodeTimeout
	case errors.As(err, &ne) && ne.Timeout():
		return CodeTimeout
	default:
		return CodeReset
	}
}
