package dns

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net/netip"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/godwit-vpn/godwit/internal/dnsclient"
	"github.com/godwit-vpn/godwit/internal/dnsmessage/dnstest"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transport/transporttest"
	"github.com/godwit-vpn/godwit/internal/transports/pipe"
)

func TestMain(m *testing.M) {
	// KCP has two goroutines of its own for as long as the program runs, for what is not used of it here.
	before := goleak.IgnoreCurrent()
	code := m.Run()
	if code == 0 {
		time.Sleep(leaveTime + farewellTime) // a client that was closed says goodbye
		if err := goleak.Find(before); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

const testZone = "t.example.net"

// gateway is a name server on a port of loopback, UDP and TCP.
type gateway struct {
	*Listener
	addr string
	pin  [32]byte
}

func newGateway(t testing.TB, change ...func(*ListenConfig)) *gateway {
	t.Helper()
	key, pin := transporttest.NewKey(t)
	udp, tcp := dnstest.Ports(t)
	cfg := ListenConfig{
		Zone: testZone, UDP: udp, TCP: tcp,
		Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
		Pipe:  pipe.ListenConfig{Key: key, Door: transporttest.Lock{}, Tickets: [32]byte{1}},
	}
	for _, c := range change {
		c(&cfg)
	}
	l, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &gateway{l, udp.LocalAddr().String(), pin}
}

func resolver(t testing.TB, s string) dnsclient.Resolver {
	t.Helper()
	r, err := dnsclient.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (g *gateway) dialer(t testing.TB, kind string) *Dialer {
	t.Helper()
	return &Dialer{Resolvers: []dnsclient.Resolver{resolver(t, kind+g.addr)}, Rate: 20_000}
}

func (g *gateway) endpoint() transport.Endpoint {
	return transport.Endpoint{Addr: testZone, Pins: [][32]byte{g.pin}, Opener: transporttest.Key{}}
}

func (g *gateway) world(d *Dialer) transporttest.World {
	return transporttest.World{Dialer: d, Listener: g, Endpoint: g.endpoint(), Bulk: 256 << 10}
}

func TestTransport(t *testing.T) {
	for _, kind := range []string{"", "tcp://"} {
		t.Run(kind, func(t *testing.T) {
			transporttest.Run(t, func(t *testing.T) transporttest.World {
				g := newGateway(t)
				return g.world(g.dialer(t, kind))
			})
		})
	}
}

// connect makes one connection.
func connect(t testing.TB, g *gateway, d *Dialer) (client, server transport.Conn) {
	t.Helper()
	accepted := make(chan transport.Conn, 1)
	go func() {
		c, _ := g.Accept()
		accepted <- c
	}()
	client, err := d.Dial(t.Context(), g.endpoint())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	select {
	case server = <-accepted:
	case <-time.After(10 * time.Second):
	}
	if server == nil {
		t.Fatal("the gateway did not take the connection")
	}
	t.Cleanup(func() { server.Close() })
	return client, server
}

// echo carries bytes there and back.
func echo(t testing.TB, client, server transport.Conn, n int) {
	t.Helper()
	want := make([]byte, n)
	rand.Read(want)
	go func() {
		io.Copy(server, io.LimitReader(server, int64(n)))
	}()
	go client.Write(want)
	got := make([]byte, n)
	client.SetReadDeadline(time.Now().Add(time.Minute))
	if m, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d of %d bytes came back, %v", m, n, err)
	}
	client.SetReadDeadline(time.Time{})
}

func TestEcho(t *testing.T) {
	g := newGateway(t)
	d := g.dialer(t, "")
	start := time.Now()
	client, server := connect(t, g, d)
	t.Logf("dialled after %v, %d queries", time.Since(start), d.Queries())
	echo(t, client, server, 20_000)
	t.Logf("echoed after %v, %d queries", time.Since(start), d.Queries())
}
