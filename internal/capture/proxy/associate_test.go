package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
)

// associated is a client with a UDP association, on sockets of its own.
type associated struct {
	t   *testing.T
	tcp *net.TCPConn
	udp *net.UDPConn // sends to the proxy's port only
}

// associate asks r for an association that names the client's port only if told to.
func associate(t *testing.T, r *running, sayPort bool) *associated {
	t.Helper()
	a := &associated{t: t, tcp: r.dial(t)}
	at := a.tcp.LocalAddr().(*net.TCPAddr)
	mine, err := net.ListenUDP("udp", &net.UDPAddr{IP: at.IP})
	if err != nil {
		t.Fatal(err)
	}
	said := netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	if sayPort {
		said = netip.AddrPortFrom(said.Addr(), uint16(mine.LocalAddr().(*net.UDPAddr).Port))
	}
	mine.Close()
	greet(t, a.tcp)
	mustWrite(t, a.tcp, appendAddress([]byte{5, cmdAssociate, 0}, said))
	code, bound := readReply(t, a.tcp)
	if code != 0 {
		t.Fatalf("reply %d", code)
	}
	if !bound.ip.IsLoopback() || bound.port == 0 {
		t.Fatalf("bound to %v", bound)
	}
	a.udp, err = net.DialUDP("udp", &net.UDPAddr{IP: at.IP, Port: int(said.Port())},
		net.UDPAddrFromAddrPort(netip.AddrPortFrom(bound.ip, bound.port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.udp.Close() })
	return a
}

// datagram is what a client sends to have payload sent to host:port.
func datagram(host string, port uint16, payload string) []byte {
	return append(append([]byte{0, 0, 0}, requestMsg(0, host, port)[3:]...), payload...)
}

func (a *associated) send(host string, port uint16, payload string) {
	a.t.Helper()
	mustWrite(a.t, a.udp, datagram(host, port, payload))
}

// receive returns the next datagram's source and payload; none within limit is an error.
func (a *associated) receive(limit time.Duration) (from address, payload string, err error) {
	buf := make([]byte, 1<<16)
	a.udp.SetReadDeadline(time.Now().Add(limit))
	n, err := a.udp.Read(buf)
	if err != nil {
		return address{}, "", err
	}
	from, p, err := parseDatagram(buf[:n])
	return from, string(p), err
}

func (a *associated) want(payload string) address {
	a.t.Helper()
	from, got, err := a.receive(10 * time.Second)
	if err != nil || got != payload {
		a.t.Fatalf("received %.50q, %v; want %.50q", got, err, payload)
	}
	return from
}

func (a *associated) wantNothing() {
	a.t.Helper()
	if _, got, err := a.receive(50 * time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		a.t.Fatalf("received %.50q, %v; want nothing", got, err)
	}
}

// udpEcho answers each datagram with the port it came from and itself.
func udpEcho(t testing.TB, at string) netip.AddrPort {
	t.Helper()
	pc, err := net.ListenPacket("udp", at)
	if err != nil {
		t.Skipf("no UDP on %s: %v", at, err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 1<<16)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			pc.WriteTo(append(fmt.Appendf(nil, "%d ", from.(*net.UDPAddr).Port), buf[:n]...), from)
		}
	})
	t.Cleanup(func() { pc.Close(); wg.Wait() })
	return netip.MustParseAddrPort(pc.LocalAddr().String())
}

func TestAssociate(t *testing.T) {
	t.Parallel()
	for _, sayPort := range []bool{false, true} {
		for _, listen := range []string{"127.0.0.1:0", "[::1]:0"} {
			t.Run(fmt.Sprint(listen, sayPort), func(t *testing.T) {
				t.Parallel()
				w := newWorld()
				w.anyPorts = sayPort
				r := startOn(t, w, Config{}, listen)
				four, six := udpEcho(t, "127.0.0.1:0"), udpEcho(t, "[::1]:0")
				a := associate(t, r, sayPort)
				var port string // of the one outside socket, as seen by every site
				for _, tt := range []struct {
					host string
					site netip.AddrPort
				}{
					{"127.0.0.1", four}, {"::1", six}, {"site.example", four}, {"six.example", six},
					{"SITE.example.", four}, {"127.0.0.1", four},
				} {
					msg := "hello " + tt.host
					a.send(tt.host, tt.site.Port(), msg)
					from, got, err := a.receive(10 * time.Second)
					if err != nil {
						t.Fatalf("%s: %v", tt.host, err)
					}
					var seen, rest string
					fmt.Sscan(got, &seen, &rest)
					if got != seen+" "+msg {
						t.Errorf("%s: got %q", tt.host, got)
					}
					if port == "" {
						port = seen
					}
					if seen != port {
						t.Errorf("%s: came from port %s, others from %s", tt.host, seen, port)
					}
					if netip.AddrPortFrom(from.ip, from.port) != tt.site {
						t.Errorf("%s: answer from %v, want %v", tt.host, from, tt.site)
					}
				}
				if w.mu.Lock(); w.ports != 1 || len(w.looked) != 2 {
					t.Errorf("%d ports, lookups %v", w.ports, w.looked)
				}
				w.mu.Unlock()
				if s := r.Stats(); s.Associations != 1 || s.DroppedPackets != 0 {
					t.Errorf("%+v", s)
				}
				// It ends with its TCP connection.
				a.tcp.Close()
				eventually(t, "the association ends", func() bool { return r.Stats().Associations == 0 })
			})
		}
	}
}

// TestFirstDatagramByName: the client's port is learned from a datagram that has to wait for a lookup.
func TestFirstDatagramByName(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.slow["site.example"] = make(chan struct{})
	r := start(t, w, Config{})
	far := udpEcho(t, "127.0.0.1:0")
	a := associate(t, r, false)
	for i := range 3 {
		a.send("site.example", far.Port(), fmt.Sprint("held ", i))
	}
	// Another destination is not held up.
	a.send("127.0.0.1", far.Port(), "quick")
	if _, got, err := a.receive(10 * time.Second); err != nil || !bytes.HasSuffix([]byte(got), []byte(" quick")) {
		t.Fatalf("%q, %v", got, err)
	}
	close(w.slow["site.example"])
	for i := range 3 {
		if _, got, err := a.receive(10 * time.Second); err != nil ||
			!bytes.HasSuffix([]byte(got), fmt.Appendf(nil, " held %d", i)) {
			t.Fatalf("%q, %v", got, err)
		}
	}
}

func TestAssociateLargest(t *testing.T) {
	t.Parallel()
	r := start(t, newWorld(), Config{})
	far := udpEcho(t, "127.0.0.1:0")
	a := associate(t, r, false)
	payload := string(bytes.Repeat([]byte("x"), 65507-10-6)) // what fits beside the header and the echo's port
	a.send("127.0.0.1", far.Port(), payload)
	if _, got, err := a.receive(10 * time.Second); err != nil || len(got) < len(payload) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

func TestAssociateDrops(t *testing.T) {
	t.Parallel()
	w := newWorld()
	r := start(t, w, Config{})
	far := udpEcho(t, "127.0.0.1:0")
	a := associate(t, r, false)

	good := datagram("127.0.0.1", far.Port(), "payload")
	fragment := bytes.Clone(good)
	fragment[2] = 1
	bad := [][]byte{
		fragment, {}, {0, 0}, {0, 0, 0}, {0, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7}, good[:8],
		datagram("127.0.0.1", 0, "port 0"), {0, 0, 0, 3, 0, 0, 53, 'x'},
		datagram("not a name.example", 53, "x"),
	}
	for _, b := range bad {
		mustWrite(t, a.udp, b)
	}
	mustWrite(t, a.udp, datagram("unknown.example", 53, "x"))
	eventually(t, "all are counted", func() bool { return r.Stats().DroppedPackets == uint64(len(bad))+1 })
	a.wantNothing()

	// Someone else on this machine, before and after the port is fixed by a first good datagram.
	mustWrite(t, a.udp, good)
	if _, _, err := a.receive(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	other, err := net.Dial("udp", a.udp.RemoteAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	mustWrite(t, other, good)
	eventually(t, "the stranger is counted", func() bool { return r.Stats().DroppedPackets == uint64(len(bad))+2 })
	a.wantNothing()
	mustWrite(t, a.udp, good)
	if _, _, err := a.receive(10 * time.Second); err != nil {
		t.Fatal(err)
	}
}

// TestStrangerBeforeClient: when the request named a port, nobody else can take the association over.
func TestStrangerBeforeClient(t *testing.T) {
	t.Parallel()
	r := start(t, newWorld(), Config{})
	far := udpEcho(t, "127.0.0.1:0")
	a := associate(t, r, true)
	other, err := net.Dial("udp", a.udp.RemoteAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	mustWrite(t, other, datagram("127.0.0.1", far.Port(), "mine now"))
	eventually(t, "the stranger is counted", func() bool { return r.Stats().DroppedPackets == 1 })
	a.send("127.0.0.1", far.Port(), "still mine")
	if _, got, err := a.receive(10 * time.Second); err != nil || !bytes.HasSuffix([]byte(got), []byte("still mine")) {
		t.Fatalf("%q, %v", got, err)
	}
}

// TestAnyoneMayAnswer: once a datagram has gone out, peers it was not sent to reach the application, as calls need.
func TestAnyoneMayAnswer(t *testing.T) {
	t.Parallel()
	r := start(t, newWorld(), Config{})
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	a := associate(t, r, false)
	a.send("127.0.0.1", uint16(pc.LocalAddr().(*net.UDPAddr).Port), "introduce me")
	buf := make([]byte, 100)
	pc.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, outside, err := pc.ReadFrom(buf)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	if _, err := peer.WriteTo([]byte("hi, I am the peer"), outside); err != nil {
		t.Fatal(err)
	}
	if from := a.want("hi, I am the peer"); int(from.port) != peer.LocalAddr().(*net.UDPAddr).Port {
		t.Errorf("from %v", from)
	}
}

func TestAssociateEndsIdle(t *testing.T) {
	t.Parallel()
	r := start(t, newWorld(), Config{AssociationIdle: 200 * time.Millisecond})
	far := udpEcho(t, "127.0.0.1:0")
	a := associate(t, r, false)
	began := time.Now()
	for range 5 { // kept alive by use, beyond the limit
		a.send("127.0.0.1", far.Port(), "x")
		if _, _, err := a.receive(10 * time.Second); err != nil {
			t.Fatal(err)
		}
		time.Sleep(60 * time.Millisecond)
	}
	if r.Stats().Associations != 1 {
		t.Fatalf("ended after %v, in use", time.Since(began))
	}
	if _, err := io.ReadAll(a.tcp); err != nil { // its end is how the client hears of it
		t.Fatal(err)
	}
	eventually(t, "it has ended", func() bool { return r.Stats().Associations == 0 })
}

func TestAssociateLimits(t *testing.T) {
	t.Parallel()
	w := newWorld()
	r := start(t, w, Config{MaxAssociations: 2})
	first := associate(t, r, false)
	associate(t, r, false)
	ask := func() byte {
		c := r.dial(t)
		greet(t, c)
		mustWrite(t, c, requestMsg(cmdAssociate, "0.0.0.0", 0))
		code, _ := readReply(t, c)
		c.Close()
		return code
	}
	if code := ask(); code != replyFailure {
		t.Errorf("third: reply %d", code)
	}
	if got := r.Stats().TurnedAway; got != 1 {
		t.Errorf("%d turned away", got)
	}
	first.tcp.Close()
	eventually(t, "there is room again", func() bool { return ask() == 0 })
}

func TestAssociateRefused(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.fail["udp"] = flow.CodeDenied
	r := start(t, w, Config{})
	c := r.dial(t)
	greet(t, c)
	mustWrite(t, c, requestMsg(cmdAssociate, "0.0.0.0", 0))
	if code, _ := readReply(t, c); code != replyNotAllowed {
		t.Errorf("reply %d", code)
	}
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("%v, want EOF", err)
	}
}
