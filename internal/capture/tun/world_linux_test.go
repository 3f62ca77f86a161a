package tun_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/capture/tun"
	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/hostnet/iface"
	"github.com/godwit-vpn/godwit/internal/owner"
	"github.com/godwit-vpn/godwit/internal/rules"
	"github.com/godwit-vpn/godwit/lab/netns"
	"github.com/godwit-vpn/godwit/lab/netns/netnstest"
)

// machine is a host all of whose traffic is captured, and the world as its capture sees it: what is behind an address is a
// function.
type machine struct {
	t       testing.TB
	host    *netns.Host
	capture *tun.Capture

	mu     sync.Mutex
	behind map[string]func(*far) // by host:port
	fails  map[string]flow.Code
	names  map[netip.Addr]string
	real   map[string][]netip.Addr // by name
	early  []bool                  // as streams were opened
	sent   chan []byte
	past   chan []byte             // the tunnel
	ways   map[string]rules.Action // of packets to names, and to addresses with their port
	sentTo []string                // what was decided on
	apps   []owner.Socket          // whose
	down   bool                    // no link
	any    bool                    // the gateway carries every protocol
}

var (
	network4 = netip.MustParsePrefix("198.18.66.0/30")
	network6 = netip.MustParsePrefix("fd67:6f64:7769:7400::/126")
	first4   = netip.MustParsePrefix("198.19.0.0/16")
	first6   = netip.MustParsePrefix("fd67:6f64:7769:7401::/64")
	own4     = netip.MustParseAddr("198.18.66.1")
	own6     = netip.MustParseAddr("fd67:6f64:7769:7400::1")
	inner4   = netip.MustParseAddr("100.64.0.7")
	inner6   = netip.MustParseAddr("fd00::7")
)

func newMachine(t testing.TB) *machine {
	t.Helper()
	return newMachineThat(t, true)
}

// newMachineThat makes one whose connections end at sockets that call, or at a listener.
func newMachineThat(t testing.TB, calls bool) *machine {
	t.Helper()
	netnstest.Need(t)
	netnstest.NeedTUN(t)
	h, err := netns.NewHost("machine")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	m := &machine{t: t, host: h, behind: map[string]func(*far){}, fails: map[string]flow.Code{}, names: map[netip.Addr]string{},
		real: map[string][]netip.Addr{},
		sent: make(chan []byte, 64), past: make(chan []byte, 64), ways: map[string]rules.Action{}}
	var device tun.Device
	var name string
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(h.EnableIPv6())
	do(h.Do(func() error {
		f, actual, err := iface.Create("godwit%d", true)
		if err == nil {
			device, name = tun.NewDevice(f, true), actual
		}
		return err
	}))
	do(h.LinkUp(name))
	do(h.AddAddr(name, netip.PrefixFrom(own4, network4.Bits()), ""))
	do(h.AddAddr(name, netip.PrefixFrom(own6, network6.Bits()), ""))
	// The kernel takes packets for an address of IPv6 only some time after it has it.
	local := fmt.Sprintf("%x 80 ", own6.AsSlice())
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		var routes []byte
		do(h.Do(func() (err error) {
			routes, err = os.ReadFile("/proc/thread-self/net/ipv6_route")
			return err
		}))
		if bytes.Contains(routes, []byte(local)) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no local route for %v:\n%s", own6, routes)
		}
	}
	do(h.AddRoute(netns.Route{To: netip.MustParsePrefix("0.0.0.0/0"), Dev: name}))
	do(h.AddRoute(netns.Route{To: netip.MustParsePrefix("::/0"), Dev: name}))
	var dial func(*net.Dialer, context.Context, string, string) (net.Conn, error)
	if calls {
		dial = func(d *net.Dialer, ctx context.Context, network, address string) (c net.Conn, err error) {
			err = h.DoApart(func() error {
				c, err = d.DialContext(ctx, network, address)
				return err
			})
			return c, err
		}
	}
	do(h.Do(func() error {
		var err error
		m.capture, err = tun.New(tun.Config{Device: device, Dial: dial, Prefix4: network4, Prefix6: network6, Outside: m, Send: m.send,
			Decide: m.decide, Direct: func(b []byte) { m.past <- append([]byte(nil), b...) },
			Forwards: func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.any },
			Inner:    func() (v4, v6 netip.Addr) { return inner4, inner6 },
			Online:   func() bool { m.mu.Lock(); defer m.mu.Unlock(); return !m.down },
			Answer:   m.answer, ServeDNS: m.serveDNS,
			NameOf: func(a netip.Addr) (string, bool) {
				m.mu.Lock()
				defer m.mu.Unlock()
				name, ok := m.names[a]
				return name, ok
			},
			Synthetic: func(a netip.Addr) bool { return first4.Contains(a) || first6.Contains(a) }, Resolve: m.resolve})
		return err
	}))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.capture.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if n := m.capture.Stats().Connections; n != 0 {
			t.Errorf("%d connections are left", n)
		}
	})
	return m
}

// Open implements flow.Opener.
func (m *machine) Open(ctx context.Context, target flow.Target, early bool) (flow.Stream, error) {
	m.mu.Lock()
	m.early = append(m.early, early)
	behind, code := m.behind[target.String()], m.fails[target.String()]
	m.mu.Unlock()
	switch {
	case behind != nil:
		near, there := newStream(m.t)
		go behind(there)
		return near, nil
	case code != flow.CodeNone:
		return nil, &flow.Error{Code: code}
	}
	<-ctx.Done() // nobody answers
	return nil, flow.Errorf(flow.CodeTimeout, "nobody")
}

// resolve knows addresses of both kinds.
func (m *machine) resolve(_ context.Context, name string, six bool) (of []netip.Addr, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.real[name] {
		if a.Is6() == six {
			of = append(of, a)
		}
	}
	if of == nil {
		err = &flow.Error{Code: flow.CodeNameNotFound}
	}
	return of, err
}

func (m *machine) decide(to netip.AddrPort, name string, app owner.Socket) rules.Action {
	m.mu.Lock()
	defer m.mu.Unlock()
	if name == "" {
		name = to.String()
	}
	m.sentTo, m.apps = append(m.sentTo, name), append(m.apps, app)
	return m.ways[name]
}

func (m *machine) send(b []byte) error {
	select {
	case m.sent <- append([]byte(nil), b...):
	default:
	}
	return nil
}

func (m *machine) answer(_ context.Context, query []byte, _ int) []byte {
	return append([]byte("answer to "), query...)
}

func (m *machine) serveDNS(_ context.Context, conn net.Conn) {
	defer conn.Close()
	io.Copy(conn, conn)
}

// dial connects from the machine.
func (m *machine) dial(to string) (*net.TCPConn, error) {
	var c net.Conn
	err := m.host.DoApart(func() (err error) {
		d := net.Dialer{Timeout: 3 * time.Second}
		c, err = d.Dial("tcp", to)
		return err
	})
	if err != nil {
		return nil, err
	}
	m.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn), nil
}

// udp is a socket of the machine's.
func (m *machine) udp(network string, to netip.AddrPort) *net.UDPConn {
	m.t.Helper()
	var c *net.UDPConn
	if err := m.host.DoApart(func() (err error) {
		c, err = net.DialUDP(network, nil, net.UDPAddrFromAddrPort(to))
		return err
	}); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(5 * time.Second))
	return c
}

// far is the far end of a stream.
type far struct{ *net.TCPConn }

// near is a stream whose far end is a connection in this process.
type near struct{ *net.TCPConn }

func newStream(t testing.TB) (*near, *far) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Error(err)
		return nil, nil
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Error(err)
		return nil, nil
	}
	b, err := l.Accept()
	if err != nil {
		t.Error(err)
		return nil, nil
	}
	return &near{a.(*net.TCPConn)}, &far{b.(*net.TCPConn)}
}

func (f *far) abort() { f.SetLinger(0); f.Close() }

// Reset implements flow.Stream.
func (s *near) Reset(flow.Code) { s.SetLinger(0); s.Close() }

// Join implements flow.Stream.
func (s *near) Join(conn net.Conn) error {
	c := conn.(*net.TCPConn)
	var wg sync.WaitGroup
	var broken error
	var once sync.Once
	pass := func(to, from *net.TCPConn) {
		if _, err := io.Copy(to, from); err != nil {
			once.Do(func() {
				broken = err
				for _, c := range []*net.TCPConn{to, from} {
					c.SetLinger(0)
					c.Close()
				}
			})
			return
		}
		to.CloseWrite()
	}
	wg.Go(func() { pass(c, s.TCPConn) })
	wg.Go(func() { pass(s.TCPConn, c) })
	wg.Wait()
	c.Close()
	s.Close()
	return broken
}
