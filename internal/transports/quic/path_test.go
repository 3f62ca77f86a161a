package quic_test

import (
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// path is a network between a client and a gateway on loopback, as far as UDP can tell: long, narrow, lossy if asked
// to be, and with a mapping that can change as a NAT's does.
//
//	client ──> front ── narrow, lossy, long ──> back ──> gateway
type path struct {
	delay time.Duration // each way
	rate  float64       // bytes per second each way; 0: no bottleneck
	queue time.Duration // before it
	loss  float64       // each way

	front   *net.UDPConn
	gateway *net.UDPAddr
	client  atomic.Pointer[net.UDPAddr]

	mu   sync.Mutex
	back *net.UDPConn
	wg   sync.WaitGroup

	swallow atomic.Bool
	seen    func(b []byte, up bool) // every packet that comes; nil: nobody looks
}

// open begins to carry, until the test ends. Whoever dials addr reaches the gateway.
func (p *path) open(t testing.TB, gateway string) (addr string) {
	t.Helper()
	var err error
	if p.gateway, err = net.ResolveUDPAddr("udp", gateway); err != nil {
		t.Fatal(err)
	}
	p.front = listenUDP(t)
	p.rebind(t)
	p.carry(p.front, true)
	t.Cleanup(func() {
		p.front.Close()
		p.mu.Lock()
		p.back.Close()
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p.front.LocalAddr().String()
}

func listenUDP(t testing.TB) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadBuffer(4 << 20)
	c.SetWriteBuffer(4 << 20)
	return c
}

// rebind has the gateway see the client at another address.
func (p *path) rebind(t testing.TB) {
	back := listenUDP(t)
	p.mu.Lock()
	if p.back != nil {
		p.back.Close()
	}
	p.back = back
	p.mu.Unlock()
	p.carry(back, false)
}

// carry carries what comes to a socket to the other side.
func (p *path) carry(from *net.UDPConn, up bool) {
	type packet struct {
		due time.Time
		b   []byte
	}
	line := make(chan packet, 1<<16) // more than what a second of any test brings
	p.wg.Go(func() {
		defer close(line)
		b := make([]byte, 2048)
		var busy time.Time
		for {
			n, src, err := from.ReadFromUDP(b)
			if err != nil {
				return
			}
			now := time.Now()
			if up {
				p.client.Store(src)
			}
			if p.seen != nil {
				p.seen(b[:n], up)
			}
			if p.swallow.Load() {
				continue
			}
			if busy.Before(now) {
				busy = now
			}
			if p.rate > 0 {
				if busy.Sub(now) > p.queue {
					continue
				}
				busy = busy.Add(time.Duration(float64(n+42) / p.rate * 1e9)) // with the headers of Ethernet, IP and UDP
			}
			if rand.Float64() >= p.loss {
				line <- packet{busy.Add(p.delay), append([]byte(nil), b[:n]...)}
			}
		}
	})
	p.wg.Go(func() {
		for one := range line {
			time.Sleep(time.Until(one.due))
			if up {
				p.mu.Lock()
				p.back.WriteToUDP(one.b, p.gateway)
				p.mu.Unlock()
			} else if to := p.client.Load(); to != nil {
				p.front.WriteToUDP(one.b, to)
			}
		}
	})
}
