package rules

import (
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

func TestAddressBlock(t *testing.T) {
	t.Parallel()
	const client, server = "192.0.2.1:40000", "198.51.100.1:443"
	there := nets("198.51.100.0/24")
	all := []int{0, 1, 2, 3, 4} // SYN, SYN+ACK, ACK, and data to and fro
	for _, c := range []struct {
		name           string
		rule           AddressBlock
		client, server string
		proto          uint8
		dropped        []int
	}{
		{"an address", AddressBlock{To: there}, client, server, firewall.TCP, all},
		{"another", AddressBlock{To: there}, client, "203.0.113.1:443", firewall.TCP, nil},
		{"spared", AddressBlock{To: there, Except: nets("198.51.100.0/30")}, client, server, firewall.TCP, nil},
		{"not spared", AddressBlock{Except: there}, client, "203.0.113.1:443", firewall.TCP, all},
		{"what it sends", AddressBlock{To: there, Way: firewall.ToClient}, client, server, firewall.TCP, []int{1, 4}},
		{"what is sent to it", AddressBlock{To: there, Way: firewall.ToServer}, client, server, firewall.TCP, []int{0, 2, 3}},
		{"a port", AddressBlock{To: there, Ports: []int{80, 443}}, client, server, firewall.TCP, all},
		{"another port", AddressBlock{To: there, Ports: []int{80, 443}}, client, "198.51.100.1:444", firewall.TCP, nil},
		{"TCP", AddressBlock{To: there, Protocol: firewall.TCP}, client, server, firewall.TCP, all},
		{"UDP", AddressBlock{To: there, Protocol: firewall.UDP}, client, server, firewall.UDP, []int{0, 1}},
		{"UDP alone", AddressBlock{To: there, Protocol: firewall.UDP}, client, server, firewall.TCP, nil},
		{"UDP at all", AddressBlock{Protocol: firewall.UDP}, client, "203.0.113.1:53", firewall.UDP, []int{0, 1}},
		{"IPv6", AddressBlock{To: nets("::/0")}, "[2001:db8::1]:40000", "[2001:db8:1::1]:443", firewall.TCP, all},
		{"IPv6 alone", AddressBlock{To: nets("::/0")}, client, server, firewall.TCP, nil},
		{"from the start", AddressBlock{To: there, For: Dur(3 * time.Millisecond)}, client, server, firewall.TCP, []int{0, 1, 2}},
		{"later", AddressBlock{To: there, After: Dur(time.Millisecond), For: Dur(2 * time.Millisecond)}, client, server, firewall.TCP, []int{1, 2}},
		{"the client's side", AddressBlock{To: nets("192.0.2.0/24")}, client, server, firewall.TCP, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			box := newBox(t, firewall.InPath, Set{AddressBlock: []*AddressBlock{&c.rule}})
			res := firewalltest.Pass(box, firewalltest.Conn(t, c.proto, c.client, c.server, 0, ">x", "<x"))
			if !slices.Equal(res.Dropped, c.dropped) || len(res.Forged) > 0 || (len(c.dropped) > 0) != (len(res.Events) == 1) {
				t.Errorf("dropped %v, want %v; fired %v", res.Dropped, c.dropped, res.Fired())
			}
		})
	}
	t.Run("it calls", func(t *testing.T) {
		for way, want := range map[firewall.Way][]int{firewall.BothWays: all, firewall.ToClient: {0, 2, 3}, firewall.ToServer: {1, 4}} {
			box := newBox(t, firewall.InPath, Set{AddressBlock: []*AddressBlock{{To: there, Way: way}}})
			res := firewalltest.Pass(box, reverse(firewalltest.Conn(t, firewall.TCP, server, client, 0, ">x", "<x")))
			if !slices.Equal(res.Dropped, want) {
				t.Errorf("%s: dropped %v, want %v", way, res.Dropped, want)
			}
		}
	})
	t.Run("other protocols", func(t *testing.T) {
		frame := func(proto layers.IPProtocol) []firewalltest.Frame {
			buf := gopacket.NewSerializeBuffer()
			if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
				&layers.Ethernet{SrcMAC: []byte{2, 0, 0, 0, 0, 1}, DstMAC: []byte{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4},
				&layers.IPv4{Version: 4, TTL: 60, Protocol: proto, SrcIP: []byte{192, 0, 2, 1}, DstIP: []byte{198, 51, 100, 1}},
				gopacket.Payload("\x08\x00\xf7\xff\x00\x00\x00\x00")); err != nil {
				t.Fatal(err)
			}
			return []firewalltest.Frame{{Outbound: true, Data: buf.Bytes()}}
		}
		for _, c := range []struct {
			rule    AddressBlock
			proto   layers.IPProtocol
			dropped bool
		}{
			{AddressBlock{To: there}, layers.IPProtocolICMPv4, true},
			{AddressBlock{Protocol: firewall.ICMP}, layers.IPProtocolICMPv4, true},
			{AddressBlock{Protocol: firewall.ICMP}, layers.IPProtocolGRE, false},
			{AddressBlock{To: there, Ports: []int{443}}, layers.IPProtocolICMPv4, false},
			{AddressBlock{Protocol: firewall.GRE}, layers.IPProtocolGRE, true},
			{AddressBlock{Protocol: firewall.ESP}, layers.IPProtocolESP, true},
		} {
			res := firewalltest.Pass(newBox(t, firewall.InPath, Set{AddressBlock: []*AddressBlock{&c.rule}}), frame(c.proto))
			if got := len(res.Dropped) > 0; got != c.dropped {
				t.Errorf("%+v, %v: dropped %v", c.rule, c.proto, got)
			}
		}
	})
	// Of programs: each is stopped by the black hole for its port, and by no other.
	for capture, r := range map[string]AddressBlock{
		"wireguard": {To: nets("203.0.113.20/32"), Ports: []int{51820}, Protocol: firewall.UDP}, "ssh": {Ports: []int{22}},
		"godwit": {To: nets("203.0.113.0/24")}, "quic-allowed": {Ports: []int{443}, Protocol: firewall.UDP},
		"direct-https-allowed": {To: nets("198.51.100.80/32"), Way: firewall.ToClient},
	} {
		frames := recorded(t, capture)
		if res := firewalltest.Pass(newBox(t, firewall.InPath, Set{AddressBlock: []*AddressBlock{&r}}), frames); len(res.Dropped) < len(frames)/4 {
			t.Errorf("%s: dropped %d of %d", capture, len(res.Dropped), len(frames))
		}
	}
	untouched(t, firewall.InPath, func() Set {
		return Set{AddressBlock: []*AddressBlock{{To: nets("203.0.113.128/25")}, {To: nets("198.51.100.80/32"), Ports: []int{8443}},
			{Protocol: firewall.UDP, Ports: []int{51820}}, {To: nets("::/0")}, {Protocol: firewall.GRE}}}
	})
}

func TestAddressBlockChecks(t *testing.T) {
	t.Parallel()
	for field, r := range map[string]*AddressBlock{"to": {}, "ports": {Ports: []int{70000}}} {
		wantField(t, firewall.InPath, Set{AddressBlock: []*AddressBlock{r}}, field)
	}
	wantField(t, firewall.OnPath, Set{AddressBlock: []*AddressBlock{{Ports: []int{80}}}}, "to")
	for text, want := range map[string]Protocol{"tcp": 6, "udp": 17, "esp": 50, "132": 132, "0": 0, "256": 0, "x": 0, "6x": 0, "": 0} {
		var p Protocol
		if err := p.UnmarshalText([]byte(text)); p != want || (err != nil) != (want == 0) {
			t.Errorf("%q: %d, %v", text, p, err)
		}
	}
}
