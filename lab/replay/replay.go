// Package replay puts recorded packets before a firewall, where no program can be run: it tells whether they would have
// passed. Time is that of the recording. A replay does not answer back as a program would, so that a first packet that is
// dropped is all there is to see.
package replay

import (
	"bytes"
	"embed"
	"fmt"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/godwit-vpn/godwit/lab/capture"
	"github.com/godwit-vpn/godwit/lab/firewall"
)

//go:embed data/*.pcap
var data embed.FS

// A Recording is a conversation between 192.0.2.10, inside, and 203.0.113.20.
type Recording struct {
	Name string
	// About says what it is, and whether a program made it or it was written by hand after a specification.
	About string
}

// Recordings lists them.
func Recordings() []Recording {
	return []Recording{
		{"pptp", "crafted after RFC 2637: the control connection's start, and GRE"},
		{"l2tp", "crafted after RFC 2661: the control connection's start, and data"},
		{"sstp", "crafted after [MS-SSTP], inside of a real TLS 1.2 connection of Go's"},
		{"esp", "crafted: IPsec's ESP without UDP around it (RFC 4303)"},
		{"dtls-pion", "pion/dtls 2.2.12 at both ends: what WebRTC in Go, and Snowflake, looks like"},
		{"tor", "tor 0.4.9.11 to a bridge of its own"},
	}
}

// Outcome is what became of a recording.
type Outcome struct {
	Packets, Dropped, Resets int
	Events                   []firewall.Event
}

// Stopped reports whether the conversation could not have gone on.
func (o Outcome) Stopped() bool { return o.Dropped > 0 || o.Resets > 0 }

// Run sends a recording through boxes in a row, the first next to the client.
func Run(name string, boxes []*firewall.Box) (Outcome, error) {
	b, err := data.ReadFile("data/" + name + ".pcap")
	if err != nil {
		return Outcome{}, fmt.Errorf("there is no recording %q: %w", name, err)
	}
	frames, err := capture.ReadPcap(bytes.NewReader(b))
	if err != nil {
		return Outcome{}, fmt.Errorf("recording %q: %w", name, err)
	}
	if len(frames) == 0 {
		return Outcome{}, fmt.Errorf("recording %q is empty", name)
	}
	r := run{boxes: boxes}
	inside := string(frames[0].Data[6:12])
	for _, f := range frames {
		r.out.Packets++
		outbound := string(f.Data[6:12]) == inside
		first := 0
		if !outbound {
			first = len(boxes) - 1
		}
		if !r.pass(f.At-frames[0].At, outbound, first, f.Data) {
			r.out.Dropped++
		}
	}
	for _, box := range boxes {
		r.out.Events = append(r.out.Events, box.Events()...)
	}
	return r.out, nil
}

type run struct {
	boxes []*firewall.Box
	out   Outcome
}

// pass takes a frame from a box on to the end, and reports whether it arrived there.
func (r *run) pass(at time.Duration, outbound bool, box int, frame []byte) (arrived bool) {
	if box < 0 || box >= len(r.boxes) {
		return true
	}
	type emitted struct {
		outbound bool
		frame    []byte
	}
	var out []emitted
	own := false
	r.boxes[box].Frame(at, outbound, frame, func(to bool, _ time.Duration, b []byte) {
		own = own || to == outbound && bytes.Equal(b, frame)
		out = append(out, emitted{to, bytes.Clone(b)})
	})
	for _, e := range out {
		next := box + 1
		if !e.outbound {
			next = box - 1
		}
		mine := own && e.outbound == outbound && bytes.Equal(e.frame, frame)
		passed := r.pass(at, e.outbound, next, e.frame)
		if mine {
			arrived = arrived || passed
		} else if passed && isReset(e.frame) {
			r.out.Resets++
		}
	}
	return arrived
}

func isReset(frame []byte) bool {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
	tcp, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
	return ok && tcp.RST
}
