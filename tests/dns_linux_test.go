package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// An association is a SOCKS5 UDP ASSOCIATE (RFC 1928 §7): the connection that keeps it alive, and the datagrams.
type association struct {
	control net.Conn
	udp     net.PacketConn
	relay   net.Addr
}

// associate asks the client's proxy for an association.
func (w *world) associate(t *testing.T) *association {
	t.Helper()
	conn, err := w.client.dial(proxyAddr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write([]byte{5, 1, 0}); err != nil {
		t.Fatal(err)
	}
	var method [2]byte
	if _, err := io.ReadFull(conn, method[:]); err != nil || method != [2]byte{5, 0} {
		t.Fatalf("the proxy chose method %v (%v), want {5 0}", method, err)
	}
	if _, err := conn.Write([]byte{5, 3, 0, 1, 0, 0, 0, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	var reply [10]byte
	if _, err := io.ReadFull(conn, reply[:]); err != nil || reply[1] != 0 || reply[3] != 1 {
		t.Fatalf("the proxy replied %v (%v) to UDP ASSOCIATE, want success and an IPv4 address", reply, err)
	}
	ip := netip.AddrFrom4([4]byte(reply[4:8]))
	if ip.IsUnspecified() {
		ip = netip.MustParseAddr("127.0.0.1")
	}
	_ = conn.SetDeadline(time.Time{})
	return &association{control: conn, udp: w.client.listenUDP(t, "127.0.0.1:0"),
		relay: net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, binary.BigEndian.Uint16(reply[8:])))}
}

// send sends one datagram to host:port, by whichever address form fits the host.
func (a *association) send(to string, payload []byte) error {
	host, port, err := net.SplitHostPort(to)
	if err != nil {
		return err
	}
	packet := []byte{0, 0, 0}
	if ip, err := netip.ParseAddr(host); err != nil {
		packet = append(append(packet, 3, byte(len(host))), host...)
	} else if ip.Is4() {
		packet = append(append(packet, 1), ip.AsSlice()...)
	} else {
		packet = append(append(packet, 4), ip.AsSlice()...)
	}
	n, err := net.LookupPort("udp", port)
	if err != nil {
		return err
	}
	packet = append(binary.BigEndian.AppendUint16(packet, uint16(n)), payload...)
	_, err = a.udp.WriteTo(packet, a.relay)
	return err
}

// receive returns one datagram and the address it says it is from.
func (a *association) receive(patience time.Duration) (from string, payload []byte, err error) {
	_ = a.udp.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 65536)
	n, _, err := a.udp.ReadFrom(buf)
	if err != nil {
		return "", nil, err
	}
	p := buf[:n]
	if n < 4 || p[0] != 0 || p[1] != 0 || p[2] != 0 {
		return "", nil, fmt.Errorf("a datagram without a SOCKS5 header: %x", p)
	}
	size := map[byte]int{1: 4, 4: 16}[p[3]]
	if size == 0 || n < 4+size+2 {
		return "", nil, fmt.Errorf("a datagram from an address of type %d", p[3])
	}
	ip, _ := netip.AddrFromSlice(p[4 : 4+size])
	port := binary.BigEndian.Uint16(p[4+size:])
	return netip.AddrPortFrom(ip, port).String(), p[4+size+2:], nil
}

// question packs a DNS query that takes answers of up to 4096 bytes.
func question(t *testing.T, id uint16, name string, typ dnsmessage.Type) []byte {
	t.Helper()
	opt := dnsmessage.ResourceHeader{}
	if err := opt.SetEDNS0(4096, dnsmessage.RCodeSuccess, false); err != nil {
		t.Fatal(err)
	}
	m := dnsmessage.Message{
		Header: dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{
			{Name: dnsmessage.MustNewName(name), Type: typ, Class: dnsmessage.ClassINET}},
		Additionals: []dnsmessage.Resource{{Header: opt, Body: &dnsmessage.OPTResource{}}},
	}
	packed, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

// ask sends a query until it is answered: packets may be lost, and resolvers ask again.
func (a *association) ask(t *testing.T, server, name string, typ dnsmessage.Type) (dnsmessage.Message, error) {
	t.Helper()
	for id := uint16(1); id <= 5; id++ {
		if err := a.send(server, question(t, id, name, typ)); err != nil {
			return dnsmessage.Message{}, err
		}
		_, payload, err := a.receive(2 * time.Second)
		if err != nil {
			continue
		}
		var m dnsmessage.Message
		if err := m.Unpack(payload); err != nil || m.ID > id || !m.Response {
			return m, fmt.Errorf("answered by %x (%v)", payload, err)
		}
		return m, nil
	}
	return dnsmessage.Message{}, errors.New("five queries without an answer")
}

// answers is the answer section as text.
func answers(m dnsmessage.Message) string {
	var all []string
	for _, a := range m.Answers {
		switch b := a.Body.(type) {
		case *dnsmessage.AResource:
			all = append(all, netip.AddrFrom4(b.A).String())
		case *dnsmessage.AAAAResource:
			all = append(all, netip.AddrFrom16(b.AAAA).String())
		case *dnsmessage.TXTResource:
			all = append(all, strings.Join(b.TXT, ""))
		}
	}
	return strings.Join(all, " ")
}

// TestDNS sends real queries over SOCKS5's UDP to real name servers.
func TestDNS(t *testing.T) {
	w := up(t)
	a := w.associate(t)
	server := net.JoinHostPort(dnsAddr, "53")
	tests := []struct {
		name, server, ask string
		typ               dnsmessage.Type
		want              string
		code              dnsmessage.RCode
	}{
		{"A", server, "site.test.", dnsmessage.TypeA, webAddr, 0},
		{"AAAA", server, "v6.test.", dnsmessage.TypeAAAA, webAddr6, 0},
		{"large TXT", server, "big.test.", dnsmessage.TypeTXT, strings.Join(bigText, ""), 0},
		{"no such name", server, "absent.test.", dnsmessage.TypeA, "", dnsmessage.RCodeNameError},
		{"server by name", "ns.test:53", "site.test.", dnsmessage.TypeA, webAddr, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := a.ask(t, tt.server, tt.ask, tt.typ)
			if err != nil {
				t.Fatal(err)
			}
			if got := answers(m); got != tt.want || m.RCode != tt.code {
				t.Errorf("answered %q, %v; want %q, %v", got, m.RCode, tt.want, tt.code)
			}
		})
	}

	t.Run("two hundred at once", func(t *testing.T) {
		a := w.associate(t)
		// In bursts of twenty: what is asked here is that every answer comes back to its question.
		const all, burst = 200, 20
		seen := map[uint16]bool{}
		for first := 0; first < all; first += burst {
			var wg sync.WaitGroup
			for id := first; id < first+burst; id++ {
				query := question(t, uint16(id), "v4.test.", dnsmessage.TypeA)
				wg.Go(func() { _ = a.send(server, query) })
			}
			wg.Wait()
			for range burst {
				from, payload, err := a.receive(2 * time.Second)
				if err != nil {
					break // lost
				}
				var m dnsmessage.Message
				if err := m.Unpack(payload); err != nil || from != server || answers(m) != webAddr || seen[m.ID] {
					t.Fatalf("%s answered %v (%v), want a new answer from %s", from, m, err, server)
				}
				seen[m.ID] = true
			}
		}
		if len(seen) < all*95/100 {
			t.Errorf("%d of %d queries were answered on a path that loses nothing", len(seen), all)
		}
	})

	t.Run("no server there", func(t *testing.T) {
		if err := a.send(net.JoinHostPort(webAddr, "53"), question(t, 9, "site.test.", dnsmessage.TypeA)); err != nil {
			t.Fatal(err)
		}
		if from, p, err := a.receive(500 * time.Millisecond); err == nil {
			t.Errorf("%s answered %x, where no server is", from, p)
		}
		if _, err := a.ask(t, server, "site.test.", dnsmessage.TypeA); err != nil {
			t.Errorf("after that the association is of no use: %v", err)
		}
	})

	t.Run("gateway's loopback", func(t *testing.T) {
		newNameServer(t, w.gateway, "127.0.0.1", zone(false))
		if err := a.send("127.0.0.1:53", question(t, 9, "site.test.", dnsmessage.TypeA)); err != nil {
			t.Fatal(err)
		}
		if from, _, err := a.receive(500 * time.Millisecond); err == nil {
			t.Errorf("%s on the gateway's loopback was reached", from)
		}
	})

	t.Run("ends with its connection", func(t *testing.T) {
		a := w.associate(t)
		if _, err := a.ask(t, server, "site.test.", dnsmessage.TypeA); err != nil {
			t.Fatal(err)
		}
		_ = a.control.Close()
		deadline := time.Now().Add(5 * time.Second)
		for time.Now().Before(deadline) {
			if err := a.send(server, question(t, 1, "site.test.", dnsmessage.TypeA)); err != nil {
				return
			}
			if _, _, err := a.receive(300 * time.Millisecond); err != nil {
				return
			}
		}
		t.Error("the association still answers 5 s after its connection was closed")
	})
}

// TestUnbound asks the resolver that Debian ships.
func TestUnbound(t *testing.T) {
	need(t, "unbound")
	w := up(t)
	config := w.write("unbound.conf", fmt.Sprintf(`
server:
	interface: %s
	access-control: 0.0.0.0/0 allow
	do-daemonize: no
	use-syslog: no
	chroot: ""
	username: ""
	directory: "%s"
	pidfile: ""
	module-config: "iterator"
	local-zone: "unbound.test." static
	local-data: "unbound.test. IN A 192.0.2.99"
	local-data: 'unbound.test. IN TXT "from unbound"'
remote-control:
	control-enable: no
`, unboundAddr, w.dir))
	w.start("unbound", w.world.command("unbound", "-d", "-c", config))
	a := w.associate(t)
	server := net.JoinHostPort(unboundAddr, "53")
	for typ, want := range map[dnsmessage.Type]string{
		dnsmessage.TypeA: "192.0.2.99", dnsmessage.TypeTXT: "from unbound", dnsmessage.TypeAAAA: "",
	} {
		m, err := a.ask(t, server, "unbound.test.", typ)
		if err != nil {
			t.Errorf("%v: %v", typ, err)
		} else if got := answers(m); got != want || m.RCode != 0 {
			t.Errorf("%v answered %q, %v; want %q", typ, got, m.RCode, want)
		}
	}
}
