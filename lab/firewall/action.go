package firewall

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/godwit-vpn/godwit/lab/linkmodel"
)

var (
	errPlace = errors.New(`is neither "in-path" nor "on-path"`)
	errScope = errors.New(`is none of "connection", "3-tuple", "endpoint", "address", "network"`)
	errWay   = errors.New(`is none of "both", "to-server", "to-client"`)
)

// Action is what can be done about the packet in hand.
type Action struct {
	box  *Box
	f    *Flow
	p    *Packet
	rule string
	text []byte
	grew bool

	emit    linkmodel.Emit
	dropped bool
	done    bool
}

// Drop keeps the packet from going on. Only an in-path box can.
func (a *Action) Drop() {
	if a.box.cfg.Place == OnPath {
		panic("firewall: rule " + a.rule + " drops on a box that sees a copy: its Check must refuse that")
	}
	a.dropped = true
}

// Done ends the rule's interest in the flow.
func (a *Action) Done() { a.done = true }

// Fired notes that the rule has found what it looks for.
func (a *Action) Fired(format string, args ...any) { a.found(false, format, args...) }

// Scored is Fired for a rule that does nothing about what it finds: other rules of its box may.
func (a *Action) Scored(format string, args ...any) { a.found(true, format, args...) }

func (a *Action) found(scored bool, format string, args ...any) {
	if !a.f.Found(a.rule) {
		a.f.found = append(a.f.found, a.rule)
	}
	e := a.event(false, format, args...)
	e.Scored = scored
	a.box.note(e)
}

// Cleared notes that the rule has looked and found nothing: for those whose verdict has a score worth telling.
func (a *Action) Cleared(format string, args ...any) { a.box.note(a.event(true, format, args...)) }

func (a *Action) event(cleared bool, format string, args ...any) Event {
	return Event{At: a.p.At, Rule: a.rule, Client: a.f.Client, Server: a.f.Server, Proto: a.f.Proto, Cleared: cleared,
		Detail: fmt.Sprintf(format, args...)}
}

// Block puts a block into the table; the rule's name and whatever of the ends is not set are filled in. A box that sees a
// copy has its drops done by the box that its configuration names.
func (a *Action) Block(b Block) {
	if b.Rule == "" {
		b.Rule = a.rule
	}
	if !b.Server.IsValid() {
		b.Client, b.Server = a.f.Client, a.f.Server
	}
	if b.Forge == nil && a.box.cfg.Drops != nil {
		a.box.cfg.Drops.Block(b)
		return
	}
	a.box.table.add(a.p.At, &b)
}

// Suspect hands the server of this flow to the active prober, if there is one.
func (a *Action) Suspect(why string) {
	if a.box.cfg.Prober != nil {
		a.box.cfg.Prober(Suspect{Rule: a.rule, Why: why, Server: a.f.Server, Proto: a.f.Proto,
			Sent: append([]byte(nil), a.f.Text(true)...), First: append([]byte(nil), a.p.Payload...)})
	}
}

// Suspect is a server that a rule wants probed.
type Suspect struct {
	Rule, Why string
	Server    netip.AddrPort
	Proto     uint8
	Sent      []byte // what the client sent until now, in order, as far as the box keeps it (TCP)
	First     []byte // the payload of the packet that aroused the suspicion
}

// Text is what a box can read at this packet: all that its sender sent until now, in order, if the box reassembles TCP and
// this packet added to it; or else this packet's payload. It is empty when there is nothing new.
func (a *Action) Text() []byte {
	if a.box.cfg.ReassembleTCP && a.p.Proto == TCP {
		if a.grew {
			return a.text
		}
		return nil
	}
	return a.p.Payload
}

// Forged is a packet that a box adds, between the ends of the one in hand.
type Forged struct {
	// ToServer sends it to the flow's server in its client's name; otherwise it is the other way around.
	ToServer bool
	After    time.Duration
	TTL      uint8 // zero is 64
	ID       uint16
	DF       bool
	// Of TCP. Next fills them in with what the ends expect.
	Flags    uint8
	Seq, Ack uint32
	Window   uint16
	Payload  []byte
}

// Next is a TCP packet as the receiver expects it after the one in hand; if that was dropped, instead of it.
func (a *Action) Next(toServer bool, flags uint8) Forged {
	f := Forged{ToServer: toServer, Flags: flags}
	length := uint32(len(a.p.Payload))
	if a.p.Is(SYN) {
		length++
	}
	if a.p.Is(FIN) {
		length++
	}
	if toServer == a.p.FromClient { // goes where the packet goes
		f.Seq, f.Ack = a.p.Seq, a.p.Ack
		if !a.dropped {
			f.Seq += length
		}
		return f
	}
	f.Seq, f.Ack = a.p.Ack, a.p.Seq+length
	return f
}

// Send adds a packet.
func (a *Action) Send(f Forged) {
	src, dst := a.f.Server, a.f.Client
	if f.ToServer {
		src, dst = dst, src
	}
	if f.TTL == 0 {
		f.TTL = 64
	}
	sameWay := f.ToServer == a.p.FromClient
	eth := layers.Ethernet{SrcMAC: a.p.ethernet[6:12], DstMAC: a.p.ethernet[0:6], EthernetType: layers.EthernetTypeIPv4}
	if !sameWay {
		eth.SrcMAC, eth.DstMAC = eth.DstMAC, eth.SrcMAC
	}
	var network gopacket.SerializableLayer
	var pseudo gopacket.NetworkLayer
	if a.p.v6 {
		eth.EthernetType = layers.EthernetTypeIPv6
		ip := &layers.IPv6{Version: 6, HopLimit: f.TTL, NextHeader: layers.IPProtocol(a.p.Proto),
			SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
		network, pseudo = ip, ip
	} else {
		ip := &layers.IPv4{Version: 4, TTL: f.TTL, Id: f.ID, Protocol: layers.IPProtocol(a.p.Proto),
			SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
		if f.DF {
			ip.Flags = layers.IPv4DontFragment
		}
		network, pseudo = ip, ip
	}
	var transport gopacket.SerializableLayer
	switch a.p.Proto {
	case TCP:
		t := &layers.TCP{SrcPort: layers.TCPPort(src.Port()), DstPort: layers.TCPPort(dst.Port()), Seq: f.Seq, Ack: f.Ack,
			FIN: f.Flags&FIN != 0, SYN: f.Flags&SYN != 0, RST: f.Flags&RST != 0, PSH: f.Flags&PSH != 0, ACK: f.Flags&ACK != 0,
			Window: f.Window}
		_ = t.SetNetworkLayerForChecksum(pseudo)
		transport = t
	case UDP:
		u := &layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}
		_ = u.SetNetworkLayerForChecksum(pseudo)
		transport = u
	default:
		return
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&eth, network, transport, gopacket.Payload(f.Payload)); err != nil {
		panic(err) // a rule forged a packet that cannot be
	}
	a.box.forged++
	a.emit(f.ToServer == a.f.FromInside, f.After, buf.Bytes())
}
