package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

// users are programs that use a captured machine, over and over. Whatever they get must be right, and a TCP connection that was
// made must come to its end. That they get nothing for a while is nobody's fault.
type users struct {
	test *testing.T
	all  map[string]func(n int) error
	stop context.CancelFunc // nil while they pause
	done sync.WaitGroup

	mu   sync.Mutex
	got  map[string]int
	none map[string]int
}

// errNothingCame is what one got who got nothing, for no fault of anybody's.
var errNothingCame = errors.New("nothing came")

// silenceIsLoss is how long a connection may stand still.
const silenceIsLoss = time.Minute

// use begins.
func (w *world) use() *users {
	u := &users{test: w.t, got: map[string]int{}, none: map[string]int{}}
	echo := w.world.echoUDP(w.t, net.JoinHostPort(webAddr, "0"))
	datagrams, questions := w.client.listenUDP(w.t, ":0"), w.client.listenUDP(w.t, ":0")
	var pings net.PacketConn // one of them, as each is a mapping at the gateway for a while
	if err := w.client.do(func() (err error) {
		pings, err = net.ListenPacket("ip4:icmp", "0.0.0.0")
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = pings.Close() })
	resolver := &net.UDPAddr{IP: net.ParseIP(middleAddr), Port: 53}
	u.all = map[string]func(n int) error{
		"download": func(n int) error {
			seed, size := fmt.Sprintf("day%d", n), 1000+rand.Int64N(3_000_000)
			return u.request(w, "GET", fmt.Sprintf("/bytes/%s/%d?rate=4000000", seed, size), nil, 0, func(got io.Reader) error {
				return same(got, io.LimitReader(content(seed), size))
			})
		},
		"upload": func(n int) error {
			sum, size := sha256.New(), 1000+rand.Int64N(2_000_000)
			body := io.TeeReader(io.LimitReader(content(fmt.Sprintf("up%d", n)), size), sum)
			return u.request(w, "POST", "/sum", body, size, func(got io.Reader) error {
				return same(got, strings.NewReader(fmt.Sprintf("%d %x", size, sum.Sum(nil))))
			})
		},
		"page": func(int) error {
			return u.request(w, "GET", "/hello", nil, 0, func(got io.Reader) error {
				return same(got, strings.NewReader("hello over HTTP/1.1 for site.test"))
			})
		},
		"datagram": func(n int) error {
			return exchange(datagrams, echo, fmt.Appendf(nil, "%d %s", n, strings.Repeat("x", n%1400)))
		},
		"answer": func(n int) error {
			id := uint16(n)
			if _, err := questions.WriteTo(question(u.test, id, "site.test.", dnsmessage.TypeA), resolver); err != nil {
				return errNothingCame
			}
			var m dnsmessage.Message
			b := make([]byte, 4096)
			_ = questions.SetReadDeadline(time.Now().Add(time.Second))
			for m.ID != id || !m.Response {
				n, _, err := questions.ReadFrom(b)
				if err != nil {
					return errNothingCame
				}
				if err := m.Unpack(b[:n]); err != nil {
					return err
				}
			}
			switch a := answers(m); {
			case m.RCode == dnsmessage.RCodeServerFailure:
				return errNothingCame
			case a != webAddr:
				return fmt.Errorf("site.test is at %q (%v)", a, m.RCode)
			}
			return nil
		},
		"ping": func(n int) error { return ping(pings, n) },
	}
	w.t.Cleanup(u.pause)
	u.resume()
	return u
}

// resume has them go on, if they do not.
func (u *users) resume() {
	if u.stop != nil {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	u.stop = stop
	for what, once := range u.all {
		u.done.Go(func() {
			for n := u.counts()[what] + 1; ctx.Err() == nil; n++ {
				err := once(n)
				u.mu.Lock()
				switch {
				case err == nil:
					u.got[what]++
				case errors.Is(err, errNothingCame):
					u.none[what]++
				default:
					u.test.Errorf("%s %d: %v", what, n, err)
				}
				u.mu.Unlock()
				time.Sleep(30 * time.Millisecond)
			}
		})
	}
}

// pause waits until each is done with what it does.
func (u *users) pause() {
	if u.stop != nil {
		u.stop()
		u.done.Wait()
		u.stop = nil
	}
}

// counts is how often each got what it wanted.
func (u *users) counts() map[string]int {
	u.mu.Lock()
	defer u.mu.Unlock()
	got := map[string]int{}
	for what := range u.all {
		got[what] = u.got[what]
	}
	return got
}

func (u *users) String() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return fmt.Sprintf("got %v, nothing %v times", u.got, u.none)
}

// request makes a request on a connection of its own.
func (u *users) request(w *world, method, path string, body io.Reader, size int64, check func(io.Reader) error) error {
	conn, err := w.client.dial(net.JoinHostPort(webAddr, "80"))
	if err != nil {
		return errNothingCame
	}
	defer func() { _ = conn.Close() }()
	patient := &patientConn{conn}
	r, err := http.NewRequest(method, "http://site.test"+path, body)
	if err != nil {
		return err
	}
	r.ContentLength, r.Close = size, true
	if err := r.Write(patient); err != nil {
		return err
	}
	answer, err := http.ReadResponse(bufio.NewReader(patient), r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	return check(answer.Body)
}

// A patientConn gives up when it stands still.
type patientConn struct{ net.Conn }

func (c *patientConn) Read(b []byte) (int, error) {
	_ = c.SetReadDeadline(time.Now().Add(silenceIsLoss))
	return c.Conn.Read(b)
}

func (c *patientConn) Write(b []byte) (int, error) {
	_ = c.SetWriteDeadline(time.Now().Add(silenceIsLoss))
	return c.Conn.Write(b)
}

// same compares what came with what should have, to the end.
func same(got, want io.Reader) error {
	a, b := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := 0; ; {
		n, err := io.ReadFull(got, a)
		if m, _ := io.ReadFull(want, b); m != n || !bytes.Equal(a[:n], b[:n]) {
			return fmt.Errorf("wrong, or not all, from byte %d on: %d bytes, of %d: %v", at, n, m, err)
		}
		if at += n; errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// ping sends one and waits for its answer.
func ping(c net.PacketConn, n int) error {
	const id = 4711
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: id, Seq: n & 0xffff, Data: []byte("ping")}}
	b, err := m.Marshal(nil)
	if err != nil {
		return err
	}
	if _, err := c.WriteTo(b, &net.IPAddr{IP: net.ParseIP(webAddr)}); err != nil {
		return errNothingCame
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	for b = make([]byte, 1500); ; {
		k, _, err := c.ReadFrom(b)
		if err != nil {
			return errNothingCame
		}
		m, err := icmp.ParseMessage(ipv4.ICMPTypeEcho.Protocol(), b[:k])
		if err != nil {
			return err
		}
		if e, ok := m.Body.(*icmp.Echo); ok && m.Type == ipv4.ICMPTypeEchoReply && e.ID == id && e.Seq == n&0xffff {
			return nil
		}
	}
}

// exchange sends a datagram and waits for it to come back.
func exchange(c net.PacketConn, to net.Addr, want []byte) error {
	if _, err := c.WriteTo(want, to); err != nil {
		return errNothingCame
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	b := make([]byte, 1<<16)
	for {
		n, _, err := c.ReadFrom(b)
		if err != nil {
			return errNothingCame
		}
		if bytes.Equal(b[:n], want) {
			return nil
		}
		if !bytes.HasSuffix(b[:n], []byte("x")) && !bytes.HasSuffix(b[:n], []byte(" ")) { // not an earlier one
			return fmt.Errorf("%d bytes that nobody sent", n)
		}
	}
}
