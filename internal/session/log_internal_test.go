package session

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

// An error of the net package names both ends; what is logged of it does not.
func TestNoAddressInLog(t *testing.T) {
	t.Parallel()
	end := func(s string) net.Addr {
		a, err := net.ResolveTCPAddr("tcp", s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	reset := &net.OpError{Op: "read", Net: "tcp", Source: end("203.0.113.2:443"), Addr: end("198.51.100.77:50000"),
		Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{ErrSilent, ErrSilent.Error()},
		{reset, "connection reset"},
		{fmt.Errorf("reading: %w", reset), "connection reset"},
		{fmt.Errorf("reading: %w", &net.OpError{Op: "raw-read", Net: "tcp", Addr: reset.Addr, Err: reset}), "connection reset"},
	} {
		got := withoutAddress(tt.err)
		if strings.Contains(got, "198.51.100") || strings.Contains(got, "203.0.113") || !strings.Contains(got, tt.want) {
			t.Errorf("%v is logged as %q, want %q without addresses", tt.err, got, tt.want)
		}
	}
}
