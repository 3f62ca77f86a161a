package doctor

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/accesskey"
)

// mute takes connections and says nothing.
func mute(t *testing.T) accesskey.Endpoint {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	at := l.Addr().(*net.TCPAddr).AddrPort()
	return accesskey.Endpoint{Host: at.Addr().String(), Port: at.Port()}
}

// Whoever gives up is not kept waiting, wherever it is.
func TestCancelled(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{0, 300 * time.Millisecond, 1500 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		defer cancel()
		began := time.Now()
		r, err := Run(ctx, Config{Endpoints: []accesskey.Endpoint{mute(t)}, Names: []string{"name.example"}})
		if !errors.Is(err, context.DeadlineExceeded) || r != nil {
			t.Errorf("after %v: %v, %v", after, r, err)
		}
		if took := time.Since(began) - after; took > 5*time.Second {
			t.Errorf("after %v it took %v more", after, took)
		}
	}
}

// A name of the gateway's that nobody knows leaves nothing to look at, and says so.
func TestNameNotFound(t *testing.T) {
	t.Parallel()
	r, err := Run(t.Context(), Config{Endpoints: []accesskey.Endpoint{{Host: "gateway.example", Name: "gateway.example"}},
		Addresses: func() int { return 1 },
		Lookup: func(context.Context, string) ([]netip.Addr, error) {
			return nil, &net.DNSError{Err: "no such host", Name: "gateway.example", IsNotFound: true}
		}})
	if err != nil || len(r.Findings) != 1 || r.Findings[0].Kind != Unreachable || r.Findings[0].How != "lookup" || r.Healthy() {
		t.Errorf("%+v, %v", r, err)
	}
	if places, names := r.Who(); len(places) != 0 || len(names) != 2 {
		t.Errorf("%v, %v", places, names)
	}
}
