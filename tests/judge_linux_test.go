package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

// A judge captures what a machine sends by its physical interface, at the cable's other end, and knows what may pass: the
// transports to the gateway, by TLS, QUIC and plain HTTP, and what a machine needs to be on a link at all.
type judge struct {
	gateway netip.Addr

	mu     sync.Mutex
	strays []string
}

// newJudge begins to watch what comes in by an interface of a host.
func newJudge(t *testing.T, h *host, iface string) *judge {
	t.Helper()
	j := &judge{gateway: netip.MustParseAddr(gatewayAddr)}
	var fd int
	err := h.do(func() error {
		i, err := net.InterfaceByName(iface)
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
			return err
		}
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20)
		_ = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8, Ifindex: i.Index})
	})
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "judge")
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1<<17)
		for {
			n, err := f.Read(b)
			if err != nil {
				return
			}
			j.see(b[:n])
		}
	}()
	t.Cleanup(func() {
		time.Sleep(50 * time.Millisecond)
		if s, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err != nil || s.Drops > 0 {
			t.Errorf("the judge missed packets: %+v, %v", s, err)
		}
		_ = f.Close()
		<-done
		for _, s := range j.found() {
			t.Errorf("past the tunnel: %s", s)
		}
	})
	return j
}

func (j *judge) see(frame []byte) {
	stray := j.stray(gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.DecodeOptions{NoCopy: true}))
	j.mu.Lock()
	defer j.mu.Unlock()
	if stray != "" && len(j.strays) < 100 {
		j.strays = append(j.strays, time.Now().Format("05.000 ")+stray)
	}
}

// found are the packets that may not pass, and forgets them.
func (j *judge) found() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.strays
	j.strays = nil
	return s
}

// stray describes a packet that may not pass.
func (j *judge) stray(p gopacket.Packet) string {
	if p.Layer(layers.LayerTypeARP) != nil {
		return ""
	}
	network := p.NetworkLayer()
	if network == nil {
		return p.String()
	}
	src, dst := network.NetworkFlow().Endpoints()
	to, _ := netip.AddrFromSlice(dst.Raw())
	what := "something"
	for _, l := range p.Layers()[1:] {
		switch l := l.(type) {
		case *layers.TCP:
			if to == j.gateway && (l.DstPort == 443 || l.DstPort == 80) {
				return ""
			}
			what = fmt.Sprintf("TCP to %d", l.DstPort)
		case *layers.UDP:
			switch {
			case to == j.gateway && l.DstPort == 443, l.SrcPort == 68 && l.DstPort == 67:
				return ""
			case to.IsMulticast() && l.DstPort == 5353: // the local network, which may be reached
				return ""
			}
			what = fmt.Sprintf("UDP to %d", l.DstPort)
		case *layers.ICMPv4:
			if to == j.gateway { // about its packets
				return ""
			}
			what = l.TypeCode.String()
		case *layers.ICMPv6:
			switch l.TypeCode.Type() {
			case layers.ICMPv6TypeRouterSolicitation, layers.ICMPv6TypeNeighborSolicitation,
				layers.ICMPv6TypeNeighborAdvertisement, layers.ICMPv6TypeMLDv2MulticastListenerReportMessageV2:
				return ""
			}
			what = l.TypeCode.String()
		case *layers.IGMP, *layers.IGMPv1or2:
			return ""
		}
	}
	return fmt.Sprintf("%s, %v to %v, %d bytes", what, src, dst, len(p.Data()))
}
