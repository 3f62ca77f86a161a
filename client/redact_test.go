package client

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/godwit-vpn/godwit/internal/transport"
)

// What status and logs say of a failed dial tells what happened and not where.
func TestRedact(t *testing.T) {
	t.Parallel()
	refused := &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 9), Port: 443},
		Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	for _, tt := range []struct {
		stage transport.Stage
		err   error
		want  string
	}{
		{transport.StageConnect, refused, "https: connect: connection refused"},
		{transport.StageLookup, &net.DNSError{Name: "gw.example", Err: "no such host", IsNotFound: true},
			"https: lookup: no such name"},
		{transport.StagePin, fmt.Errorf("tls: %w", transport.ErrPin), "https: pin: the server's key is not the gateway's"},
		{transport.StageHandshake, transport.Reason("whoever answered does not speak TLS"),
			"https: handshake: whoever answered does not speak TLS"},
		{transport.StageHandshake, fmt.Errorf("reading from 192.0.2.9: %w", io.EOF),
			"https: handshake: closed without an answer"},
	} {
		got := redact(&transport.DialError{Transport: "https", Stage: tt.stage, Err: tt.err})
		if got != tt.want || strings.Contains(got, "192.0.2.9") || strings.Contains(got, "gw.example") {
			t.Errorf("%v: %q, want %q", tt.err, got, tt.want)
		}
	}
}
