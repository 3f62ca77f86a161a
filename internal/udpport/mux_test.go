package udpport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/packet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	tun4 = netip.MustParseAddr("10.77.0.2")
	tun6 = netip.MustParseAddr("fd77::2")
)

// answer is a world that sends every datagram back: it is the session's other end, with the gateway behind it.
func answer(t testing.TB, m **Mux) func([]byte) error {
	return func(b []byte) error {
		p, err := packet.Parse(b)
		if err != nil {
			t.Error(err)
			return err
		}
		u, err := p.UDP()
		if err != nil {
			t.Error(err)
			return err
		}
		back, err := packet.AppendUDP(nil, u.Dst, u.Src, u.Payload)
		if err != nil {
			t.Error(err)
			return err
		}
		(*m).Deliver(back)
		return nil
	}
}

func newMux(t testing.TB, c Config) *Mux {
	t.Helper()
	var m *Mux
	if c.Send == nil {
		c.Send = answer(t, &m)
	}
	if !c.Addr4.IsValid() && !c.Addr6.IsValid() {
		c.Addr4, c.Addr6 = tun4, tun6
	}
	m = New(c)
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if s := m.Stats(); s.Ports != 0 || s.Queued != 0 {
			t.Errorf("left behind after Close: %+v", s)
		}
	})
	return m
}

func listen(t testing.TB, m *Mux) *port {
	t.Helper()
	c, err := m.ListenPacket(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c.(*port)
}

// from builds the packet that a datagram from a remote host arrives in.
func from(t testing.TB, remote string, to netip.AddrPort, payload []byte) []byte {
	t.Helper()
	b, err := packet.AppendUDP(nil, netip.MustParseAddrPort(remote), to, payload)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (p *port) at(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, p.number) }

func TestBothVersionsFromOnePort(t *testing.T) {
	t.Parallel()
	p := listen(t, newMux(t, Config{}))
	for _, remote := range []string{"198.51.100.9:53", "[2001:db8::9]:443", "[::ffff:198.51.100.9]:53"} {
		addr := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(remote))
		for _, size := range []int{0, 1, 1200, 2048, 2049, 60000} {
			payload := make([]byte, size)
			for i := range payload {
				payload[i] = byte(i * 7)
			}
			if n, err := p.WriteTo(payload, addr); n != size || err != nil {
				t.Fatalf("%s: wrote %d of %d, %v", remote, n, size, err)
			}
			buf := make([]byte, 65536)
			n, back, err := p.ReadFrom(buf)
			if err != nil || string(buf[:n]) != string(payload) {
				t.Fatalf("%s: %d bytes came back as %d, %v", remote, size, n, err)
			}
			if u, ok := back.(*net.UDPAddr); !ok || !u.IP.Equal(addr.IP) || u.Port != addr.Port {
				t.Errorf("%s: answer from %v", remote, back)
			}
		}
	}
	if a := p.LocalAddr().(*net.UDPAddr); a.AddrPort() != p.at(tun4) {
		t.Errorf("local address %v", a)
	}
}

func TestWriteRefuses(t *testing.T) {
	t.Parallel()
	full := errors.New("full")
	both := Config{Send: func([]byte) error { return full }}
	tests := []struct {
		name string
		cfg  Config
		to   net.Addr
		code flow.Code
		is   error
	}{
		{"session's error", both, &net.UDPAddr{IP: net.IPv4(1, 2, 3, 4), Port: 1}, flow.CodeReset, full},
		{"tcp address", both, &net.TCPAddr{IP: net.IPv4(1, 2, 3, 4), Port: 1}, flow.CodeBadTarget, nil},
		{"no address", both, nil, flow.CodeBadTarget, nil},
		{"nil address", both, (*net.UDPAddr)(nil), flow.CodeBadTarget, nil},
		{"no IP", both, &net.UDPAddr{Port: 1}, flow.CodeBadTarget, nil},
		{"port 0", both, &net.UDPAddr{IP: net.IPv4(1, 2, 3, 4)}, flow.CodeBadTarget, nil},
		{"zone", both, &net.UDPAddr{IP: net.ParseIP("fe80::1"), Port: 1, Zone: "eth0"}, flow.CodeBadTarget, nil},
		{"no ipv6", Config{Addr4: tun4}, &net.UDPAddr{IP: net.ParseIP("2001:db8::1"), Port: 1}, flow.CodeNetUnreach,
			syscall.ENETUNREACH},
		{"no ipv4", Config{Addr6: tun6}, &net.UDPAddr{IP: net.IPv4(1, 2, 3, 4), Port: 1}, flow.CodeNetUnreach,
			syscall.ENETUNREACH},
	}
	for _, tt := range tests {
		p := listen(t, newMux(t, tt.cfg))
		n, err := p.WriteTo([]byte("x"), tt.to)
		if n != 0 || err == nil || flow.CodeOf(err) != tt.code || tt.is != nil && !errors.Is(err, tt.is) {
			t.Errorf("%s: got %d, %v (%v), want %v", tt.name, n, err, flow.CodeOf(err), tt.code)
		}
	}
	p := listen(t, newMux(t, Config{}))
	to := &net.UDPAddr{IP: net.IPv4(1, 2, 3, 4), Port: 1}
	if _, err := p.WriteTo(make([]byte, 65508), to); !errors.Is(err, packet.ErrTooLong) {
		t.Errorf("too long: got %v", err)
	}
}

func TestNewSession(t *testing.T) {
	t.Parallel()
	var last atomic.Value
	m := newMux(t, Config{Send: func(b []byte) error {
		src, _, err := packet.Addrs(b)
		last.Store(src)
		return err
	}})
	p := listen(t, m)
	to := &net.UDPAddr{IP: net.IPv4(198, 51, 100, 9), Port: 53}
	next := netip.MustParseAddr("10.77.0.99")
	m.SetAddrs(next, netip.Addr{})
	if _, err := p.WriteTo([]byte("x"), to); err != nil || last.Load() != next {
		t.Errorf("sent from %v, %v", last.Load(), err)
	}
	if _, err := p.WriteTo([]byte("x"), &net.UDPAddr{IP: net.ParseIP("2001:db8::1"), Port: 1}); err == nil {
		t.Error("sent over ipv6 without an address")
	}
	m.Deliver(from(t, "198.51.100.9:53", p.at(tun4), []byte("to the old address")))
	m.Deliver(from(t, "[2001:db8::9]:53", p.at(tun6), []byte("to the old address")))
	m.Deliver(from(t, "198.51.100.9:53", p.at(next), []byte("to the new one")))
	buf := make([]byte, 100)
	if n, _, err := p.ReadFrom(buf); err != nil || string(buf[:n]) != "to the new one" {
		t.Errorf("got %q, %v", buf[:n], err)
	}
	if s := m.Stats(); s.Dropped != 2 {
		t.Errorf("dropped %d, want 2", s.Dropped)
	}
	m.SetAddrs(netip.Addr{}, netip.Addr{})
	if _, err := p.WriteTo([]byte("x"), to); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("without a session: got %v", err)
	}
	if a := p.LocalAddr().String(); a != fmt.Sprintf("0.0.0.0:%d", p.number) {
		t.Errorf("local address without a session: %v", a)
	}
}

func TestDeliverDrops(t *testing.T) {
	t.Parallel()
	m := newMux(t, Config{})
	p := listen(t, m)
	good := from(t, "198.51.100.9:53", p.at(tun4), []byte("x"))
	bad := append([]byte(nil), good...)
	bad[len(bad)-1] ^= 1
	echo, _ := packet.AppendEcho(nil, true, netip.MustParseAddr("198.51.100.9"), tun4, p.number, 1, nil)
	other := listen(t, m)
	gone := from(t, "198.51.100.9:53", other.at(tun4), []byte("x"))
	_ = other.Close()
	in := [][]byte{nil, good[:len(good)-1], bad, echo, gone,
		from(t, "198.51.100.9:53", p.at(netip.MustParseAddr("10.77.0.3")), []byte("x"))}
	for _, b := range in {
		m.Deliver(b)
	}
	if s := m.Stats(); s.Dropped != uint64(len(in)) || s.Queued != 0 {
		t.Errorf("got %+v, want %d dropped and none queued", s, len(in))
	}
}

func TestQueueBounds(t *testing.T) {
	t.Parallel()
	m := newMux(t, Config{Queue: 10, MaxQueued: 14 * slabSize})
	p, q := listen(t, m), listen(t, m)
	for i := range 20 {
		m.Deliver(from(t, "198.51.100.9:53", p.at(tun4), []byte{byte(i)}))
	}
	for i := range 20 {
		m.Deliver(from(t, "198.51.100.9:53", q.at(tun4), []byte{byte(i)}))
	}
	if s := m.Stats(); s.Queued != 14*slabSize || s.Dropped != 26 {
		t.Errorf("got %+v, want 14 of 40 queued", s)
	}
	_ = p.SetReadDeadline(time.Now().Add(-1))
	if _, _, err := p.ReadFrom(nil); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("late read with datagrams waiting: got %v", err)
	}
	_ = p.SetReadDeadline(time.Time{})
	for i := range 10 { // the first ones, in order, and the rest of each is lost with a short buffer
		var b [1]byte
		if n, _, err := p.ReadFrom(b[:]); n != 1 || err != nil || int(b[0]) != i {
			t.Fatalf("datagram %d: got %d, %v", i, b[0], err)
		}
	}
	m.Deliver(from(t, "198.51.100.9:53", p.at(tun4), []byte("longer than the buffer")))
	var b [6]byte
	if n, _, err := p.ReadFrom(b[:]); err != nil || string(b[:n]) != "longer" {
		t.Errorf("got %q, %v", b[:n], err)
	}
	_ = q.Close()
	if s := m.Stats(); s.Queued != 0 || s.Ports != 1 {
		t.Errorf("after close: %+v", s)
	}
	// Bytes are bounded by what is really held: a long datagram's own buffer.
	for range 20 {
		m.Deliver(from(t, "198.51.100.9:53", p.at(tun4), make([]byte, 10000)))
	}
	if s := m.Stats(); s.Queued < 10000 || s.Queued > 14*slabSize {
		t.Errorf("long ones: %+v", s)
	}
}

func TestPortBounds(t *testing.T) {
	t.Parallel()
	m := newMux(t, Config{MaxPorts: 200})
	open := make(map[uint16]*port)
	for range 200 {
		p := listen(t, m)
		if p.number < firstPort || open[p.number] != nil {
			t.Fatalf("port %d", p.number)
		}
		open[p.number] = p
	}
	if _, err := m.ListenPacket(t.Context()); flow.CodeOf(err) != flow.CodeBusy {
		t.Errorf("one too many: got %v", err)
	}
	for _, p := range open {
		for range 2 { // closing again must not free a port that someone else has drawn since
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		}
		break
	}
	listen(t, m)
	if _, err := m.ListenPacket(t.Context()); flow.CodeOf(err) != flow.CodeBusy {
		t.Errorf("one too many again: got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.ListenPacket(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	_ = m.Close()
	if _, err := m.ListenPacket(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: got %v", err)
	}
}

func TestCloseUnblocks(t *testing.T) {
	t.Parallel()
	for _, byMux := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			m := newMux(t, Config{})
			p := listen(t, m)
			errs := make(chan error, 3)
			for range 3 {
				go func() {
					_, _, err := p.ReadFrom(make([]byte, 10))
					errs <- err
				}()
			}
			synctest.Wait()
			if byMux {
				_ = m.Close()
			} else {
				_ = p.Close()
			}
			for range 3 {
				if err := <-errs; !errors.Is(err, net.ErrClosed) {
					t.Errorf("by mux %v: got %v", byMux, err)
				}
			}
			to := &net.UDPAddr{IP: net.IPv4(1, 2, 3, 4), Port: 1}
			if _, err := p.WriteTo([]byte("x"), to); !errors.Is(err, net.ErrClosed) {
				t.Errorf("write: got %v", err)
			}
			if err := p.SetDeadline(time.Now()); !errors.Is(err, net.ErrClosed) {
				t.Errorf("deadline: got %v", err)
			}
			if err := p.Close(); err != nil {
				t.Errorf("close again: %v", err)
			}
		})
	}
}

func TestDeadlines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := listen(t, newMux(t, Config{}))
		to := &net.UDPAddr{IP: net.IPv4(1, 2, 3, 4), Port: 1}
		buf := make([]byte, 10)
		start := time.Now()
		_ = p.SetDeadline(start.Add(time.Second))
		_, _, err := p.ReadFrom(buf)
		var ne net.Error
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("got %v", err)
		}
		if d := time.Since(start); d != time.Second {
			t.Errorf("read ended after %v", d)
		}
		if _, err := p.WriteTo([]byte("x"), to); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("late write: got %v", err)
		}

		// A deadline that moves takes a waiting reader with it, either way.
		for _, moved := range []time.Duration{time.Minute, time.Second, -time.Second} {
			_ = p.SetReadDeadline(time.Now().Add(10 * time.Second))
			start, done := time.Now(), make(chan error)
			go func() { _, _, err := p.ReadFrom(buf); done <- err }()
			synctest.Wait()
			_ = p.SetReadDeadline(time.Now().Add(moved))
			if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != max(moved, 0) {
				t.Errorf("moved to %v: ended after %v with %v", moved, time.Since(start), err)
			}
		}

		// Lifted, it does not come back.
		_ = p.SetReadDeadline(time.Now().Add(time.Second))
		_ = p.SetDeadline(time.Time{})
		done := make(chan error)
		go func() { _, _, err := p.ReadFrom(buf); done <- err }()
		time.Sleep(time.Hour)
		if _, err := p.WriteTo([]byte("x"), to); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Errorf("lifted: got %v", err)
		}
	})
}

// Ports come and go, addresses change and packets arrive, all at once: for the race detector.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	m := newMux(t, Config{MaxPorts: 8})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 50 {
				c, err := m.ListenPacket(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
				go c.Close()
				buf := make([]byte, 10)
				for {
					_, err := c.WriteTo([]byte{byte(i)}, &net.UDPAddr{IP: net.IPv4(1, 2, 3, 4), Port: 1})
					if err == nil {
						_, _, err = c.ReadFrom(buf)
					}
					if err != nil {
						break
					}
					if buf[0] != byte(i) {
						t.Errorf("port of %d got %d", i, buf[0])
					}
				}
				_ = c.Close()
				m.SetAddrs(tun4, tun6)
			}
		})
	}
	wg.Wait()
}

func TestNoAllocation(t *testing.T) {
	p := listen(t, newMux(t, Config{Send: func([]byte) error { return nil }}))
	to, payload := netip.MustParseAddrPort("198.51.100.9:53"), make([]byte, 1200)
	in, buf := from(t, "198.51.100.9:53", p.at(tun4), payload), make([]byte, 1500)
	n := testing.AllocsPerRun(200, func() {
		if _, err := p.WriteToUDPAddrPort(payload, to); err != nil {
			t.Fatal(err)
		}
		p.mux.Deliver(in)
		if _, _, err := p.ReadFromUDPAddrPort(buf); err != nil {
			t.Fatal(err)
		}
	})
	if n > 0.5 && !raceEnabled {
		t.Errorf("%v allocations a round", n)
	}
}
