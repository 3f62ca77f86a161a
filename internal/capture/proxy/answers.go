package proxy

import (
	"errors"
	"net/http"

	"github.com/godwit-vpn/godwit/internal/flow"
)

// SOCKS5 replies (RFC 1928 §6).
const (
	replySucceeded   = 0
	replyFailure     = 1
	replyNotAllowed  = 2
	replyNetUnreach  = 3
	replyHostUnreach = 4
	replyRefused     = 5
	replyTTLExpired  = 6
	replyNoCommand   = 7
	replyNoAddrType  = 8
)

// socksReply is the SOCKS5 reply that makes applications say what happened.
func socksReply(c flow.Code) byte {
	switch c {
	case flow.CodeNone:
		return replySucceeded
	case flow.CodeRefused:
		return replyRefused
	case flow.CodeNetUnreach:
		return replyNetUnreach
	case flow.CodeHostUnreach:
		return replyHostUnreach
	case flow.CodeTimeout:
		// SOCKS5 has no "timed out". Firefox shows its time-out page for 6 and "refused" for anything it does not know;
		// curl prints the number; Tor, which most SOCKS clients were tried with, answers 6 as well.
		return replyTTLExpired
	case flow.CodeNameNotFound, flow.CodeNameFailed:
		// No number for names either. Chromium tells the host apart from the proxy only by 4, and Tor answers it.
		return replyHostUnreach
	case flow.CodeDenied:
		return replyNotAllowed
	default:
		return replyFailure
	}
}

// httpStatus is the HTTP status for a target that could not be opened.
func httpStatus(c flow.Code) int {
	switch c {
	case flow.CodeTimeout:
		return http.StatusGatewayTimeout
	case flow.CodeDenied:
		return http.StatusForbidden
	case flow.CodeBusy:
		return http.StatusTooManyRequests
	case flow.CodeBadTarget:
		return http.StatusBadRequest
	case flow.CodeNameFailed, flow.CodeMemory, flow.CodeSessionLost, flow.CodeLocalShutdown:
		return http.StatusServiceUnavailable // worth another try soon
	default:
		return http.StatusBadGateway
	}
}

// neverOpened reports whether err is one that an early answer has hidden: the gateway could not open the stream.
func neverOpened(err error) bool {
	var fe *flow.Error
	if !errors.As(err, &fe) {
		return false
	}
	switch fe.Code {
	case flow.CodeRefused, flow.CodeNetUnreach, flow.CodeHostUnreach, flow.CodeTimeout, flow.CodeNameNotFound,
		flow.CodeNameFailed, flow.CodeDenied, flow.CodeBusy, flow.CodeBadTarget:
		return true
	}
	return false
}
