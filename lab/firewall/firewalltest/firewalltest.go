// Package firewalltest passes recorded packets through a box, as if they came by now, and tells what became of them. The
// clock is the recording's, so that hours pass in no time.
package firewalltest

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/godwit-vpn/godwit/lab/firewall"
)

// Frame is a recorded Ethernet frame.
type Frame struct {
	At       time.Duration // since the first
	Outbound bool
	Data     []byte
}

// Read reads a capture of Ethernet frames. The side of the first packet's sender is inside. Frames recorded in part get
// zeros in place of the rest: sizes are true then.
func Read(t testing.TB, file string) []Frame {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if r.LinkType() != layers.LinkTypeEthernet {
		t.Fatalf("%s: link type %v, not Ethernet", file, r.LinkType())
	}
	var frames []Frame
	var begin time.Time
	inside := map[string]bool{}
	for {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return frames
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if len(data) < 14 {
			continue
		}
		if begin.IsZero() {
			begin = info.Timestamp
			inside[string(data[6:12])] = true
		}
		data = append(data, make([]byte, info.Length-len(data))...)
		frames = append(frames, Frame{info.Timestamp.Sub(begin), inside[string(data[6:12])], data})
	}
}

// Shift returns the frames later by d: for what comes next after a recording.
func Shift(frames []Frame, d time.Duration) []Frame {
	out := make([]Frame, len(frames))
	for i, f := range frames {
		f.At += d
		out[i] = f
	}
	return out
}

// Out is what left a box.
type Out struct {
	Outbound bool
	After    time.Duration
	Packet   gopacket.Packet // of a forged one
}

// Result is what became of some frames.
type Result struct {
	Passed  int
	Dropped []int // which of the frames did not go on
	Forged  []Out
	Events  []firewall.Event // of the box, in all its life
}

// Fired lists the rules that fired, a name for each time.
func (r Result) Fired() (rules []string) {
	for _, e := range r.Events {
		if !e.Cleared {
			rules = append(rules, e.Rule)
		}
	}
	return rules
}

// Pass sends frames through a box.
func Pass(box *firewall.Box, frames []Frame) Result {
	var res Result
	for i, f := range frames {
		passed := false
		box.Frame(f.At, f.Outbound, f.Data, func(outbound bool, after time.Duration, frame []byte) {
			if !passed && outbound == f.Outbound && len(frame) > 0 && &frame[0] == &f.Data[0] {
				passed = true
				res.Passed++
				return
			}
			frame = append([]byte(nil), frame...)
			res.Forged = append(res.Forged, Out{outbound, after, gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)})
		})
		if !passed {
			res.Dropped = append(res.Dropped, i)
		}
	}
	res.Events = box.Events()
	return res
}

// Conn makes the frames of a TCP or UDP conversation that was not recorded: each text is a packet, the client's marked
// with ">", the server's with "<", a millisecond apart, after a handshake if it is TCP.
func Conn(t testing.TB, proto uint8, client, server string, begin time.Duration, texts ...string) []Frame {
	t.Helper()
	c := &conn{proto: proto, client: netip.MustParseAddrPort(client), server: netip.MustParseAddrPort(server), at: begin,
		seq: [2]uint32{1000, 5000}}
	if proto == firewall.TCP {
		c.add(true, firewall.SYN, nil)
		c.add(false, firewall.SYN|firewall.ACK, nil)
		c.add(true, firewall.ACK, nil)
	}
	for _, text := range texts {
		if text == "" || text[0] != '<' && text[0] != '>' {
			t.Fatalf("%q says not who sends it", text)
		}
		c.add(text[0] == '>', firewall.PSH|firewall.ACK, []byte(text[1:]))
	}
	if c.err != nil {
		t.Fatal(c.err)
	}
	return c.frames
}

type conn struct {
	proto          uint8
	client, server netip.AddrPort
	at             time.Duration
	seq            [2]uint32
	frames         []Frame
	err            error
}

func (c *conn) add(fromClient bool, flags uint8, payload []byte) {
	src, dst, mine, theirs := c.client, c.server, &c.seq[0], &c.seq[1]
	eth := layers.Ethernet{SrcMAC: []byte{2, 0, 0, 0, 0, 1}, DstMAC: []byte{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
	if !fromClient {
		src, dst, mine, theirs = dst, src, theirs, mine
		eth.SrcMAC, eth.DstMAC = eth.DstMAC, eth.SrcMAC
	}
	var network gopacket.SerializableLayer
	var pseudo gopacket.NetworkLayer
	if src.Addr().Is4() {
		ip := &layers.IPv4{Version: 4, TTL: 60, Protocol: layers.IPProtocol(c.proto), SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
		network, pseudo = ip, ip
	} else {
		eth.EthernetType = layers.EthernetTypeIPv6
		ip := &layers.IPv6{Version: 6, HopLimit: 60, NextHeader: layers.IPProtocol(c.proto), SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
		network, pseudo = ip, ip
	}
	var transport gopacket.SerializableLayer
	if c.proto == firewall.TCP {
		tcp := &layers.TCP{SrcPort: layers.TCPPort(src.Port()), DstPort: layers.TCPPort(dst.Port()), Seq: *mine, Window: 65535,
			SYN: flags&firewall.SYN != 0, ACK: flags&firewall.ACK != 0, PSH: flags&firewall.PSH != 0, FIN: flags&firewall.FIN != 0}
		if tcp.ACK {
			tcp.Ack = *theirs
		}
		*mine += uint32(len(payload))
		if tcp.SYN {
			*mine++
		}
		c.err = errors.Join(c.err, tcp.SetNetworkLayerForChecksum(pseudo))
		transport = tcp
	} else {
		udp := &layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}
		c.err = errors.Join(c.err, udp.SetNetworkLayerForChecksum(pseudo))
		transport = udp
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, &eth, network,
		transport, gopacket.Payload(payload)); err != nil {
		c.err = errors.Join(c.err, fmt.Errorf("packet %d: %w", len(c.frames), err))
		return
	}
	c.frames = append(c.frames, Frame{c.at, fromClient, append([]byte(nil), buf.Bytes()...)})
	c.at += time.Millisecond
}
