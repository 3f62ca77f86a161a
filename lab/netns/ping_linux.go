package netns

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Ping sends count echo requests to addr, one each interval, and returns the round trips of those answered within
// wait after the last.
func (h *Host) Ping(ctx context.Context, addr netip.Addr, count int, interval, wait time.Duration) ([]time.Duration, error) {
	request, reply, proto := byte(8), byte(0), unix.IPPROTO_ICMP
	if addr.Is6() {
		request, reply, proto = 128, 129, unix.IPPROTO_ICMPV6 // the kernel fills in its checksum
	}
	var conn net.PacketConn
	err := h.Do(func() error {
		s, err := unix.Socket(int(family(addr)), unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
		if err != nil {
			return os.NewSyscallError("raw socket", err)
		}
		f := os.NewFile(uintptr(s), "icmp")
		defer f.Close()
		conn, err = net.FilePacketConn(f)
		return err
	})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	id := uint16(os.Getpid())
	begin := time.Now()
	conn.SetReadDeadline(begin.Add(time.Duration(count)*interval + wait))
	go func() {
		for seq := range count {
			// Type, code 0, checksum, id, seq; then when it was sent.
			m := make([]byte, 64)
			m[0] = request
			binary.BigEndian.PutUint16(m[4:], id)
			binary.BigEndian.PutUint16(m[6:], uint16(seq))
			time.Sleep(time.Until(begin.Add(time.Duration(seq) * interval)))
			binary.BigEndian.PutUint64(m[8:], uint64(time.Since(begin)))
			binary.BigEndian.PutUint16(m[2:], checksum(m))
			if _, err := conn.WriteTo(m, &net.IPAddr{IP: addr.AsSlice()}); errors.Is(err, net.ErrClosed) {
				return
			}
		}
	}()
	var rtts []time.Duration
	seen := make(map[uint16]bool)
	buf := make([]byte, 1500)
	for len(rtts) < count {
		n, _, err := conn.ReadFrom(buf) // without the IP header
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			return nil, err
		}
		seq := binary.BigEndian.Uint16(buf[6:])
		if n < 16 || buf[0] != reply || binary.BigEndian.Uint16(buf[4:]) != id || seen[seq] {
			continue
		}
		seen[seq] = true
		rtts = append(rtts, time.Since(begin)-time.Duration(binary.BigEndian.Uint64(buf[8:])))
	}
	return rtts, ctx.Err()
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
