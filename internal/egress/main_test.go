package egress

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/godwit-vpn/godwit/internal/flow"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const both = flow.IPv4 | flow.IPv6

// newSockets is an egress that may use loopback, since tests have no other network.
func newSockets(t testing.TB, c Config) *Sockets {
	t.Helper()
	if c.Allow == nil {
		c.Allow = prefixes(t, "127.0.0.0/8", "::1/128")
	}
	if c.Families == 0 {
		c.Families = both
	}
	if c.Lookup == nil {
		c.Lookup = names{}
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if n := s.Stats().Mappings; n != 0 {
			t.Errorf("%d mappings left", n)
		}
	})
	return s
}

// names is a resolver that knows these.
type names map[string][]string

func (n names) LookupNetIP(_ context.Context, network, host string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, s := range n[host] {
		a := netip.MustParseAddr(s)
		if network == "ip" || (network == "ip4") == a.Unmap().Is4() {
			out = append(out, a)
		}
	}
	if out == nil {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return out, nil
}

// lookupFunc is a resolver made of a function.
type lookupFunc func(ctx context.Context, network, host string) ([]netip.Addr, error)

func (f lookupFunc) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	return f(ctx, network, host)
}

// serve listens and gives every connection to handle.
func serve(t testing.TB, network, addr string, handle func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Skipf("no %s here: %v", network, err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(10 * time.Second))
				handle(c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// closedPortOf is a port of a where nobody listens.
func closedPortOf(t testing.TB, a string) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(a, "0"))
	if err != nil {
		t.Skip(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}
