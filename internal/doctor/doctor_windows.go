package doctor

import (
	"net/netip"
	"syscall"

	"golang.org/x/sys/windows"
)

// SystemResolvers are those that this machine asks. Windows keeps them elsewhere: name them.
func SystemResolvers() []netip.AddrPort { return nil }

// systemOutcome knows Windows' numbers, which are not those of package syscall's ECONNRESET and others.
func systemOutcome(n syscall.Errno) Outcome {
	switch n {
	case windows.WSAECONNRESET, windows.WSAECONNABORTED, windows.WSAENETRESET:
		return Reset
	case windows.WSAECONNREFUSED:
		return Refused
	case windows.WSAENETUNREACH, windows.WSAEHOSTUNREACH, windows.WSAENETDOWN, windows.WSAEAFNOSUPPORT:
		return NoRoute
	case windows.WSAETIMEDOUT:
		return Silent
	case windows.WSAEADDRINUSE, windows.WSAEADDRNOTAVAIL, windows.WSAEACCES:
		return Untested
	}
	return ""
}
