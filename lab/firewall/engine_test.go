package firewall_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

const (
	client = "192.0.2.1:40000"
	server = "198.51.100.1:443"
)

// on is a rule that does something once for each packet of which the text ends in a word.
type on struct {
	word string
	do   func(f *firewall.Flow, p *firewall.Packet, do *firewall.Action)
}

func (r on) Watch(*firewall.Flow) firewall.Watcher {
	return firewall.WatchFunc(func(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
		if strings.HasSuffix(string(do.Text()), r.word) && len(do.Text()) > 0 {
			do.Fired("%s", do.Text())
			if r.do != nil {
				r.do(f, p, do)
			}
		}
	})
}

// block is an on that adds a block.
func block(b firewall.Block) on {
	return on{"bad", func(_ *firewall.Flow, _ *firewall.Packet, do *firewall.Action) { do.Block(b) }}
}

func newBox(t testing.TB, r firewall.Rule, change ...func(*firewall.Config)) *firewall.Box {
	t.Helper()
	cfg := firewall.Config{Name: "box", Seed: 1, ReassembleTCP: true}
	if r != nil {
		cfg.Rules = []firewall.Named{{Name: "rule", Rule: r}}
	}
	for _, f := range change {
		f(&cfg)
	}
	box, err := firewall.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return box
}

func onPath(drops *firewall.Box) func(*firewall.Config) {
	return func(c *firewall.Config) { c.Place, c.Drops = firewall.OnPath, drops }
}

func tcp(t testing.TB, client, server string, at time.Duration, texts ...string) []firewalltest.Frame {
	t.Helper()
	return firewalltest.Conn(t, firewall.TCP, client, server, at, texts...)
}

func udp(t testing.TB, client, server string, at time.Duration, texts ...string) []firewalltest.Frame {
	t.Helper()
	return firewalltest.Conn(t, firewall.UDP, client, server, at, texts...)
}

func TestConnection(t *testing.T) {
	t.Parallel()
	var seen []firewall.Flow
	rule := on{"bad", func(f *firewall.Flow, _ *firewall.Packet, _ *firewall.Action) { seen = append(seen, *f) }}
	box := newBox(t, rule)
	frames := tcp(t, client, server, 0, ">bad", "<bad")
	firewalltest.Pass(box, frames)
	if len(seen) != 2 || seen[0].Client.String() != client || !seen[0].FromInside || !seen[0].Opened {
		t.Fatalf("%d seen, the first %+v", len(seen), seen)
	}
	if c := seen[1]; c.FromClient != (firewall.Count{Packets: 3, Data: 1, Bytes: 3}) || c.FromServer != (firewall.Count{Packets: 2, Data: 1, Bytes: 3}) {
		t.Errorf("counted %+v and %+v", c.FromClient, c.FromServer)
	}
	if n := box.Stats().Flows; n != 1 {
		t.Errorf("%d flows", n)
	}

	t.Run("begun outside", func(t *testing.T) {
		seen = nil
		outside := frames
		for i := range outside {
			outside[i].Outbound = !outside[i].Outbound
		}
		firewalltest.Pass(newBox(t, rule), outside)
		if len(seen) != 2 || seen[0].Client.String() != client || seen[0].FromInside {
			t.Errorf("%+v", seen)
		}
	})
	t.Run("begun before the box looked", func(t *testing.T) {
		seen = nil
		firewalltest.Pass(newBox(t, rule), tcp(t, client, server, 0, "<bad", ">bad")[3:])
		if len(seen) != 2 || seen[0].Client.String() != server || seen[0].Opened {
			t.Errorf("%+v", seen)
		}
	})
	t.Run("the other end begins too", func(t *testing.T) {
		seen = nil
		box := newBox(t, rule)
		firewalltest.Pass(box, tcp(t, client, server, 0)[:1])
		back := tcp(t, server, client, time.Millisecond, "<bad")
		for i := range back {
			back[i].Outbound = !back[i].Outbound
		}
		firewalltest.Pass(box, back)
		if len(seen) != 1 || seen[0].Client.String() != server || seen[0].FromInside {
			t.Errorf("%+v", seen)
		}
	})
	t.Run("sent again", func(t *testing.T) {
		seen = nil
		frames := tcp(t, client, server, 0, ">bad")
		firewalltest.Pass(newBox(t, rule), slices.Concat(frames[:1], frames[:1], frames, frames[3:]))
		if len(seen) != 1 || seen[0].FromClient.Packets != 5 {
			t.Errorf("%+v", seen)
		}
	})
	t.Run("the port used again", func(t *testing.T) {
		seen = nil
		box := newBox(t, rule)
		firewalltest.Pass(box, tcp(t, client, server, 0, ">bad"))
		again := tcp(t, client, server, time.Second, ">bad")
		for _, f := range again {
			setSeq(f, seqOf(f)+77777)
		}
		firewalltest.Pass(box, again)
		if len(seen) != 2 || seen[1].Began != time.Second || seen[1].FromClient.Data != 1 {
			t.Errorf("%+v", seen)
		}
	})
	t.Run("forgotten", func(t *testing.T) {
		seen = nil
		box := newBox(t, rule)
		for _, at := range []time.Duration{0, 59 * time.Second, 118 * time.Second, 179 * time.Second} {
			firewalltest.Pass(box, udp(t, client, server, at, ">bad"))
		}
		var began []time.Duration
		for _, f := range seen {
			began = append(began, f.Began)
		}
		if !slices.Equal(began, []time.Duration{0, 0, 0, 179 * time.Second}) {
			t.Errorf("began at %v", began)
		}
		firewalltest.Pass(box, udp(t, "192.0.2.1:40001", server, time.Hour, ">good"))
		if n := box.Stats().Flows; n != 1 {
			t.Errorf("%d flows are remembered", n)
		}
	})
}

// seqOf and setSeq are about a frame of firewalltest: no options in IPv4.
func seqOf(f firewalltest.Frame) uint32 {
	b := f.Data[14+20+4:]
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

func setSeq(f firewalltest.Frame, seq uint32) {
	b := f.Data[14+20+4:]
	b[0], b[1], b[2], b[3] = byte(seq>>24), byte(seq>>16), byte(seq>>8), byte(seq)
}

func TestReassembly(t *testing.T) {
	t.Parallel()
	frames := tcp(t, client, server, 0, ">one ", ">two ", ">bad")
	hands, one, two, three := frames[:3], frames[3], frames[4], frames[5]
	overlap := tcp(t, client, server, 0, ">one two ")[3]
	near := tcp(t, client, server, 0, ">"+strings.Repeat("x", 1<<14), ">"+strings.Repeat("y", 1<<14), ">bad")
	other := tcp(t, client, server, 0, ">oneX")[3]
	wrap := tcp(t, client, server, 0, ">one ", ">two ", ">bad")
	for _, f := range wrap {
		if f.Outbound {
			setSeq(f, seqOf(f)-1000-7)
		}
	}
	var early []firewalltest.Frame
	many := tcp(t, client, server, 0, slices.Concat(slices.Repeat([]string{">x"}, 50), []string{">bad"})...)
	for i := len(many) - 1; i >= 3; i-- {
		early = append(early, many[i])
	}
	for _, c := range []struct {
		name   string
		frames []firewalltest.Frame
		read   string // of each Text that ends in bad
		plain  bool
	}{
		{"in order", frames, "one two bad", false},
		{"last first", slices.Concat(hands, []firewalltest.Frame{three, two, one}), "one two bad", false},
		{"sent again", slices.Concat(hands, []firewalltest.Frame{one, one, two, three, three, one}), "one two bad", false},
		{"overlapping", slices.Concat(hands, []firewalltest.Frame{one, overlap, three}), "one two bad", false},
		{"what came first counts", slices.Concat(hands, []firewalltest.Frame{one, other, two, three}), "one two bad", false},
		{"one is missing", slices.Concat(hands, []firewalltest.Frame{one, three}), "", false},
		{"no handshake was seen", frames[3:], "one two bad", false},
		{"begins with the second", slices.Concat([]firewalltest.Frame{two, three}), "two bad", false},
		{"past the last number", wrap, "one two bad", false},
		{"more than is kept", near, "", false},
		{"too many early", slices.Concat(many[:3], early), "", false},
		{"not reassembled", slices.Concat(hands, []firewalltest.Frame{three, two, one, three}), "bad,bad", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			box := newBox(t, on{word: "bad"}, func(cfg *firewall.Config) { cfg.ReassembleTCP = !c.plain })
			var read []string
			for _, e := range firewalltest.Pass(box, c.frames).Events {
				read = append(read, e.Detail)
			}
			if got := strings.Join(read, ","); got != c.read {
				t.Errorf("read %.60q, want %q", got, c.read)
			}
		})
	}
}

// fragment cuts the IPv4 packet in a frame of firewalltest.
func fragment(t testing.TB, f firewalltest.Frame, size int) (out []firewalltest.Frame) {
	t.Helper()
	p := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.Default)
	eth, ip := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet), p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	for at := 0; at < len(ip.Payload); at += size {
		part := *ip
		part.Id, part.FragOffset, part.Flags = 7, uint16(at/8), 0
		end := min(at+size, len(ip.Payload))
		if end < len(ip.Payload) {
			part.Flags = layers.IPv4MoreFragments
		}
		buf := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, &part,
			gopacket.Payload(ip.Payload[at:end])); err != nil {
			t.Fatal(err)
		}
		out = append(out, firewalltest.Frame{At: f.At, Outbound: f.Outbound, Data: slices.Clone(buf.Bytes())})
	}
	return out
}

func TestFragments(t *testing.T) {
	t.Parallel()
	whole := udp(t, client, server, 0, ">"+strings.Repeat("x", 200)+"bad")[0]
	parts := fragment(t, whole, 64)
	drop := on{"bad", func(_ *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
		if p.Src.String() != client || len(p.Payload) != 203 {
			t.Errorf("from %v, %d bytes", p.Src, len(p.Payload))
		}
		do.Drop()
	}}
	for _, c := range []struct {
		name       string
		reassemble bool
		frames     []firewalltest.Frame
		dropped    []int
	}{
		{"in order", true, parts, []int{3}}, // the others are worth nothing without it
		{"backwards", true, []firewalltest.Frame{parts[3], parts[2], parts[1], parts[0]}, []int{3}},
		{"one is missing", true, parts[1:], nil},
		{"not looked at", false, parts, nil},
		{"whole", true, []firewalltest.Frame{whole}, []int{0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			box := newBox(t, drop, func(cfg *firewall.Config) { cfg.ReassembleIP = c.reassemble })
			if res := firewalltest.Pass(box, c.frames); !slices.Equal(res.Dropped, c.dropped) {
				t.Errorf("dropped %v, want %v", res.Dropped, c.dropped)
			}
		})
	}
	t.Run("IPv6", func(t *testing.T) {
		eth := layers.Ethernet{SrcMAC: []byte{2, 0, 0, 0, 0, 1}, DstMAC: []byte{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv6}
		ip := layers.IPv6{Version: 6, HopLimit: 60, NextHeader: layers.IPProtocolIPv6Fragment,
			SrcIP: netip.MustParseAddr("2001:db8::1").AsSlice(), DstIP: netip.MustParseAddr("2001:db8::2").AsSlice()}
		// The middle of a TCP segment that reads like the header of one.
		middle := append([]byte{6, 0, 0, 9, 0, 0, 0, 1}, "\x01\x02\x03\x04\x00\x00\x00\x00\x00\x00\x00\x00\x50\x18\x00\x00\x00\x00\x00\x00bad"...)
		buf := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true}, &eth, &ip, gopacket.Payload(middle)); err != nil {
			t.Fatal(err)
		}
		box := newBox(t, drop, func(cfg *firewall.Config) { cfg.ReassembleIP = true })
		if res := firewalltest.Pass(box, []firewalltest.Frame{{Outbound: true, Data: buf.Bytes()}}); res.Passed != 1 || len(res.Events) > 0 {
			t.Errorf("%+v", res)
		}
	})
}

func TestBlockScopes(t *testing.T) {
	t.Parallel()
	const sec = time.Second
	type conn struct{ client, server string }
	same, port := conn{client, server}, conn{"192.0.2.1:40001", server}
	other, service := conn{"192.0.2.2:40000", server}, conn{"192.0.2.1:40000", "198.51.100.1:8443"}
	neighbour, far := conn{client, "198.51.100.200:443"}, conn{client, "203.0.113.1:443"}
	all := []conn{same, port, other, service, neighbour, far}
	names := []string{"same", "new port", "other client", "other service", "neighbour", "far"}
	for _, c := range []struct {
		scope   firewall.Scope
		blocked []conn
	}{
		{firewall.Connection, []conn{same}},
		{firewall.Pair, []conn{same, port}},
		{firewall.Endpoint, []conn{same, port, other}},
		{firewall.Address, []conn{same, port, other, service}},
		{firewall.Network, []conn{same, port, other, service, neighbour}},
	} {
		t.Run(c.scope.String(), func(t *testing.T) {
			for i, next := range all {
				b := firewall.Block{Scope: c.scope, For: 100 * sec}
				if c.scope == firewall.Network {
					b.Net = netip.MustParsePrefix("198.51.100.0/24")
				}
				box := newBox(t, block(b))
				firewalltest.Pass(box, tcp(t, client, server, 0, ">bad"))
				res := firewalltest.Pass(box, tcp(t, next.client, next.server, sec, ">good", "<good"))
				if got, want := len(res.Dropped) == 5, slices.Contains(c.blocked, next); got != want || !want && len(res.Dropped) > 0 {
					t.Errorf("%s: dropped %v, blocked should be %v", names[i], res.Dropped, want)
				}
			}
		})
	}
	t.Run("IPv6", func(t *testing.T) {
		box := newBox(t, block(firewall.Block{Scope: firewall.Pair}))
		firewalltest.Pass(box, tcp(t, "[2001:db8::1]:40000", "[2001:db8:1::1]:443", 0, ">bad"))
		for _, c := range []struct {
			client, server string
			dropped        int
		}{
			{"[2001:db8::1]:40001", "[2001:db8:1::1]:443", 4},
			{"[2001:db8::2]:40001", "[2001:db8:1::1]:443", 0},
		} {
			if res := firewalltest.Pass(box, tcp(t, c.client, c.server, sec, ">good")); len(res.Dropped) != c.dropped {
				t.Errorf("%s: dropped %v", c.client, res.Dropped)
			}
		}
	})
	t.Run("protocol", func(t *testing.T) {
		box := newBox(t, block(firewall.Block{Scope: firewall.Address, Proto: firewall.TCP}))
		firewalltest.Pass(box, tcp(t, client, server, 0, ">bad"))
		if res := firewalltest.Pass(box, udp(t, client, server, sec, ">good")); len(res.Dropped) > 0 {
			t.Errorf("dropped UDP")
		}
	})
	t.Run("a new connection begun by the other end", func(t *testing.T) {
		box := newBox(t, block(firewall.Block{Scope: firewall.Connection}))
		firewalltest.Pass(box, tcp(t, client, server, 0, ">bad"))
		back := tcp(t, server, client, sec, ">good")
		for i := range back {
			back[i].Outbound = !back[i].Outbound
		}
		if res := firewalltest.Pass(box, back); len(res.Dropped) > 0 {
			t.Errorf("dropped %v", res.Dropped)
		}
	})
}

func TestBlockTime(t *testing.T) {
	t.Parallel()
	const sec = time.Second
	at := func(box *firewall.Box, at time.Duration, text string) bool {
		return len(firewalltest.Pass(box, udp(t, client, server, at, text)).Dropped) > 0
	}
	for _, c := range []struct {
		name  string
		block firewall.Block
		// At each of these seconds the client sends something good, or bad if it is negative.
		at      []int
		dropped []int
	}{
		{"for a while", firewall.Block{For: 10 * sec}, []int{1, 9, 10, 11}, []int{1, 9}},
		{"for ever", firewall.Block{}, []int{1, 30, 3000}, []int{1, 30, 3000}},
		{"after a while", firewall.Block{Wait: 5 * sec, For: 10 * sec}, []int{1, 4, 5, 14, 15}, []int{5, 14}},
		{"fixed by traffic", firewall.Block{For: 10 * sec}, []int{9, 12}, []int{9}},
		{"reset by traffic", firewall.Block{For: 10 * sec, Extend: true}, []int{9, 18, 27, 38}, []int{9, 18, 27}},
		{"begun anew", firewall.Block{Wait: 5 * sec, For: 10 * sec}, []int{-4, 5, 18, 19}, []int{5, 18}},
		{"not begun anew", firewall.Block{Wait: 5 * sec, For: 10 * sec, Fixed: true}, []int{-4, 5, 14, 15, 16}, []int{5, 14}},
		{"not put off", firewall.Block{Wait: 5 * sec}, []int{-4, 5}, []int{5}},
		{"lets some by", firewall.Block{Pass: 3}, []int{1, 2, 3, 4, 5}, []int{4, 5}},
	} {
		t.Run(c.name, func(t *testing.T) {
			box := newBox(t, block(c.block))
			at(box, 0, ">bad")
			var dropped []int
			for _, s := range c.at {
				text := ">good"
				if s < 0 {
					s, text = -s, ">bad"
				}
				if at(box, time.Duration(s)*sec, text) {
					dropped = append(dropped, s)
				}
			}
			if !slices.Equal(dropped, c.dropped) {
				t.Errorf("dropped at %v, want %v", dropped, c.dropped)
			}
		})
	}
	t.Run("for ever after for a while", func(t *testing.T) {
		box := newBox(t, nil)
		at(box, 0, ">good")
		ends := firewall.Block{Scope: firewall.Endpoint, Server: netip.MustParseAddrPort(server), For: sec}
		box.Block(ends)
		ends.For = 0
		box.Block(ends)
		if !at(box, 2*sec, ">good") {
			t.Error("passed")
		}
	})
}

func TestBlockWhat(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		block   firewall.Block
		dropped []int // of a handshake (0 to 2), bad, and what follows
	}{
		{"both ways", firewall.Block{}, []int{4, 5, 6}},
		{"to the server", firewall.Block{Way: firewall.ToServer}, []int{5}},
		{"to the client", firewall.Block{Way: firewall.ToClient}, []int{4, 6}},
		{"data", firewall.Block{Scope: firewall.Address, Data: true}, []int{4, 5, 6}},
		{"some", firewall.Block{Only: func(_ *firewall.Flow, p *firewall.Packet) bool { return len(p.Payload) > 4 }}, []int{5, 6}},
	} {
		t.Run(c.name, func(t *testing.T) {
			box := newBox(t, block(c.block))
			res := firewalltest.Pass(box, tcp(t, client, server, 0, ">bad", "<four", ">longer", "<longer"))
			if !slices.Equal(res.Dropped, c.dropped) {
				t.Errorf("dropped %v, want %v", res.Dropped, c.dropped)
			}
			if c.block.Data {
				if res := firewalltest.Pass(box, tcp(t, "192.0.2.1:40001", server, time.Second, ">x")); !slices.Equal(res.Dropped, []int{3}) {
					t.Errorf("dropped %v of the next", res.Dropped)
				}
			}
		})
	}
	t.Run("half of the connections", func(t *testing.T) {
		dropped, partly := 0, 0
		for seed := range uint64(25) {
			box := newBox(t, block(firewall.Block{Scope: firewall.Pair, Chance: 0.5}), func(c *firewall.Config) { c.Seed = seed })
			firewalltest.Pass(box, tcp(t, client, server, 0, ">bad"))
			for port := range 20 {
				from := netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), uint16(41000+port)).String()
				frames := tcp(t, from, server, time.Second, ">good", "<good")
				// A SYN sent again is of the same connection: it does not get another draw.
				res := firewalltest.Pass(box, slices.Concat(frames[:1], firewalltest.Shift(frames[:1], time.Second), firewalltest.Shift(frames, 2*time.Second)))
				switch len(res.Dropped) {
				case 7:
					dropped++
				case 0:
				default:
					partly++
				}
			}
		}
		if partly > 0 || dropped < 194 || dropped > 306 { // 250 of 500, five sigma
			t.Errorf("%d of 500 dropped, %d of them not wholly", dropped, partly)
		}
	})
}

func TestOnPath(t *testing.T) {
	t.Parallel()
	drops := newBox(t, nil)
	sees := newBox(t, block(firewall.Block{Scope: firewall.Pair, Way: firewall.ToServer, For: time.Hour}), onPath(drops))
	frames := tcp(t, client, server, 0, ">bad", ">more", "<more")
	// The one that sees stands first: the other has not seen a packet, and has no clock, when it is asked.
	if res := firewalltest.Pass(sees, frames); len(res.Dropped) > 0 {
		t.Errorf("a box that sees a copy dropped %v", res.Dropped)
	}
	if res := firewalltest.Pass(drops, firewalltest.Shift(frames[3:], time.Second)); !slices.Equal(res.Dropped, []int{0, 1, 2}) && !slices.Equal(res.Dropped, []int{0, 1}) {
		t.Errorf("dropped %v", res.Dropped)
	}
	if res := firewalltest.Pass(sees, tcp(t, "192.0.2.9:1", server, 2*time.Second, ">bad")); len(res.Dropped) > 0 {
		t.Errorf("dropped %v", res.Dropped)
	}
	res := firewalltest.Pass(drops, tcp(t, "192.0.2.9:2", server, 2*time.Second, ">good", "<good"))
	if !slices.Equal(res.Dropped, []int{0, 2, 3}) { // SYN, ACK and data of the client
		t.Errorf("dropped %v", res.Dropped)
	}
	if s := drops.Stats(); s.Dropped == 0 {
		t.Errorf("%+v", s)
	}

	t.Run("nobody drops", func(t *testing.T) {
		box := newBox(t, block(firewall.Block{Forge: func(_ *firewall.Flow, _ *firewall.Packet, do *firewall.Action) {
			do.Send(do.Next(false, firewall.RST))
		}}), onPath(nil))
		res := firewalltest.Pass(box, frames)
		if len(res.Dropped) > 0 || len(res.Forged) != 2 {
			t.Errorf("%+v", res)
		}
	})
	t.Run("an in-path box drops itself", func(t *testing.T) {
		if _, err := firewall.New(firewall.Config{Name: "box", Drops: drops}); err == nil {
			t.Error("no error")
		}
	})
}

// forged checks a forged packet's checksums as a receiver would, and returns it.
func forged(t testing.TB, o firewalltest.Out) gopacket.Packet {
	t.Helper()
	if err := o.Packet.ErrorLayer(); err != nil {
		t.Fatal(err.Error())
	}
	if tcp, ok := o.Packet.TransportLayer().(*layers.TCP); ok {
		if err := tcp.SetNetworkLayerForChecksum(o.Packet.NetworkLayer()); err != nil {
			t.Fatal(err)
		}
	}
	if udp, ok := o.Packet.TransportLayer().(*layers.UDP); ok {
		if err := udp.SetNetworkLayerForChecksum(o.Packet.NetworkLayer()); err != nil {
			t.Fatal(err)
		}
	}
	err, wrong := o.Packet.VerifyChecksums()
	if err != nil || len(wrong) > 0 {
		t.Errorf("checksums: %v %v", err, wrong)
	}
	return o.Packet
}

func TestForged(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name           string
		client, server string
	}{
		{"IPv4", client, server},
		{"IPv6", "[2001:db8::1]:40000", "[2001:db8:1::1]:443"},
	} {
		for _, drop := range []bool{false, true} {
			t.Run(c.name+map[bool]string{true: " instead", false: " besides"}[drop], func(t *testing.T) {
				box := newBox(t, on{"bad", func(_ *firewall.Flow, _ *firewall.Packet, do *firewall.Action) {
					if drop {
						do.Drop()
					}
					for _, toServer := range []bool{false, true} {
						f := do.Next(toServer, firewall.RST|firewall.ACK)
						f.TTL, f.ID, f.DF, f.Window, f.Payload = 99, 0x1234, true, 77, []byte("odd")
						f.After = time.Second
						do.Send(f)
					}
				}})
				res := firewalltest.Pass(box, tcp(t, c.client, c.server, 0, ">x", "<yy", ">bad"))
				if len(res.Forged) != 2 || res.Passed != 6 && !drop || res.Passed != 5 && drop {
					t.Fatalf("%d forged, %d passed", len(res.Forged), res.Passed)
				}
				// Numbers as firewalltest has them: the client's bytes begin at 1001, the server's at 5001.
				for i, want := range []struct{ seq, ack uint32 }{{5003, 1005}, {1005, 5003}} {
					if i == 1 && drop {
						want.seq = 1002
					}
					o := res.Forged[i]
					p := forged(t, o)
					tcp := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
					if o.Outbound != (i == 1) || o.After != time.Second || tcp.Seq != want.seq || tcp.Ack != want.ack || !tcp.RST || !tcp.ACK ||
						tcp.SYN || tcp.Window != 77 || string(tcp.Payload) != "odd" {
						t.Errorf("%d: outbound %v after %v: %+v", i, o.Outbound, o.After, tcp)
					}
					src, dst := c.server, c.client
					if i == 1 {
						src, dst = dst, src
					}
					if got := netip.MustParseAddrPort(src); p.NetworkLayer().NetworkFlow().Src().String() != got.Addr().String() || uint16(tcp.SrcPort) != got.Port() {
						t.Errorf("from %v", p.NetworkLayer().NetworkFlow())
					}
					if got := netip.MustParseAddrPort(dst); p.NetworkLayer().NetworkFlow().Dst().String() != got.Addr().String() || uint16(tcp.DstPort) != got.Port() {
						t.Errorf("to %v", p.NetworkLayer().NetworkFlow())
					}
					eth := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
					if from := eth.SrcMAC[5]; from != byte(2-i) {
						t.Errorf("the frame is from %v", eth.SrcMAC)
					}
					switch ip := p.NetworkLayer().(type) {
					case *layers.IPv4:
						if ip.TTL != 99 || ip.Id != 0x1234 || ip.Flags != layers.IPv4DontFragment {
							t.Errorf("%+v", ip)
						}
					case *layers.IPv6:
						if ip.HopLimit != 99 {
							t.Errorf("%+v", ip)
						}
					}
				}
			})
		}
	}
	t.Run("UDP", func(t *testing.T) {
		box := newBox(t, on{"bad", func(_ *firewall.Flow, _ *firewall.Packet, do *firewall.Action) {
			do.Send(firewall.Forged{Payload: []byte("answer")})
		}})
		res := firewalltest.Pass(box, udp(t, client, server, 0, ">bad"))
		if len(res.Forged) != 1 {
			t.Fatalf("%d forged", len(res.Forged))
		}
		p := forged(t, res.Forged[0])
		if u := p.Layer(layers.LayerTypeUDP).(*layers.UDP); res.Forged[0].Outbound || string(u.Payload) != "answer" || u.SrcPort != 443 || u.DstPort != 40000 {
			t.Errorf("%+v", u)
		}
	})
	t.Run("after SYN and FIN", func(t *testing.T) {
		var next []firewall.Forged
		box := newBox(t, every(func(_ *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
			next = append(next, do.Next(true, firewall.RST), do.Next(false, firewall.RST))
		}))
		firewalltest.Pass(box, tcp(t, client, server, 0))
		for i, want := range [][2]uint32{{1001, 0}, {0, 1001}, {1001, 5001}, {5001, 1001}, {1001, 5001}, {5001, 1001}} {
			if got := [2]uint32{next[i].Seq, next[i].Ack}; got != want {
				t.Errorf("%d: seq and ack %v, want %v", i, got, want)
			}
		}
	})
}

// every is a rule that does something for each packet.
type every func(f *firewall.Flow, p *firewall.Packet, do *firewall.Action)

func (e every) Watch(*firewall.Flow) firewall.Watcher { return firewall.WatchFunc(e) }

func TestDrawsRepeat(t *testing.T) {
	t.Parallel()
	draw := func(seed uint64, client string) (got []int) {
		box := newBox(t, every(func(f *firewall.Flow, _ *firewall.Packet, do *firewall.Action) {
			do.Done()
			for range 4 {
				got = append(got, f.IntN(1000))
			}
			if d := f.Between(3, 9); d < 3 || d > 9 {
				t.Errorf("%v is not between", d)
			}
		}), func(c *firewall.Config) { c.Seed = seed })
		firewalltest.Pass(box, udp(t, client, server, 0, ">x"))
		return got
	}
	a := draw(1, client)
	if !slices.Equal(a, draw(1, client)) {
		t.Error("the same seed and ends draw something else")
	}
	if slices.Equal(a, draw(2, client)) || slices.Equal(a, draw(1, "192.0.2.1:40001")) {
		t.Error("another seed or end draws the same")
	}
}

func TestLeftAlone(t *testing.T) {
	t.Parallel()
	drop := every(func(_ *firewall.Flow, _ *firewall.Packet, do *firewall.Action) { do.Drop() })
	frames := tcp(t, client, server, 0, ">x")
	arp := slices.Clone(frames[0].Data)
	arp[12], arp[13] = 8, 6
	box := newBox(t, drop, func(c *firewall.Config) { c.Exempt = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")} })
	for name, f := range map[string][]byte{
		"ARP": arp, "a short frame": frames[0].Data[:10], "a short header": frames[0].Data[:30], "no ports": frames[0].Data[:35],
		"exempt": tcp(t, client, "203.0.113.9:443", 0)[0].Data, "exempt client": tcp(t, "203.0.113.9:1", server, 0)[0].Data,
	} {
		if res := firewalltest.Pass(box, []firewalltest.Frame{{Outbound: true, Data: f}}); res.Passed != 1 {
			t.Errorf("%s: dropped", name)
		}
	}
	if res := firewalltest.Pass(box, frames); res.Passed != 0 {
		t.Error("passed")
	}
}

func TestSuspect(t *testing.T) {
	t.Parallel()
	var got []firewall.Suspect
	box := newBox(t, on{"bad", func(_ *firewall.Flow, _ *firewall.Packet, do *firewall.Action) { do.Suspect("why") }},
		func(c *firewall.Config) { c.Prober = func(s firewall.Suspect) { got = append(got, s) } })
	firewalltest.Pass(box, tcp(t, client, server, 0, ">so ", ">bad"))
	if len(got) != 1 || got[0].Rule != "rule" || got[0].Server.String() != server || string(got[0].Sent) != "so bad" || string(got[0].First) != "bad" {
		t.Errorf("%+v", got)
	}
}

// FuzzFrame feeds a box with all switches on whatever a frame may hold.
func FuzzFrame(f *testing.F) {
	for _, frame := range slices.Concat(tcp(f, client, server, 0, ">bad"), udp(f, "[2001:db8::1]:1", "[2001:db8::2]:2", 0, ">bad"),
		fragment(f, udp(f, client, server, 0, ">"+strings.Repeat("x", 100))[0], 64)) {
		f.Add(frame.Data, []byte{}, true)
		f.Add(frame.Data, frame.Data, false)
	}
	f.Fuzz(func(t *testing.T, one, two []byte, outbound bool) {
		box := newBox(t, every(func(_ *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
			_ = do.Text()
			p.Timestamp()
			do.Send(do.Next(true, firewall.RST))
			do.Send(do.Next(false, firewall.RST))
			do.Block(firewall.Block{Scope: firewall.Pair})
		}), func(c *firewall.Config) { c.ReassembleIP = true })
		for i, frame := range [][]byte{one, two, one} {
			box.Frame(time.Duration(i), outbound, frame, func(bool, time.Duration, []byte) {})
		}
	})
}
