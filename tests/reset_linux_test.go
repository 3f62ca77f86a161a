package e2e

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// A flow is one direction of a TCP connection.
type flow struct{ from, to netip.AddrPort }

// seen is what a watcher in the middle knows of a flow.
type seen struct{ seq, ack uint32 }

// resetOpen resets the connections that are open now, at both ends, whichever of them is talking. A rule that answers
// packets with resets tells only who sends; who waits must be made to say something. So the middle watches for a
// moment, sets the rule, and sends each end a stale segment in the other's name: TCP answers one with an
// acknowledgement, and the rule answers that. What is not TCP cannot be reset, and is swallowed.
func (w *world) resetOpen(others ...string) {
	w.t.Helper()
	var flows map[flow]seen
	if err := w.middle.do(func() (err error) {
		flows, err = sniff(100 * time.Millisecond)
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
	w.cutOpen("meta l4proto tcp reject with tcp reset; drop", others...)
	if err := w.middle.do(func() error {
		for f, s := range flows {
			if err := sendStale(f, s); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
}

// sniff collects the TCP flows over IPv4 that pass the calling thread's network within d.
func sniff(d time.Duration) (map[flow]seen, error) {
	const everyIPv4 = unix.ETH_P_IP<<8&0xff00 | unix.ETH_P_IP>>8 // in network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, everyIPv4)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	patience := unix.NsecToTimeval(int64(d / 4))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience); err != nil {
		return nil, err
	}
	flows := map[flow]seen{}
	buf := make([]byte, 128)
	for end := time.Now().Add(d); time.Now().Before(end); {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			continue // nothing for a while
		}
		p := buf[:n]
		if n < 20 || p[9] != unix.IPPROTO_TCP {
			continue
		}
		tcp := p[min(n, int(p[0]&15)*4):]
		if len(tcp) < 20 {
			continue
		}
		from, to := netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20]))
		f := flow{netip.AddrPortFrom(from, binary.BigEndian.Uint16(tcp)),
			netip.AddrPortFrom(to, binary.BigEndian.Uint16(tcp[2:]))}
		flows[f] = seen{seq: binary.BigEndian.Uint32(tcp[4:]), ack: binary.BigEndian.Uint32(tcp[8:])}
	}
	return flows, nil
}

// sendStale sends a flow's receiver an empty segment from before what it has already acknowledged.
func sendStale(f flow, s seen) error {
	p := make([]byte, 40)
	p[0], p[8], p[9] = 0x45, 64, unix.IPPROTO_TCP // the kernel fills in the length and the checksum
	from, to := f.from.Addr().As4(), f.to.Addr().As4()
	copy(p[12:], from[:])
	copy(p[16:], to[:])
	tcp := p[20:]
	binary.BigEndian.PutUint16(tcp, f.from.Port())
	binary.BigEndian.PutUint16(tcp[2:], f.to.Port())
	binary.BigEndian.PutUint32(tcp[4:], s.seq-1<<20)
	binary.BigEndian.PutUint32(tcp[8:], s.ack)
	tcp[12], tcp[13] = 5<<4, 0x10 // five words of header; ACK
	binary.BigEndian.PutUint16(tcp[14:], 1024)

	sum := uint32(unix.IPPROTO_TCP + len(tcp)) // with the pseudo-header of RFC 9293 §3.1
	for _, b := range [][]byte{from[:], to[:], tcp} {
		for i := 0; i < len(b); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(tcp[16:], ^uint16(sum))

	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return fmt.Errorf("open a raw socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.Sendto(fd, p, 0, &unix.SockaddrInet4{Addr: to})
}
