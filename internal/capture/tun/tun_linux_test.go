package tun_test

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/packet"
)

func echo(f *far) {
	io.Copy(f, f)
	f.Close()
}

// Connections do what they would do without a tunnel.
func TestConnections(t *testing.T) {
	t.Run("calls", func(t *testing.T) { connections(t, newMachineThat(t, true)) })
	t.Run("listens", func(t *testing.T) { connections(t, newMachineThat(t, false)) })
}

func connections(t *testing.T, m *machine) {
	for _, host := range []string{"203.0.113.5", "2001:db8::5"} {
		at := func(port int) string { return net.JoinHostPort(host, fmt.Sprint(port)) }
		m.mu.Lock()
		m.behind[at(7)] = echo
		m.behind[at(80)] = echo
		m.behind[at(9)] = func(f *far) { // reads half, then resets
			io.ReadFull(f, make([]byte, 10))
			f.abort()
		}
		m.behind[at(11)] = func(f *far) { // ends its half first, and then says how much came
			f.Write([]byte("bye"))
			f.CloseWrite()
			n, _ := io.Copy(io.Discard, f)
			m.sent <- []byte(fmt.Sprint(n))
			f.Close()
		}
		m.behind[at(13)] = func(f *far) { // waits to be reset
			_, err := io.Copy(io.Discard, f)
			m.sent <- []byte(fmt.Sprint(errors.Is(err, syscall.ECONNRESET)))
			f.Close()
		}
		m.fails[at(1)] = flow.CodeRefused
		m.fails[at(2)] = flow.CodeNetUnreach
		m.fails[at(3)] = flow.CodeHostUnreach
		m.fails[at(4)] = flow.CodeDenied
		m.mu.Unlock()

		for port, want := range map[int][]syscall.Errno{1: {syscall.ECONNREFUSED}, 2: {syscall.ENETUNREACH},
			3: {syscall.EHOSTUNREACH}, 4: {syscall.EHOSTUNREACH, syscall.EACCES}} {
			began := time.Now()
			_, err := m.dial(at(port))
			ok := false
			for _, e := range want {
				ok = ok || errors.Is(err, e)
			}
			if !ok || time.Since(began) > 2*time.Second {
				t.Errorf("%s: %v after %v, and it should be %v", at(port), err, time.Since(began), want)
			}
		}

		c, err := m.dial(at(7))
		if err != nil {
			t.Fatalf("%s: %v", at(7), err)
		}
		if got := c.RemoteAddr().String(); got != at(7) {
			t.Errorf("the application sees %s", got)
		}
		want := make([]byte, 5<<20)
		rand.Read(want)
		go func() {
			c.Write(want)
			c.CloseWrite()
		}()
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: 5 MiB came back as %d bytes, %v", host, len(got), err)
		}

		c, err = m.dial(at(9))
		if err != nil {
			t.Fatal(err)
		}
		c.Write(make([]byte, 20))
		if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: the far side's reset came as %v", host, err)
		}

		c, err = m.dial(at(11))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(c); err != nil || string(b) != "bye" {
			t.Errorf("%s: before the half-close came %q, %v", host, b, err)
		}
		c.Write(make([]byte, 1000))
		c.CloseWrite()
		if got := string(<-m.sent); got != "1000" {
			t.Errorf("%s: after its half-close the far side got %s bytes of 1000", host, got)
		}

		c, err = m.dial(at(13))
		if err != nil {
			t.Fatal(err)
		}
		c.SetLinger(0)
		c.Close()
		if got := string(<-m.sent); got != "true" {
			t.Errorf("%s: the application's reset did not reach the far side", host)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, early := range m.early {
		if early {
			t.Error("a connection to an address that nobody asked us for was answered early")
		}
	}
}

// A program that asks for multipath TCP gets none: we would be the one to agree on it, not the far side.
func TestOnePath(t *testing.T) {
	m := newMachine(t)
	const at = "203.0.113.5:7"
	m.mu.Lock()
	m.behind[at] = echo
	m.mu.Unlock()
	err := m.host.DoApart(func() error {
		d := net.Dialer{Timeout: 3 * time.Second}
		d.SetMultipathTCP(true)
		c, err := d.Dial("tcp", at)
		if err != nil {
			return err
		}
		defer c.Close()
		if multi, err := c.(*net.TCPConn).MultipathTCP(); err != nil || multi {
			t.Errorf("multipath TCP: %v, %v", multi, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// While the gateway dials, an application waits; when it gives up, so does the gateway.
func TestHeld(t *testing.T) {
	m := newMachine(t)
	began := time.Now()
	err := m.host.DoApart(func() error {
		d := net.Dialer{Timeout: 300 * time.Millisecond}
		_, err := d.Dial("tcp", "203.0.113.5:22")
		return err
	})
	if ne := net.Error(nil); !errors.As(err, &ne) || !ne.Timeout() || time.Since(began) > 2*time.Second {
		t.Errorf("a host that does not answer: %v after %v", err, time.Since(began))
	}
	// A name that was asked for here, on a port where the client speaks first, is answered at once.
	a := netip.MustParseAddr("203.0.113.6")
	m.mu.Lock()
	m.names[a] = "site.example"
	m.behind["203.0.113.6:443"] = echo
	m.behind["203.0.113.6:22"] = echo
	m.early = nil
	m.mu.Unlock()
	for _, port := range []string{"443", "22"} {
		if _, err := m.dial(net.JoinHostPort(a.String(), port)); err != nil {
			t.Fatal(err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.early) != 2 || !m.early[0] || m.early[1] {
		t.Errorf("early: %v", m.early)
	}
}

// Thousands of short connections, many at once, all come through.
func TestManyConnections(t *testing.T) {
	m := newMachine(t)
	m.mu.Lock()
	m.behind["203.0.113.5:7"] = echo
	m.mu.Unlock()
	var wg sync.WaitGroup
	failed := make(chan error, 64)
	for range 8 {
		wg.Go(func() {
			err := m.host.DoApart(func() error {
				for i := range 100 {
					c, err := net.DialTimeout("tcp", "203.0.113.5:7", 10*time.Second)
					if err != nil {
						return fmt.Errorf("connection %d: %w", i, err)
					}
					c.Write([]byte("hello"))
					_, err = io.ReadFull(c, make([]byte, 5))
					c.Close()
					if err != nil {
						return fmt.Errorf("connection %d: %w", i, err)
					}
				}
				return nil
			})
			if err != nil {
				failed <- err
			}
		})
	}
	wg.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
}

// A connection from before the tunnel is told at once that it is no more.
func TestEarlierConnection(t *testing.T) {
	s, err := packet.AppendTCP(nil, netip.MustParseAddrPort("198.18.66.1:5000"), netip.MustParseAddrPort("203.0.113.5:80"), 7, 9, 0x10)
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(t)
	raw := m.raw(t, "ip4:tcp", own4)
	if _, err := raw.WriteTo(s[20:], &net.IPAddr{IP: net.ParseIP("203.0.113.5")}); err != nil {
		t.Fatal(err)
	}
	raw.SetReadDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 100)
	n, from, err := raw.ReadFrom(b)
	if err != nil || n < 20 || b[13] != 4 || from.String() != "203.0.113.5" {
		t.Errorf("%x from %v, %v; it should be a RST", b[:n], from, err)
	}
}

func (m *machine) raw(t *testing.T, network string, own netip.Addr) *net.IPConn {
	var c *net.IPConn
	if err := m.host.DoApart(func() (err error) {
		c, err = net.ListenIP(network, &net.IPAddr{IP: own.AsSlice()})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Datagrams cross as packets, of any length, and what comes back reaches the socket.
func TestDatagrams(t *testing.T) {
	m := newMachine(t)
	for _, own := range []netip.Addr{own4, own6} {
		to, inner := netip.MustParseAddrPort("203.0.113.5:4500"), inner4
		if own.Is6() {
			inner = inner6
			to = netip.MustParseAddrPort("[2001:db8::5]:4500")
		}
		c := m.udp("udp", to)
		for _, n := range []int{0, 1, 1472, 1473, 9000, 65507} {
			payload := make([]byte, n)
			rand.Read(payload)
			if _, err := c.Write(payload); err != nil {
				t.Fatalf("%d bytes: %v", n, err)
			}
			var b []byte
			select {
			case b = <-m.sent:
			case <-time.After(5 * time.Second):
				t.Fatalf("%d bytes did not come", n)
			}
			p, err := packet.Parse(b)
			if err != nil {
				t.Fatalf("%d bytes: %v", n, err)
			}
			u, err := p.UDP()
			if err != nil || u.Src.Addr() != inner || u.Dst != to || !bytes.Equal(u.Payload, payload) {
				t.Fatalf("%d bytes came as %d from %v to %v, %v", n, len(u.Payload), u.Src, u.Dst, err)
			}
			back, err := packet.AppendUDP(nil, to, u.Src, payload)
			if err != nil {
				t.Fatal(err)
			}
			m.capture.Deliver(back)
			got := make([]byte, 65536)
			k, err := c.Read(got)
			if err != nil || !bytes.Equal(got[:k], payload) {
				t.Fatalf("an answer of %d bytes came as %d, %v", n, k, err)
			}
		}
		from := netip.AddrPortFrom(inner, c.LocalAddr().(*net.UDPAddr).AddrPort().Port())
		about, _ := packet.AppendUDP(nil, from, to, []byte("x"))
		p, err := packet.Parse(about)
		if err != nil {
			t.Fatal(err)
		}
		unreachable, _ := packet.AppendUnreachable(nil, to.Addr(), packet.NoPort, &p)
		m.capture.Deliver(unreachable)
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a port unreachable came as %v", err)
		}
	}
	before := m.capture.Stats().Dropped
	m.capture.Deliver([]byte{0x45})
	stray, _ := packet.AppendUDP(nil, netip.MustParseAddrPort("203.0.113.5:1"), netip.MustParseAddrPort("100.64.0.8:1"), nil)
	m.capture.Deliver(stray)
	if n := m.capture.Stats().Dropped - before; n != 2 {
		t.Errorf("%d packets for nobody were dropped of 2", n)
	}
}

// A run of datagrams that a program sends by one call crosses as the datagrams it stands for.
func TestRun(t *testing.T) {
	m := newMachine(t)
	for _, to := range []string{"203.0.113.5:4500", "[2001:db8::5]:4500"} {
		c := m.udp("udp", netip.MustParseAddrPort(to))
		payload := make([]byte, 10*1200+7)
		rand.Read(payload)
		size := binary.NativeEndian.AppendUint16(nil, 1200)
		control := make([]byte, unix.CmsgSpace(len(size)))
		h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
		h.Level, h.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
		h.SetLen(unix.CmsgLen(len(size)))
		copy(control[unix.CmsgLen(0):], size)
		if _, _, err := c.WriteMsgUDP(payload, control, nil); err != nil {
			t.Fatal(err)
		}
		var got []byte
		for i := range 11 {
			select {
			case b := <-m.sent:
				p, err := packet.Parse(b)
				if err != nil {
					t.Fatalf("%s: datagram %d: %v", to, i, err)
				}
				u, err := p.UDP()
				if err != nil || u.Dst.String() != to || len(u.Payload) != min(1200, len(payload)-len(got)) {
					t.Fatalf("%s: datagram %d has %d bytes for %v, %v", to, i, len(u.Payload), u.Dst, err)
				}
				got = append(got, u.Payload...)
			case <-time.After(5 * time.Second):
				t.Fatalf("%s: datagram %d did not come", to, i)
			}
		}
		if !bytes.Equal(got, payload) {
			t.Errorf("%s: something else came", to)
		}
	}
}

// Where there is no link QUIC is refused, so that browsers turn to TCP.
func TestNoLinkNoQUIC(t *testing.T) {
	m := newMachine(t)
	m.mu.Lock()
	m.down = true
	m.mu.Unlock()
	c := m.udp("udp", netip.MustParseAddrPort("203.0.113.5:443"))
	c.Write([]byte("x"))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v, and it should be refused", err)
	}
}

// DNS questions are answered here, whoever they are for.
func TestQuestions(t *testing.T) {
	m := newMachine(t)
	for _, to := range []string{"192.0.2.53:53", "[2001:db8::53]:53"} {
		c := m.udp("udp", netip.MustParseAddrPort(to))
		c.Write([]byte("question"))
		b := make([]byte, 100)
		n, err := c.Read(b)
		if err != nil || string(b[:n]) != "answer to question" {
			t.Errorf("%s: %q, %v", to, b[:n], err)
		}
		tcp, err := m.dial(to)
		if err != nil {
			t.Fatal(err)
		}
		tcp.Write([]byte("question"))
		if _, err := io.ReadFull(tcp, b[:8]); err != nil || string(b[:8]) != "question" {
			t.Errorf("%s over TCP: %q, %v", to, b[:8], err)
		}
	}
	select {
	case b := <-m.sent:
		t.Errorf("a packet of %d bytes left", len(b))
	case <-time.After(50 * time.Millisecond):
	}
}

// ping is carried as it is.
func TestEcho(t *testing.T) {
	m := newMachine(t)
	raw := m.raw(t, "ip4:icmp", own4)
	request, err := packet.AppendEcho(nil, false, own4, netip.MustParseAddr("203.0.113.5"), 7, 1, []byte("ping"))
	if err != nil {
		t.Fatal(err)
	}
	raw.WriteTo(request[20:], &net.IPAddr{IP: net.ParseIP("203.0.113.5")})
	select {
	case b := <-m.sent:
		p, err := packet.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if icmp, err := p.ICMP(); err != nil || icmp.Kind != packet.EchoRequest || icmp.ID != 7 {
			t.Errorf("%+v, %v", icmp, err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the request did not come")
	}
	reply, _ := packet.AppendEcho(nil, true, netip.MustParseAddr("203.0.113.5"), inner4, 7, 1, []byte("ping"))
	m.capture.Deliver(reply)
	raw.SetReadDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 100)
	for {
		n, _, err := raw.ReadFrom(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("the reply did not come")
		}
		if n >= 8 && b[0] == 0 {
			break
		}
	}
}
