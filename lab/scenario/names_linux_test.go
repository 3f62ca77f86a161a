package scenario

import (
	"context"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/miekg/dns"

	"github.com/godwit-vpn/godwit/lab/capture"
	"github.com/godwit-vpn/godwit/lab/netns/netnstest"
	"github.com/godwit-vpn/godwit/lab/peer"
	"github.com/godwit-vpn/godwit/lab/survival"
)

// frame is one that leaves the client.
func frame(t *testing.T, proto string, to string, payload []byte) capture.Frame {
	t.Helper()
	end := netip.MustParseAddrPort(to)
	eth := &layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: layers.EthernetTypeIPv4}
	var network gopacket.SerializableLayer
	var pseudo gopacket.NetworkLayer
	id := layers.IPProtocolUDP
	if proto == "TCP" {
		id = layers.IPProtocolTCP
	}
	if end.Addr().Is6() {
		eth.EthernetType = layers.EthernetTypeIPv6
		ip := &layers.IPv6{Version: 6, HopLimit: 1, NextHeader: id, SrcIP: make([]byte, 16), DstIP: end.Addr().AsSlice()}
		network, pseudo = ip, ip
	} else {
		ip := &layers.IPv4{Version: 4, TTL: 1, Protocol: id, SrcIP: clientAddr.AsSlice(), DstIP: end.Addr().AsSlice()}
		network, pseudo = ip, ip
	}
	var transport gopacket.SerializableLayer
	if proto == "TCP" {
		tcp := &layers.TCP{SrcPort: 4000, DstPort: layers.TCPPort(end.Port()), ACK: true}
		_ = tcp.SetNetworkLayerForChecksum(pseudo)
		transport = tcp
	} else {
		udp := &layers.UDP{SrcPort: 4000, DstPort: layers.UDPPort(end.Port())}
		_ = udp.SetNetworkLayerForChecksum(pseudo)
		transport = udp
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, network, transport,
		gopacket.Payload(payload)); err != nil {
		t.Fatal(err)
	}
	return capture.Frame{Outgoing: true, Data: buf.Bytes()}
}

func question(t *testing.T, name string) []byte {
	t.Helper()
	b, err := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeHTTPS).Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Every way of asking for a name is seen; other names, answers, and other traffic are not taken for a leak.
func TestLeaked(t *testing.T) {
	t.Parallel()
	framed := func(b []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) }
	q := question(t, "BANNED.example")
	back := frame(t, "UDP", "192.0.2.53:53", q)
	back.Outgoing = false
	for _, c := range []struct {
		name string
		f    capture.Frame
		want string
	}{
		{"UDP", frame(t, "UDP", "192.0.2.53:53", q), "192.0.2.53:53 was asked over UDP for banned.example"},
		{"TCP", frame(t, "TCP", "203.0.113.53:53", framed(q)), "asked over TCP for banned.example"},
		{"TCP, the length alone", frame(t, "TCP", "203.0.113.53:53", framed(q)[:2]), ""},
		{"TCP, the rest", frame(t, "TCP", "203.0.113.53:53", q), "cannot be read"},
		{"IPv6", frame(t, "UDP", "[2001:db8:2::53]:53", q), "[2001:db8:2::53]:53 was asked over UDP for banned.example"},
		{"mDNS", frame(t, "UDP", "224.0.0.251:5353", q), "224.0.0.251:5353 was"},
		{"LLMNR", frame(t, "UDP", "224.0.0.252:5355", question(t, missing)), missing},
		{"a service of it", frame(t, "UDP", "192.0.2.53:53", question(t, "_8443._https.banned.example")), "_https.banned.example"},
		{"over TLS", frame(t, "TCP", "203.0.113.53:853", []byte{0x16, 3, 1}), "cannot be read"},
		{"over HTTPS", frame(t, "TCP", "203.0.113.53:443", []byte{0x16, 3, 1}), "cannot be read"},
		{"another name", frame(t, "UDP", "192.0.2.53:53", question(t, "notbanned.example")), ""},
		{"a page", frame(t, "TCP", "198.51.100.10:443", []byte("banned.example")), ""},
		{"an answer", back, ""},
		{"no frame", capture.Frame{Outgoing: true, Data: []byte{1, 2, 3}}, ""},
	} {
		got := leaked([]capture.Frame{c.f, c.f})
		if len(got) > 1 || strings.Join(got, "") == "" != (c.want == "") || !strings.Contains(strings.Join(got, ""), c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// A machine that goes to a site by itself asks for its name where all can hear; one that goes through a proxy does not, and neither
// does one that is captured, whose programs know nothing of it.
func TestNames(t *testing.T) {
	netnstest.Need(t)
	for name, want := range map[string]survival.Verdict{"direct": survival.Blocked, "godwit": survival.Passes, "godwit-tun": survival.Passes} {
		t.Run(name, func(t *testing.T) {
			if name == "godwit-tun" {
				netnstest.NeedTUN(t)
			}
			r := inCountry(t, name, func(ctx context.Context, c *country, p peer.Peer) run { return c.names(ctx, p, visited[:1]) })
			if r.verdict != want || want == survival.Blocked && !strings.Contains(r.note, "asked over UDP for "+banned) {
				t.Errorf("%+v", r)
			}
			t.Logf("%s: %s", r.verdict, r.note)
			if r.verdict == survival.Passes && r.note != "" {
				t.Errorf("passed, and says %q", r.note)
			}
		})
	}
}
