package tun

import (
	"context"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/packet"
)

// sink is a TUN that takes everything, and an Outside and a session that are not there.
type sink struct{ t *testing.T }

func (sink) Read([]byte) (Frame, error) { panic("nobody reads") }
func (sink) Close() error               { return nil }

func (s sink) Write(f Frame) error {
	var head [vnetHeader]byte
	if seg, ok := parseSegment(f.Packet); ok {
		putVnet(head[:], f, seg.headers(f.Packet))
	}
	return nil
}

func (sink) Open(context.Context, flow.Target, bool) (flow.Stream, error) {
	return nil, &flow.Error{Code: flow.CodeRefused}
}

func fuzzed(t *testing.T) *Capture {
	inner4, inner6 := netip.MustParseAddr("100.64.0.7"), netip.MustParseAddr("fd00::7")
	c := &Capture{asking: make(chan struct{}, mostQuestions), cfg: Config{Device: sink{t}, Outside: sink{t},
		Send: func(b []byte) error {
			if p, err := packet.Parse(b); err != nil || p.Src != inner4 && p.Src != inner6 {
				t.Errorf("%x was sent, %v", b, err)
			}
			return nil
		},
		Inner:  func() (v4, v6 netip.Addr) { return inner4, inner6 },
		Online: func() bool { return true }, Forwards: func() bool { return true },
		Answer: func(_ context.Context, query []byte, _ int) []byte { return query },
		NameOf: func(netip.Addr) (string, bool) { return "", false },
	}}
	c.local[0] = family{own: netip.MustParseAddr("198.18.66.1"), peer: netip.MustParseAddr("198.18.66.2"), port: 4000}
	c.local[1] = family{own: netip.MustParseAddr("fd67::1"), peer: netip.MustParseAddr("fd67::2"), port: 4000}
	c.conns.init()
	return c
}

// FuzzTUN takes what a TUN may bring, also from others on a network that is routed for: three frames, one after the other.
func FuzzTUN(f *testing.F) {
	own, far := netip.MustParseAddrPort("198.18.66.1:5000"), netip.MustParseAddrPort("203.0.113.5:53")
	vnet := func(b []byte, err error) []byte {
		if err != nil {
			f.Fatal(err)
		}
		return append(make([]byte, vnetHeader), b...)
	}
	udp := vnet(packet.AppendUDP(nil, own, far, []byte("question")))
	syn := vnet(packet.AppendTCP(nil, own, far, 1, 0, flagSYN))
	echo := vnet(packet.AppendEcho(nil, false, own.Addr(), far.Addr(), 1, 2, []byte("ping")))
	piece := append([]byte(nil), udp...)
	piece[vnetHeader+6] = 0x20
	run := append([]byte(nil), udp...) // of 8 bytes of payload, 3 each
	run[0], run[1] = vnetNeedsChecksum, vnetUDP
	binary.NativeEndian.PutUint16(run[4:], 3)
	binary.NativeEndian.PutUint16(run[6:], 20)
	binary.NativeEndian.PutUint16(run[8:], 6)
	f.Add(udp, syn, echo)
	f.Add(run, run, run)
	f.Add(syn, syn, vnet(packet.AppendTCP(nil, own, netip.MustParseAddrPort("198.18.66.2:1024"), 1, 0, flagACK)))
	f.Add(piece, piece, echo)
	f.Fuzz(func(t *testing.T, a, b, c []byte) {
		capture := fuzzed(t)
		for _, frame := range [][]byte{a, b, c} {
			if f, err := parseVnet(frame); err == nil {
				capture.frame(t.Context(), f, make([]byte, maxFrame))
			}
			capture.Deliver(frame)
		}
		capture.wg.Wait()
		capture.conns.resetAll()
	})
}
