package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/tests/visitors"
)

// A wire is a long cable between client and gateway in the place of the middle's router, and a watcher at its client
// end, where the firewall of the client's country is. It notes every frame as it is sent by the client, and as it
// arrives from the gateway.
type wire struct {
	delay time.Duration // one way

	mu     sync.Mutex
	frames []frame
}

// A frame is one Ethernet frame.
type frame struct {
	at   time.Time
	up   bool // from the client
	data []byte
}

const wireLimit = 4096 // frames on their way in one direction: more than any test has

// newWire puts a wire into the world. The client and the gateway keep their addresses.
func (w *world) newWire(delay time.Duration) *wire {
	w.t.Helper()
	x := &wire{delay: delay}
	var clientMAC, gatewayMAC net.HardwareAddr
	for _, end := range []struct {
		host *host
		mac  *net.HardwareAddr
	}{{w.client, &clientMAC}, {w.gateway, &gatewayMAC}} {
		if err := end.host.do(func() error {
			i, err := net.InterfaceByName("wan")
			if err != nil {
				return err
			}
			*end.mac = i.HardwareAddr
			return finishChecksums("wan")
		}); err != nil {
			w.t.Fatal(err)
		}
	}
	var toClient, toGateway *port
	if err := w.middle.do(func() (err error) {
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("0"), 0o644); err != nil {
			return err
		}
		if toClient, err = openPort("client", clientMAC); err != nil {
			return err
		}
		toGateway, err = openPort("gateway", gatewayMAC)
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for _, way := range []struct {
		up       bool
		from, to *port
	}{{true, toClient, toGateway}, {false, toGateway, toClient}} {
		queue := make(chan frame, wireLimit)
		wg.Go(func() {
			defer close(queue)
			way.from.receive(done, func(data []byte) {
				f := frame{time.Now(), way.up, data}
				if f.up {
					x.note(f)
				}
				select {
				case queue <- f:
				default: // a full cable loses what comes
				}
			})
		})
		wg.Go(func() {
			for f := range queue {
				time.Sleep(time.Until(f.at.Add(x.delay)))
				if f.at = time.Now(); !f.up {
					x.note(f)
				}
				way.to.send(f.data)
			}
		})
	}
	w.t.Cleanup(func() {
		close(done)
		wg.Wait()
		toClient.close()
		toGateway.close()
	})
	return x
}

func (x *wire) note(f frame) {
	f.data = bytes.Clone(f.data)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.frames = append(x.frames, f)
}

// take returns what was noted since the last take.
func (x *wire) take() []frame {
	x.mu.Lock()
	defer x.mu.Unlock()
	taken := x.frames
	x.frames = nil
	return taken
}

// A port is one of the wire's ends.
type port struct {
	fd  int
	mac net.HardwareAddr // whose frames are sent to
	own net.HardwareAddr
}

const everyIPv4 = unix.ETH_P_IP<<8&0xff00 | unix.ETH_P_IP>>8 // in network byte order

func openPort(name string, mac net.HardwareAddr) (*port, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	patience := unix.NsecToTimeval(int64(100 * time.Millisecond))
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everyIPv4, Ifindex: i.Index}))
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("watch %q: %w", name, err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20) // as much as is allowed
	return &port{fd, mac, i.HardwareAddr}, nil
}

// receive calls f with every frame of TCP, until done is closed.
func (p *port) receive(done <-chan struct{}, f func([]byte)) {
	buf := make([]byte, 1<<16)
	for {
		select {
		case <-done:
			return
		default:
		}
		n, _, err := unix.Recvfrom(p.fd, buf, 0)
		if err != nil || n < 34 || buf[14+9] != unix.IPPROTO_TCP {
			continue
		}
		f(bytes.Clone(buf[:n]))
	}
}

// send puts the frame on its way to the port's neighbour.
func (p *port) send(data []byte) {
	copy(data, p.mac)
	copy(data[6:], p.own)
	_, _ = unix.Write(p.fd, data) // a frame that does not go is one that is lost
}

func (p *port) close() { _ = unix.Close(p.fd) }

// finishChecksums has the calling thread's network compute checksums in full, and cut what it sends into segments, before
// anyone sees them: on a cable between namespaces it would leave both out.
func finishChecksums(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	value := struct{ cmd, data uint32 }{unix.ETHTOOL_STXCSUM, 0}
	request := struct { // struct ifreq
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL,
		uintptr(unsafe.Pointer(&request))); errno != 0 {
		return fmt.Errorf("finish checksums on %q: %w", name, errno)
	}
	return nil
}

// writePcap writes frames as tcpdump does.
func writePcap(t *testing.T, path string, frames []frame) {
	t.Helper()
	var b []byte
	for _, v := range []uint32{0xa1b23c4d, 2 | 4<<16, 0, 0, 1 << 16, 1} { // in nanoseconds; version 2.4; Ethernet
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	for _, f := range frames {
		for _, v := range []int{int(f.at.Unix()), f.at.Nanosecond(), len(f.data), len(f.data)} {
			b = binary.LittleEndian.AppendUint32(b, uint32(v))
		}
		b = append(b, f.data...)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// A watched is a TCP connection as the wire's watcher saw it.
type watched struct {
	client   netip.AddrPort
	begun    time.Time
	segments []segment // those with data, in the order in which they passed
	records  []passed  // in the order in which their last bytes passed
	hello    []byte    // the record with the ClientHello
	end      string    // "FIN" or "RST", and of whom
}

// A segment is a TCP segment with data that was not seen before.
type segment struct {
	at   time.Time
	up   bool
	size int
	data []byte
	from int // where it begins in its direction's bytes
}

// A passed is a TLS record that has passed.
type passed struct {
	visitors.Record
	at    time.Time
	last  int  // of segments, the one in which it ends
	alone bool // no segment has anything of it and of another record
}

// watchedIn finds the TCP connections in what was noted, in the order of their beginning.
func watchedIn(frames []frame) []*watched {
	type half struct {
		next  uint32 // the sequence number after what has passed
		known bool
		bytes []byte
		early map[uint32]segment // what came ahead of what is missing
	}
	type both struct {
		*watched
		half [2]half
	}
	conns := map[netip.AddrPort]*both{}
	var all []*both
	for _, f := range frames {
		ip := f.data[14:]
		if len(ip) < 20 || ip[0]>>4 != 4 || ip[9] != unix.IPPROTO_TCP {
			continue
		}
		ip = ip[:min(len(ip), int(binary.BigEndian.Uint16(ip[2:])))]
		tcp := ip[int(ip[0]&15)*4:]
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[12:])), binary.BigEndian.Uint16(tcp))
		to := netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[16:])), binary.BigEndian.Uint16(tcp[2:]))
		seq, flags, data := binary.BigEndian.Uint32(tcp[4:]), tcp[13], tcp[int(tcp[12]>>4)*4:]
		client, way := from, 0
		if !f.up {
			client, way = to, 1
		}
		const fin, syn, rst = 1, 2, 4
		c := conns[client]
		if f.up && flags&syn != 0 && (c == nil || c.end != "") {
			c = &both{watched: &watched{client: client, begun: f.at}}
			conns[client] = c
			all = append(all, c)
		}
		if c == nil {
			continue // it began before
		}
		h := &c.half[way]
		if flags&syn != 0 {
			h.next, h.known, h.early = seq+1, true, map[uint32]segment{}
			continue
		}
		for what, bit := range map[string]byte{"FIN": fin, "RST": rst} {
			if flags&bit != 0 && c.end == "" {
				c.end = what + " from the " + map[bool]string{true: "client", false: "server"}[f.up]
			}
		}
		if len(data) == 0 || !h.known {
			continue
		}
		h.early[seq] = segment{at: f.at, up: f.up, size: len(data), data: data}
		for {
			s, ok := h.early[h.next]
			if !ok {
				break
			}
			delete(h.early, h.next)
			h.next += uint32(s.size)
			s.from = len(h.bytes)
			h.bytes = append(h.bytes, s.data...)
			c.segments = append(c.segments, s)
		}
	}
	var found []*watched
	for _, c := range all {
		for way := range c.half {
			c.split(c.half[way].bytes, way == 0)
		}
		slices.SortStableFunc(c.records, func(a, b passed) int { return a.last - b.last })
		found = append(found, c.watched)
	}
	return found
}

// split finds the records in one direction's bytes.
func (c *watched) split(b []byte, up bool) {
	at := func(offset int) int {
		return slices.IndexFunc(c.segments, func(s segment) bool {
			return s.up == up && offset >= s.from && offset < s.from+s.size
		})
	}
	for offset := 0; len(b)-offset >= 5; {
		size := 5 + int(binary.BigEndian.Uint16(b[offset+3:]))
		if len(b)-offset < size {
			return
		}
		if up && offset == 0 {
			c.hello = b[:size]
		}
		last := at(offset + size - 1)
		first, end := c.segments[at(offset)], c.segments[last]
		c.records = append(c.records, passed{visitors.Record{Up: up, Kind: b[offset], Size: size - 5}, end.at, last,
			first.from == offset && end.from+end.size == offset+size})
		offset += size
	}
}
