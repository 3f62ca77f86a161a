package peer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/lab/netns"
)

// A client's SOCKS5 port, whichever program serves it.
const (
	socksPort = 1080
	socksAddr = "127.0.0.1:1080"
)

// A relay accepts connections on one of the lab's hosts and pipes each to where connect says. Close ends all of them.
type relay struct {
	l  *net.TCPListener
	wg sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool // nil once closed
}

func startRelay(h *netns.Host, addr netip.AddrPort, connect func(net.Conn) (net.Conn, error)) (*relay, error) {
	l, err := h.Listen(addr)
	if err != nil {
		return nil, err
	}
	r := &relay{l: l, conns: make(map[net.Conn]bool)}
	r.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.wg.Go(func() { r.serve(c, connect) })
		}
	})
	return r, nil
}

func (r *relay) Close() error {
	err := r.l.Close()
	r.mu.Lock()
	for c := range r.conns {
		c.Close()
	}
	r.conns = nil
	r.mu.Unlock()
	r.wg.Wait()
	return err
}

// own keeps a connection until disown, or reports that the relay is closed.
func (r *relay) own(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conns == nil {
		return false
	}
	r.conns[c] = true
	return true
}

func (r *relay) disown(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
}

func (r *relay) serve(in net.Conn, connect func(net.Conn) (net.Conn, error)) {
	defer in.Close()
	if !r.own(in) {
		return
	}
	defer r.disown(in)
	in.SetDeadline(time.Now().Add(30 * time.Second))
	out, err := connect(in)
	if err != nil {
		return
	}
	defer out.Close()
	if !r.own(out) {
		return
	}
	defer r.disown(out)
	in.SetDeadline(time.Time{})
	var both sync.WaitGroup
	pipe := func(to, from net.Conn) {
		_, err := io.Copy(to, from)
		if half, ok := to.(*net.TCPConn); ok && err == nil {
			half.CloseWrite()
			return
		}
		to.Close()
		from.Close()
	}
	both.Go(func() { pipe(out, in) })
	both.Go(func() { pipe(in, out) })
	both.Wait()
}

// The little of SOCKS5 (RFC 1928) that is needed here: CONNECT without authentication as a server, and with a user's
// name and password (RFC 1929) as a client.

// acceptSOCKS serves one CONNECT: it dials from a host and says whether that went well.
func acceptSOCKS(h *netns.Host) func(net.Conn) (net.Conn, error) {
	return func(c net.Conn) (net.Conn, error) {
		var b [262]byte
		if _, err := io.ReadFull(c, b[:2]); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(c, b[2:2+int(b[1])]); err != nil {
			return nil, err
		}
		if _, err := c.Write([]byte{5, 0}); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(c, b[:4]); err != nil {
			return nil, err
		}
		if b[0] != 5 || b[1] != 1 {
			return nil, errors.New("socks: not a CONNECT")
		}
		size := 0
		switch b[3] {
		case 1:
			size = 4
		case 4:
			size = 16
		case 3:
			if _, err := io.ReadFull(c, b[4:5]); err != nil {
				return nil, err
			}
			size = int(b[4])
		default:
			return nil, errors.New("socks: unknown kind of address")
		}
		rest := b[5 : 5+size+2]
		if _, err := io.ReadFull(c, rest); err != nil {
			return nil, err
		}
		port := binary.BigEndian.Uint16(rest[size:])
		addr, err := resolve(h, b[3], rest[:size])
		var out *net.TCPConn
		if err == nil {
			out, err = h.Dial(netip.AddrPortFrom(addr, port), 5*time.Second)
		}
		answer := []byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0}
		if err != nil {
			answer[1] = 4 // host unreachable
			c.Write(answer)
			return nil, err
		}
		if _, err := c.Write(answer); err != nil {
			out.Close()
			return nil, err
		}
		return out, nil
	}
}

func resolve(h *netns.Host, kind byte, b []byte) (netip.Addr, error) {
	if kind != 3 {
		addr, _ := netip.AddrFromSlice(b)
		return addr, nil
	}
	if addr, ok := named(h, string(b)); ok {
		return addr, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", string(b))
	if err != nil {
		return netip.Addr{}, err
	}
	return addrs[0].Unmap(), nil
}

// named looks for a name in the host's own /etc/hosts, which this process has another of.
func named(h *netns.Host, name string) (addr netip.Addr, ok bool) {
	_ = h.Do(func() error {
		b, err := os.ReadFile("/etc/hosts")
		for line := range bytes.Lines(b) {
			if f := strings.Fields(string(line)); len(f) > 1 && slices.Contains(f[1:], name) {
				if a, err := netip.ParseAddr(f[0]); err == nil && a.Is4() {
					addr, ok = a, true
				}
			}
		}
		return err
	})
	return addr, ok
}

// connectSOCKS asks a SOCKS5 server behind c to connect to an address; arguments go where a user's name would, as
// pluggable transports have it.
func connectSOCKS(c net.Conn, arguments string, to netip.AddrPort) error {
	user, password := arguments, "\x00"
	if len(user) > 255 {
		user, password = user[:255], user[255:]
	}
	if len(password) > 255 {
		return errors.New("socks: arguments of more than 510 bytes")
	}
	message := append([]byte{5, 1, 2, 1, byte(len(user))}, user...)
	message = append(append(message, byte(len(password))), password...)
	if _, err := c.Write(message[:3]); err != nil {
		return err
	}
	var b [22]byte
	if _, err := io.ReadFull(c, b[:2]); err != nil {
		return err
	}
	if b[1] != 2 {
		return fmt.Errorf("socks: method %d", b[1])
	}
	if _, err := c.Write(message[3:]); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, b[:2]); err != nil {
		return err
	}
	if b[1] != 0 {
		return fmt.Errorf("socks: arguments refused with %d", b[1])
	}
	kind := byte(1)
	if to.Addr().Is6() {
		kind = 4
	}
	request := append([]byte{5, 1, 0, kind}, to.Addr().AsSlice()...)
	if _, err := c.Write(binary.BigEndian.AppendUint16(request, to.Port())); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, b[:4]); err != nil {
		return err
	}
	if b[1] != 0 {
		return errors.New("socks: connect refused with " + strconv.Itoa(int(b[1])))
	}
	rest := 4 + 2
	if b[3] == 4 {
		rest = 16 + 2
	}
	_, err := io.ReadFull(c, b[:rest])
	return err
}
