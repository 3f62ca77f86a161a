package quic

import (
	"crypto/tls"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transport/transporttest"
)

// line is one direction of a path in memory, in the time of a synctest bubble: how fast a connection is on it does not
// depend on how busy the machine is.
type line struct {
	delay time.Duration
	rate  float64       // bytes per second
	queue time.Duration // before the bottleneck
	loss  float64

	rng  *mrand.Rand
	busy time.Time
	to   *end
}

func (l *line) carry(b []byte, from net.Addr) {
	now := time.Now()
	if l.busy.Before(now) {
		l.busy = now
	}
	if l.busy.Sub(now) > l.queue {
		return
	}
	l.busy = l.busy.Add(time.Duration(float64(len(b)+42) / l.rate * 1e9)) // with the headers of Ethernet, IP and UDP
	if l.rng.Float64() < l.loss {
		return
	}
	p := simPacket{append([]byte(nil), b...), from}
	time.AfterFunc(l.busy.Add(l.delay).Sub(now), func() { l.to.arrive(p) })
}

type simPacket struct {
	b    []byte
	from net.Addr
}

// end is one end of it, a net.PacketConn.
type end struct {
	addr net.Addr
	out  *line
	in   chan simPacket

	mu     sync.Mutex
	closed chan struct{} // or told to stop reading
	once   sync.Once
}

func newEnd(host byte, out *line) *end {
	return &end{addr: &net.UDPAddr{IP: net.IPv4(192, 0, 2, host), Port: 443}, out: out, in: make(chan simPacket, 1<<14),
		closed: make(chan struct{})}
}

func (e *end) arrive(p simPacket) {
	select {
	case e.in <- p:
	case <-e.closed:
	}
}

func (e *end) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case p := <-e.in:
		return copy(b, p.b), p.from, nil
	case <-e.closed:
		return 0, nil, os.ErrDeadlineExceeded
	}
}

func (e *end) WriteTo(b []byte, _ net.Addr) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.out.carry(b, e.addr)
	return len(b), nil
}

// lose sets the share of what it sends that is lost.
func (e *end) lose(share float64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.out.loss = share
}

func (e *end) Close() error                   { e.once.Do(func() { close(e.closed) }); return nil }
func (e *end) LocalAddr() net.Addr            { return e.addr }
func (e *end) SetDeadline(t time.Time) error  { return e.SetReadDeadline(t) }
func (*end) SetWriteDeadline(time.Time) error { return nil }
func (e *end) SetReadDeadline(t time.Time) error {
	if !t.IsZero() {
		e.Close() // the library sets one to stop reading for good
	}
	return nil
}

// simulate connects a client and a gateway by a path, the same both ways.
func simulate(t *testing.T, l line, seed uint64) (client, server transport.Conn, done func()) {
	t.Helper()
	client, server, _, done = simulateLines(t, l, seed)
	return client, server, done
}

func simulateLines(t *testing.T, l line, seed uint64) (client, server transport.Conn, ends [2]*end, done func()) {
	t.Helper()
	time.Sleep(50 * 365 * 24 * time.Hour) // a bubble begins in the year 2000, and the library counts from when it was started
	lines := [2]line{l, l}
	ends = [2]*end{newEnd(1, &lines[0]), newEnd(2, &lines[1])}
	for i := range lines {
		lines[i].to, lines[i].rng = ends[1-i], mrand.New(mrand.NewPCG(seed, uint64(i)))
	}
	key, pin := transporttest.NewKey(t)
	cert := transporttest.Certificate(t, key)
	gateway, err := Listen(ends[1], ListenConfig{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil },
		Key:            pin, Door: transporttest.Lock{}, Website: http.NotFoundHandler(),
	})
	if err != nil {
		t.Fatal(err)
	}
	d := &Dialer{packets: ends[0]}
	client, err = d.Dial(t.Context(), transport.Endpoint{Addr: ends[1].addr.String(), Pins: [][32]byte{pin},
		Opener: transporttest.Key{}})
	if err != nil {
		t.Fatal(err)
	}
	if server, err = gateway.Accept(); err != nil {
		t.Fatal(err)
	}
	return client, server, ends, func() {
		client.Close()
		server.Close()
		time.Sleep(2 * lingerTime)
		gateway.Close()
	}
}

// On 100 Mbit/s and a round trip of 200 ms a connection carries most of what the path does, whatever is lost. The time is
// the simulation's.
func TestGoodput(t *testing.T) {
	if testing.Short() {
		t.Skip("it simulates minutes")
	}
	for _, tt := range []struct {
		loss  float64
		up    bool
		least float64 // Mbit/s, once it is under way
	}{{0, false, 85}, {0.01, false, 75}, {0.03, false, 70}, {0.03, true, 70}} {
		t.Run(fmt.Sprintf("%v%% up %v", 100*tt.loss, tt.up), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server, done := simulate(t, line{delay: 100 * time.Millisecond, rate: 100e6 / 8,
					queue: 50 * time.Millisecond, loss: tt.loss}, 1)
				defer done()
				from, to := server, client
				if tt.up {
					from, to = client, server
				}
				const first, beginning, steady = 1, 24, 32 // MiB
				go func() {
					b := [][]byte{make([]byte, 64<<10)}
					for range (first + beginning + steady) << 4 {
						if transport.WriteBatch(from, b) != nil {
							return
						}
					}
				}()
				read := func(n int64) (took time.Duration, rate float64) {
					began := time.Now()
					if _, err := io.CopyN(io.Discard, struct{ io.Reader }{to}, n<<20); err != nil {
						t.Fatal(err)
					}
					took = time.Since(began)
					return took, float64(n<<20) * 8 / 1e6 / took.Seconds()
				}
				took, _ := read(first)
				_, slow := read(beginning)
				_, rate := read(steady)
				m := from.(transport.Tuned).Measure()
				t.Logf("the first MiB in %v, %d more at %.1f Mbit/s, the rest at %.1f; %.2f %% of the packets lost",
					took, beginning, slow, rate, 100*float64(m.Resent)/float64(m.Sent))
				if rate < tt.least {
					t.Errorf("%.1f Mbit/s of 100, and it should be %.0f", rate, tt.least)
				}
			})
		})
	}
}
