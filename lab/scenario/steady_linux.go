package scenario

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/proxy"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/rules"
	"github.com/godwit-vpn/godwit/lab/linkmodel"
	"github.com/godwit-vpn/godwit/lab/netns"
	"github.com/godwit-vpn/godwit/lab/peer"
	"github.com/godwit-vpn/godwit/lab/profile"
	"github.com/godwit-vpn/godwit/lab/traffic"
)

// changing is a firewall of one box that has no rules of its own. It remembers for longer than any run lasts.
const changing = `
name = "changing"
story = "A firewall whose rules change at random moments."
sources = ["none: it stands for what no measurement foresees"]
[gateway]
addresses = 2
[[box]]
name = "border"
place = "in-path"
tcp-idle = "2h"
udp-idle = "2h"
`

// steady is a country under a changing firewall, with servers of steady traffic where the banned site is, and Godwit.
type steady struct {
	*country
	weather rules.Weather
	dials   dialCount
	ends    []*peer.Process // client, gateway
	stop    context.CancelFunc
	dial    traffic.Dialer // through the tunnel
	logs    string
}

// Where the servers are.
var (
	echoAddr     = netip.AddrPortFrom(bannedAddr, 7)
	downloadAddr = netip.AddrPortFrom(bannedAddr, 9)
)

// newSteady builds it and starts Godwit, which is by that name a peer's, in whatever weather begin sets. What both ends say
// is kept in logs, if that is not empty.
func newSteady(ctx context.Context, godwit string, tools *peer.Tools, seed uint64, way linkmodel.Direction, begin func(*rules.Weather),
	logs string) (s *steady, err error) {
	entry, err := peer.Find(godwit)
	if err != nil {
		return nil, err
	}
	p, err := profile.Parse("changing", []byte(changing))
	if err != nil {
		return nil, err
	}
	s = &steady{logs: logs}
	if begin != nil {
		begin(&s.weather)
	}
	p.Path = &way
	p.Add(firewall.Named{Name: "weather", Rule: &s.weather})
	p.Add(firewall.Named{Name: "dials", Rule: &s.dials})
	s.dials.to = gatewaysOf(p)
	dir, err := os.MkdirTemp("/run", "lab-")
	if err != nil {
		return nil, err
	}
	if s.country, err = newCountry(ctx, p, seed, dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	ctx, s.stop = context.WithCancel(ctx)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	echo := func(c net.Conn) { io.Copy(c, c) }
	for at, serve := range map[netip.AddrPort]func(net.Conn){echoAddr: echo, downloadAddr: trickle} {
		l, err := s.host("banned").Listen(at)
		if err != nil {
			return nil, err
		}
		s.run("server "+at.String(), func() error { return serveAll(ctx, l, serve) })
	}
	program, site := entry.New(tools), s.peerSite()
	gateway, err := program.Gateway(ctx, site)
	if gateway != nil {
		s.ends = append(s.ends, gateway)
	}
	if err != nil {
		return nil, err
	}
	client, err := program.Client(ctx, site)
	if client != nil {
		s.ends = slices.Insert(s.ends, 0, client)
	}
	if err != nil {
		return nil, err
	}
	s.dial = s.host("client").DialContext
	if program.Proxy() != "" {
		d, err := proxy.SOCKS5("tcp", program.Proxy(), nil, from{s.host("client")})
		if err != nil {
			return nil, err
		}
		s.dial = d.(proxy.ContextDialer).DialContext
	}
	return s, nil
}

// close ends all of it, and tells if an end had died before.
func (s *steady) close() (err error) {
	for _, end := range s.ends {
		err = errors.Join(err, end.Died())
	}
	for _, end := range s.ends {
		end.Stop()
		if s.logs != "" {
			err = errors.Join(err, copyFile(filepath.Join(s.logs, end.Role+".log"), filepath.Join(s.dir, end.Role+".log")))
		}
	}
	s.stop()
	return errors.Join(err, s.country.close(), os.RemoveAll(s.dir))
}

func copyFile(to, from string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o644)
}

// open opens a stream through the tunnel.
func (s *steady) open(ctx context.Context, to netip.AddrPort, limit time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return s.dial(ctx, "tcp", to.String())
}

// from dials from a host, as package proxy wants it.
type from struct{ host *netns.Host }

func (f from) Dial(network, address string) (net.Conn, error) {
	return f.host.DialContext(context.Background(), network, address)
}

func (f from) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return f.host.DialContext(ctx, network, address)
}

// serveAll serves whoever connects, until ctx ends.
func serveAll(ctx context.Context, l net.Listener, serve func(net.Conn)) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		wg.Go(func() {
			stop := context.AfterFunc(ctx, func() { c.Close() })
			defer stop()
			defer c.Close()
			serve(c)
		})
	}
}

// order asks trickle for so many bytes of traffic.Body, so many a second.
type order struct{ Seed, Bytes, Rate uint64 }

// tick is how often trickle sends.
const tick = 20 * time.Millisecond

// trickle sends what is ordered, little by little. What could not be sent in time is not made up for.
func trickle(c net.Conn) {
	var o order
	if binary.Read(c, binary.BigEndian, &o) != nil || o.Rate == 0 {
		return
	}
	body := traffic.Body(o.Seed, int64(o.Bytes))
	t := time.NewTicker(tick)
	defer t.Stop()
	for range t.C {
		if n, err := io.CopyN(c, body, int64(o.Rate)*int64(tick)/int64(time.Second)); err != nil || n == 0 {
			return
		}
	}
}

// download orders bytes over a stream that is open, and hands on how many came and when, until all did. Silence of more
// than a limit is an error, as is what was not ordered.
func download(c net.Conn, o order, silence time.Duration, came func(n int, at time.Time)) error {
	if err := binary.Write(c, binary.BigEndian, o); err != nil {
		return err
	}
	want, buf, expect := traffic.Body(o.Seed, int64(o.Bytes)), make([]byte, 64<<10), make([]byte, 64<<10)
	for got := uint64(0); ; {
		if err := c.SetReadDeadline(time.Now().Add(silence)); err != nil {
			return err
		}
		n, err := c.Read(buf)
		if n > 0 {
			came(n, time.Now())
			got += uint64(n)
			if _, err := io.ReadFull(want, expect[:n]); err != nil || string(expect[:n]) != string(buf[:n]) {
				return fmt.Errorf("wrong bytes before %d", got)
			}
		}
		switch {
		case errors.Is(err, io.EOF) && got == o.Bytes:
			return nil
		case err != nil:
			return fmt.Errorf("after %d of %d bytes: %w", got, o.Bytes, err)
		}
	}
}

// dialCount is a rule that notes when the client begins a connection to a gateway.
type dialCount struct {
	to []netip.Addr

	mu   sync.Mutex
	at   []time.Time
	wall time.Time // of the first, and on the box's clock
	box  time.Duration
}

// Watch implements firewall.Rule. What the client's system says by ICMP of datagrams that came too late is no dial.
func (d *dialCount) Watch(f *firewall.Flow) firewall.Watcher {
	begins := f.Proto == firewall.UDP || f.Proto == firewall.TCP && f.Opened
	if !begins || !slices.Contains(clientAddrs, f.Client.Addr()) || !slices.Contains(d.to, f.Server.Addr()) {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.wall.IsZero() {
		d.wall, d.box = time.Now(), f.Began
	}
	d.at = append(d.at, d.wall.Add(f.Began-d.box)) // when it came, not when it was looked at
	return nil
}

// since lists the dials, as of a time.
func (d *dialCount) since(begin time.Time) (at []time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range d.at {
		at = append(at, t.Sub(begin))
	}
	return at
}
