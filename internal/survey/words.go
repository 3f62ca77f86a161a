package survey

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/godwit-vpn/godwit/internal/transport"
)

// why says what went wrong, without the address once more.
func why(err error) string {
	var reason transport.Reason
	var errno syscall.Errno
	switch {
	case errors.Is(err, transport.ErrDoor):
		return transport.ErrDoor.Error()
	case errors.Is(err, transport.ErrPin):
		return transport.ErrPin.Error()
	case errors.As(err, &reason):
		return clean(string(reason), 120)
	case timedOut(err):
		return "no answer in time"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed without an answer"
	case errors.As(err, &errno):
		return errno.Error()
	}
	return clean(err.Error(), 120)
}

func timedOut(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.Is(err, syscall.ETIMEDOUT)
}

// clean makes what somebody else's server says fit to be shown on a terminal, in at most that many characters.
func clean(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > most {
		s = string(r[:most-1]) + "…"
	}
	return s
}

// took is a duration as people say it.
func took(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// amount is a number with a unit that has prefixes: 12.3 Mbit/s, 640 kB.
func amount(v float64, unit string) string {
	for _, prefix := range []string{"", "k", "M"} {
		if v < 999.5 {
			return fmt.Sprintf("%.3g %s%s", v, prefix, unit)
		}
		v /= 1000
	}
	return fmt.Sprintf("%.3g G%s", v, unit)
}
