package topology

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket/pcapgo"

	"github.com/godwit-vpn/godwit/lab/linkmodel"
	"github.com/godwit-vpn/godwit/lab/netns"
	"github.com/godwit-vpn/godwit/lab/netns/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

// start builds a world and lets it run until the test's end.
func start(t *testing.T, text string, boxes map[string]linkmodel.Box) *Net {
	t.Helper()
	netnstest.Need(t)
	d, err := Parse("x", text)
	if err != nil {
		t.Fatal(err)
	}
	n, err := d.Build(t.Context(), boxes)
	if err != nil {
		t.Fatal(err)
	}
	n.Realtime = true // where it may
	ran := make(chan error, 1)
	go func() { ran <- n.Run(context.Background()) }()
	t.Cleanup(func() {
		if err := errors.Join(n.Close(), <-ran, n.Close()); err != nil {
			t.Error(err)
		}
	})
	return n
}

// fetch sends size bytes over TCP from one host to another and returns the address that they came from.
func fetch(t *testing.T, from, to *netns.Host, addr string, size int) (netip.Addr, error) {
	t.Helper()
	l, err := to.Listen(netip.AddrPortFrom(netip.MustParseAddr(addr), 0))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := from.Dial(l.Addr().(*net.TCPAddr).AddrPort(), 20*time.Second)
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	s, err := l.AcceptTCP()
	if err != nil {
		return netip.Addr{}, err
	}
	defer s.Close()
	s.SetDeadline(time.Now().Add(30 * time.Second))
	go func() {
		c.Write(make([]byte, size))
		c.CloseWrite()
	}()
	n, err := io.Copy(io.Discard, s)
	if err == nil && int(n) != size {
		err = io.ErrUnexpectedEOF
	}
	return s.RemoteAddr().(*net.TCPAddr).AddrPort().Addr(), err
}

const small = `
inside client 192.0.2.10 2001:db8:1::10 192.0.2.11 2001:db8:1::11
inside dns 192.0.2.53
firewall metro delay=1ms
firewall border delay=1ms mtu=1400
outside gateway 198.51.100.10 2001:db8:2::10
outside site 203.0.113.80 203.0.113.81 203.0.113.82
`

func TestEveryoneReachesEveryone(t *testing.T) {
	n := start(t, small, nil)
	for _, c := range []struct{ from, to, addr, seen string }{
		{"client", "gateway", "198.51.100.10", "192.0.2.10"},
		{"client", "gateway", "2001:db8:2::10", "2001:db8:1::10"},
		{"client", "site", "203.0.113.82", "192.0.2.10"},
		{"client", "dns", "192.0.2.53", "192.0.2.10"},
		{"dns", "client", "192.0.2.11", "192.0.2.53"},
		{"gateway", "client", "2001:db8:1::11", "2001:db8:2::10"},
		{"gateway", "site", "203.0.113.80", "198.51.100.10"},
	} {
		// More than one packet of 1500 bytes: hosts find out that border is narrower.
		seen, err := fetch(t, n.Hosts[c.from], n.Hosts[c.to], c.addr, 100_000)
		if err != nil || seen.String() != c.seen {
			t.Errorf("%s to %s at %s: as %v: %v", c.from, c.to, c.addr, seen, err)
		}
	}
	fw, bw, err := n.Stats("border")
	if err != nil || fw.Answers == 0 || !fw.Faithful() || !bw.Faithful() {
		t.Errorf("border: %v\nforward %+v\nbackward %+v", err, fw, bw)
	}
	rtts, err := n.Hosts["client"].Ping(t.Context(), netip.MustParseAddr("2001:db8:2::10"), 3, time.Millisecond, time.Second)
	if err != nil || len(rtts) != 3 || min(rtts[0], rtts[1], rtts[2]) < 4*time.Millisecond-200*time.Microsecond {
		t.Errorf("pings through two firewalls of 1 ms each way took %v: %v", rtts, err)
	}
	// Nobody is there, and the exchange says so, also to a family that the host does not speak.
	for from, to := range map[string]string{"client": "203.0.113.99:1", "gateway": "192.0.2.99:1", "dns": "[2001:db8:2::10]:1"} {
		_, err := n.Hosts[from].Dial(netip.MustParseAddrPort(to), 20*time.Second)
		if !errors.Is(err, syscall.EHOSTUNREACH) && !errors.Is(err, syscall.ENETUNREACH) && !errors.Is(err, syscall.EADDRNOTAVAIL) {
			t.Errorf("%s to %s: %v", from, to, err)
		}
	}
}

func TestNoFirewall(t *testing.T) {
	n := start(t, "inside client 192.0.2.10\noutside site 203.0.113.80", nil)
	if _, err := fetch(t, n.Hosts["client"], n.Hosts["site"], "203.0.113.80", 10_000); err != nil {
		t.Error(err)
	}
	if _, _, err := n.Stats("border"); err == nil || !strings.Contains(err.Error(), "there are none") {
		t.Error(err)
	}
}

// TestTwoWorldsAtOnce: they have the same names and addresses, and one has a closed border.
func TestTwoWorldsAtOnce(t *testing.T) {
	open := start(t, small, nil)
	closed := start(t, small, map[string]linkmodel.Box{"border": boxFunc(func(time.Duration, bool, []byte, linkmodel.Emit) {})})
	if _, err := fetch(t, open.Hosts["client"], open.Hosts["site"], "203.0.113.80", 1000); err != nil {
		t.Error(err)
	}
	rtts, err := closed.Hosts["client"].Ping(t.Context(), netip.MustParseAddr("203.0.113.80"), 3, time.Millisecond, 100*time.Millisecond)
	if err != nil || len(rtts) > 0 {
		t.Errorf("a closed border let %d pings pass: %v", len(rtts), err)
	}
	if metro, _, err := closed.Stats("metro"); err != nil || metro.Sent == 0 {
		t.Errorf("the pings did not come as far: %+v %v", metro, err)
	}
}

type boxFunc func(now time.Duration, forward bool, frame []byte, emit linkmodel.Emit)

func (f boxFunc) Frame(now time.Duration, forward bool, frame []byte, emit linkmodel.Emit) {
	f(now, forward, frame, emit)
}

func TestSet(t *testing.T) {
	n := start(t, small, nil)
	ping := func() int {
		rtts, err := n.Hosts["client"].Ping(t.Context(), netip.MustParseAddr("203.0.113.80"), 3, time.Millisecond, 300*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		return len(rtts)
	}
	if err := n.Set("metro", linkmodel.Spec{Backward: linkmodel.Direction{Loss: 1}}); err != nil {
		t.Fatal(err)
	}
	if got := ping(); got != 0 {
		t.Errorf("%d pings came back through a link that loses all", got)
	}
	if err := n.Set("metro", linkmodel.Spec{}); err != nil {
		t.Fatal(err)
	}
	if got := ping(); got == 0 {
		t.Error("no ping came back when the link was mended")
	}
	for want, err := range map[string]error{
		"firewall metro: forward: loss":                    n.Set("metro", linkmodel.Spec{Forward: linkmodel.Direction{Loss: 3}}),
		`firewall "x": not there: there are metro, border`: n.Set("x", linkmodel.Spec{}),
	} {
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	netnstest.Need(t)
	d := Description{Inside: []Host{{"a", addrs("192.0.2.1")}}}
	if _, err := d.Build(t.Context(), map[string]linkmodel.Box{"border": nil}); err == nil || !strings.Contains(err.Error(), "box") {
		t.Errorf("a box for nobody: %v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Build(cancelled, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	d.Inside[0].Addrs = addrs("10.0.0.1")
	if _, err := d.Build(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "address 10.0.0.1") {
		t.Errorf("a real address: %v", err)
	}
}

// TestCapture takes down a box that turns pings back at metro: they are seen on its inside only.
func TestCapture(t *testing.T) {
	n := start(t, small, map[string]linkmodel.Box{"metro": boxFunc(func(_ time.Duration, forward bool, frame []byte, emit linkmodel.Emit) {
		if forward {
			emit(false, 0, frame)
		}
	})})
	var file bytes.Buffer
	inside, err := n.CaptureLast("metro", Inside, 4)
	if err != nil {
		t.Fatal(err)
	}
	all, err := n.CaptureTo("metro", Inside, &file)
	if err != nil {
		t.Fatal(err)
	}
	outside, err := n.CaptureLast("metro", Outside, 100)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.CaptureLast("metro", Outside, 0); err == nil {
		t.Error("a capture of nothing")
	}
	n.Hosts["client"].Ping(t.Context(), netip.MustParseAddr("198.51.100.10"), 5, 5*time.Millisecond, 50*time.Millisecond)
	for _, c := range []*Capture{inside, all, outside} {
		if err := errors.Join(c.Stop(), c.Stop()); err != nil {
			t.Error(err)
		}
	}
	n.Hosts["client"].Ping(t.Context(), netip.MustParseAddr("198.51.100.10"), 1, time.Millisecond, 10*time.Millisecond)
	save := func(c *Capture) []uint16 {
		var b bytes.Buffer
		if err := c.Save(&b); err != nil {
			t.Fatal(err)
		}
		return pings(t, &b)
	}
	if got := pings(t, &file); len(got) != 10 || got[0] != 0 || got[9] != 4 {
		t.Errorf("of five pings to and fro, the file has %v", got)
	}
	if got := save(inside); len(got) > 4 || len(got) == 0 || got[len(got)-1] != 4 {
		t.Errorf("the last four frames have pings %v", got)
	}
	if got := save(outside); len(got) != 0 {
		t.Errorf("outside there are pings %v", got)
	}
}

// pings lists the numbers of the echo requests in a capture.
func pings(t *testing.T, file io.Reader) (seqs []uint16) {
	t.Helper()
	r, err := pcapgo.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	var last time.Time
	for {
		f, ci, err := r.ReadPacketData()
		if err == io.EOF {
			return seqs
		}
		if err != nil {
			t.Fatal(err)
		}
		if time.Since(ci.Timestamp).Abs() > time.Minute || ci.Timestamp.Before(last.Add(-time.Second)) {
			t.Errorf("a frame of %v", ci.Timestamp)
		}
		last = ci.Timestamp
		if len(f) > 42 && binary.BigEndian.Uint16(f[12:]) == 0x0800 && f[23] == 1 && f[34] == 8 {
			seqs = append(seqs, binary.BigEndian.Uint16(f[40:]))
		}
	}
}

func TestRunOnce(t *testing.T) {
	netnstest.Need(t)
	n, err := exampleIs.Build(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil { // never ran
		t.Fatal(err)
	}
	if err := n.Run(t.Context()); err == nil {
		t.Error("a closed world runs")
	}
}
