package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// udpPatience is how long is waited for datagrams after the last was sent.
const udpPatience = 2 * time.Second

// datagrams is the client's socket, straight to the target or through a SOCKS5 proxy's association.
type datagrams struct {
	*net.UDPConn
	association net.Conn // keeps it alive; nil if there is no proxy
	header      []byte   // before every datagram
}

func (d *datagrams) Close() error {
	err := d.UDPConn.Close()
	if d.association != nil {
		err = errors.Join(err, d.association.Close())
	}
	return err
}

// dialDatagrams opens a way to the target's port for datagrams. Unlike connections they are sent to an address, as calls
// and games do, which have it from elsewhere.
func (c Config) dialDatagrams(ctx context.Context) (*datagrams, error) {
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", c.Target)
	if err != nil {
		return nil, err
	}
	to := netip.AddrPortFrom(addrs[0].Unmap(), PortUDP)
	d := &datagrams{}
	if c.Proxy != "" {
		if to, d.header, err = d.associate(ctx, c.Proxy, to); err != nil {
			return nil, fmt.Errorf("proxy: %w", err)
		}
	}
	if d.UDPConn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to)); err != nil {
		if d.association != nil {
			d.association.Close()
		}
		return nil, err
	}
	d.SetReadBuffer(udpBuffer)
	return d, nil
}

// associate asks for a UDP ASSOCIATE; it returns where datagrams go, and what is before each.
func (d *datagrams) associate(ctx context.Context, proxy string, to netip.AddrPort) (netip.AddrPort, []byte, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", proxy)
	if err != nil {
		return to, nil, err
	}
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	at, err := socks(conn, socksAssociate, "0.0.0.0", 0)
	if err != nil {
		conn.Close()
		return to, nil, err
	}
	conn.SetDeadline(time.Time{})
	d.association = conn
	if at.Addr().IsUnspecified() { // the address that it was asked at
		asked, _, _ := net.SplitHostPort(proxy)
		addr, err := netip.ParseAddr(asked)
		if err != nil {
			conn.Close()
			return to, nil, err
		}
		at = netip.AddrPortFrom(addr, at.Port())
	}
	return at, socksAddress([]byte{0, 0, 0}, to.Addr().String(), int(to.Port())), nil
}

// receive returns the payload of one datagram, which is in buf.
func (d *datagrams) receive(buf []byte) ([]byte, error) {
	for {
		n, err := d.Read(buf)
		if err != nil {
			return nil, err
		}
		p := buf[:n]
		if d.header == nil {
			return p, nil
		}
		if n < 4 || p[2] != 0 {
			continue
		}
		size := map[byte]int{1: 4 + 2, 4: 16 + 2}[p[3]]
		if p[3] == 3 && n > 4 {
			size = 1 + int(p[4]) + 2
		}
		if size > 0 && n >= 4+size {
			return p[4+size:], nil
		}
	}
}

// jitter is the estimate of RFC 3550, section 6.4.1, and its mean over all arrivals, since a last value alone is chance.
type jitter struct {
	n              int
	last, now, sum float64 // ms
}

func (j *jitter) arrived(transit time.Duration) {
	ms := float64(transit) / float64(time.Millisecond)
	if j.n++; j.n > 1 {
		d := ms - j.last
		j.now += (max(d, -d) - j.now) / 16
		j.sum += j.now
	}
	j.last = ms
}

func (j *jitter) mean() float64 { return j.sum / float64(max(1, j.n-1)) }

// udp sends numbered datagrams at a steady rate and has them back, beside downloads.
func (r *runner) udp(ctx context.Context) error {
	if r.Rate <= 0 || r.Bytes < udpHeader {
		return fmt.Errorf("--rate %g and --bytes %d: want a rate and at least %d bytes", r.Rate, r.Bytes, udpHeader)
	}
	openCtx, done := context.WithTimeout(ctx, 20*time.Second)
	defer done()
	d, err := r.dialDatagrams(openCtx)
	if err != nil {
		return err
	}
	defer d.Close()
	// Once to and fro before anything is measured, so that what is made at the first datagram is there.
	if err := d.first(openCtx, r.Bytes); err != nil {
		return err
	}
	return r.withBulk(ctx, func(ctx context.Context) error { return r.exchange(ctx, d) })
}

// first has a datagram answered, for which it sends several: any may be lost.
func (d *datagrams) first(ctx context.Context, size int) error {
	out := append(append([]byte(nil), d.header...), make([]byte, size)...)
	buf := make([]byte, 64<<10)
	for {
		if _, err := d.Write(out); err != nil {
			return err
		}
		d.SetReadDeadline(time.Now().Add(time.Second))
		_, err := d.receive(buf)
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
}

// exchange is the measured part.
func (r *runner) exchange(ctx context.Context, d *datagrams) error {
	interval := time.Duration(float64(r.Bytes) * 8 / (r.Rate * 1e6) * float64(time.Second))
	total := int(r.seconds() / interval)
	begin := time.Now()
	flow := uint64(begin.UnixNano())
	sent := make(chan error, 1)
	stop := make(chan struct{})
	go func() {
		out := append(append([]byte(nil), d.header...), make([]byte, r.Bytes)...)
		p := out[len(d.header):]
		binary.BigEndian.PutUint64(p, flow)
		for i := range total {
			// A late sender catches up, as a codec does, and what it sends is as old as it is sent.
			select {
			case <-time.After(time.Until(begin.Add(time.Duration(i) * interval))):
			case <-stop:
				sent <- nil
				return
			}
			binary.BigEndian.PutUint32(p[8:], uint32(i))
			binary.BigEndian.PutUint64(p[16:], uint64(time.Now().UnixNano()))
			if _, err := d.Write(out); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()

	var up, down jitter
	var delays []time.Duration
	var reached uint32 // of ours, at the target
	var disordered, last int
	got, seen := 0, make([]bool, total)
	buf := make([]byte, 64<<10)
	d.SetReadDeadline(begin.Add(r.seconds() + udpPatience))
	defer context.AfterFunc(ctx, func() { d.SetReadDeadline(time.Unix(1, 0)) })()
	var err error
	for got < total {
		var p []byte
		if p, err = d.receive(buf); err != nil {
			break
		}
		now := time.Now()
		if len(p) < udpHeader || binary.BigEndian.Uint64(p) != flow {
			continue
		}
		no := int(binary.BigEndian.Uint32(p[8:]))
		if no >= total || seen[no] {
			continue
		}
		seen[no] = true
		got++
		if no < last {
			disordered++
		}
		last = max(last, no)
		reached = max(reached, binary.BigEndian.Uint32(p[12:]))
		left, arrived := time.Unix(0, int64(binary.BigEndian.Uint64(p[16:]))), time.Unix(0, int64(binary.BigEndian.Uint64(p[24:])))
		up.arrived(arrived.Sub(left))
		down.arrived(now.Sub(arrived))
		delays = append(delays, now.Sub(left)-r.Path)
	}
	close(stop)
	d.SetWriteDeadline(time.Unix(1, 0))
	sendErr := <-sent
	d.SetWriteDeadline(time.Time{})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if got == 0 {
		return errors.Join(errors.New("no datagram came back"), err, sendErr)
	}
	m := r.res.Metrics
	bits := float64(r.Bytes) * 8 / 1e6 / r.Seconds
	m["up_mbps"], m["down_mbps"], m["asked_mbps"] = float64(reached)*bits, float64(got)*bits, float64(total)*bits
	m["up_lost"] = 100 * float64(total-min(total, int(reached))) / float64(total)
	m["down_lost"] = 100 * float64(max(0, int(reached)-got)) / float64(max(1, reached))
	m["up_jitter_ms"], m["down_jitter_ms"] = up.mean(), down.mean()
	m["disordered"] = float64(disordered)
	r.quantiles(delays, "ms", time.Millisecond)
	return nil
}
