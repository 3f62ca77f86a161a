package tun_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/packet"
)

// Protocols that are neither TCP nor UDP cross where the gateway carries them, and are refused at once where it does not.
func TestProtocols(t *testing.T) {
	m := newMachine(t)
	for _, to := range []netip.Addr{netip.MustParseAddr("203.0.113.5"), netip.MustParseAddr("2001:db8::5")} {
		inner := inner4
		if to.Is6() {
			inner = inner6
		}
		var c net.Conn
		if err := m.host.DoApart(func() (err error) {
			c, err = net.Dial("ip:253", to.String())
			return err
		}); err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		forwards := func(yes bool) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.any = yes
		}
		forwards(true)
		c.Write([]byte("experiment"))
		p := m.next()
		if p.Proto != 253 || p.Src != inner || p.Dst != to || string(p.Payload) != "experiment" {
			t.Errorf("to %v: protocol %d from %v to %v: %q", to, p.Proto, p.Src, p.Dst, p.Payload)
		}
		back, err := packet.AppendUDP(nil, netip.AddrPortFrom(to, 0x6861), netip.AddrPortFrom(inner, 0x6861), nil)
		if err != nil {
			t.Fatal(err)
		}
		if to.Is4() {
			packet.AdjustChecksum(back[10:], packet.ProtoUDP, 253, true)
			back[9] = 253
		} else {
			back[6] = 253
		}
		m.capture.Deliver(back)
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		b := make([]byte, 100)
		if n, err := c.Read(b); err != nil || !strings.Contains(string(b[:n]), "haha") {
			t.Errorf("from %v: %q, %v", to, b[:n], err)
		}
		forwards(false)
		c.Write([]byte("experiment"))
		if n, err := c.Read(b); !errors.Is(err, syscall.EHOSTUNREACH) && !errors.Is(err, syscall.EACCES) {
			t.Errorf("where the gateway carries no such thing: %q, %v", b[:n], err)
		}
	}
}

// What the machine has to say of a packet that it was sent reaches whoever has sent it.
func TestErrorsOut(t *testing.T) {
	m := newMachine(t)
	m.mu.Lock()
	m.any = true
	m.mu.Unlock()
	for _, from := range []string{"203.0.113.5:53", "[2001:db8::5]:53"} {
		from, inner := netip.MustParseAddrPort(from), inner4
		if from.Addr().Is6() {
			inner = inner6
		}
		b, err := packet.AppendUDP(nil, from, netip.AddrPortFrom(inner, 9), []byte("to a closed port"))
		if err != nil {
			t.Fatal(err)
		}
		m.capture.Deliver(b)
		p := m.next()
		e, err := p.ICMP()
		if err != nil {
			t.Fatal(err)
		}
		q, err := e.Quoted()
		if s := fmt.Sprint(e.Kind, p.Src, p.Dst, q.Src, q.Dst); err != nil ||
			s != fmt.Sprint(packet.Unreachable, inner, from.Addr(), from, netip.AddrPortFrom(inner, 9)) {
			t.Errorf("%s, %v", s, err)
		}
	}
}
