package linkmodel_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/lab/linkmodel"
	"github.com/godwit-vpn/godwit/lab/netns"
	"github.com/godwit-vpn/godwit/lab/netns/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

// chain is two hosts with Forwarders in a row between them, each in a namespace of its own:
//
//	left 192.0.2.1 ── a middle b ── … ── 192.0.2.2 right
type chain struct {
	left, right *netns.Host
	middle      []*netns.Host
	fw          []*linkmodel.Forwarder
}

var leftAddr, rightAddr = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")

func newChain(t testing.TB, spec linkmodel.Spec, boxes ...linkmodel.Box) *chain {
	t.Helper()
	netnstest.Need(t)
	host := func(name string) *netns.Host {
		h, err := netns.NewHost(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.Close() })
		return h
	}
	check := func(errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	c := &chain{left: host("left"), right: host("right")}
	last, lastDev := c.left, "eth0"
	for range boxes {
		h := host("middle")
		check(netns.Connect(last, lastDev, h, "a"), last.OffloadsOff(lastDev), h.OffloadsOff("a"))
		c.middle = append(c.middle, h)
		last, lastDev = h, "b"
	}
	check(netns.Connect(last, lastDev, c.right, "eth0"), last.OffloadsOff(lastDev), c.right.OffloadsOff("eth0"))
	check(c.left.AddAddr("eth0", netip.PrefixFrom(leftAddr, 24), ""), c.right.AddAddr("eth0", netip.PrefixFrom(rightAddr, 24), ""))
	leftMAC, err := c.left.HardwareAddr("eth0")
	check(err)
	rightMAC, err := c.right.HardwareAddr("eth0")
	check(err)
	check(c.left.AddNeighbour("eth0", rightAddr, rightMAC), c.right.AddNeighbour("eth0", leftAddr, leftMAC))

	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, len(boxes))
	for i, box := range boxes {
		check(c.middle[i].Do(func() error {
			f, err := linkmodel.Open("a", "b", spec)
			c.fw = append(c.fw, f)
			return err
		}))
		c.fw[i].Box = box
		go func() { ran <- c.fw[i].Run(ctx) }()
	}
	t.Cleanup(func() {
		cancel()
		for range boxes {
			if err := <-ran; err != nil {
				t.Error(err)
			}
		}
	})
	return c
}

func (c *chain) ping(t *testing.T, count int) []time.Duration {
	t.Helper()
	rtts, err := c.left.Ping(t.Context(), rightAddr, count, 5*time.Millisecond, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return rtts
}

// boxFunc is a Box that is one function.
type boxFunc func(now time.Duration, forward bool, frame []byte, emit linkmodel.Emit)

func (f boxFunc) Frame(now time.Duration, forward bool, frame []byte, emit linkmodel.Emit) {
	f(now, forward, frame, emit)
}

func pass(_ time.Duration, forward bool, frame []byte, emit linkmodel.Emit) { emit(forward, 0, frame) }

// isEcho says whether a frame is an ICMP echo request.
func isEcho(frame []byte) bool {
	return len(frame) > 34 && binary.BigEndian.Uint16(frame[12:]) == 0x0800 && frame[23] == 1 && frame[34] == 8
}

func TestBoxDropsAndPasses(t *testing.T) {
	var closed atomic.Bool
	c := newChain(t, linkmodel.Spec{}, boxFunc(func(now time.Duration, forward bool, frame []byte, emit linkmodel.Emit) {
		if !closed.Load() {
			emit(forward, 0, frame)
		}
	}))
	if got := len(c.ping(t, 3)); got != 3 {
		t.Fatalf("%d of 3 pings passed", got)
	}
	closed.Store(true)
	rtts, err := c.left.Ping(t.Context(), rightAddr, 3, time.Millisecond, 100*time.Millisecond)
	if err != nil || len(rtts) != 0 {
		t.Fatalf("%d pings passed a box that emits nothing: %v", len(rtts), err)
	}
}

// TestBoxAnswers: a box that answers in the other direction, whose thread sleeps because nothing arrives there.
func TestBoxAnswers(t *testing.T) {
	const wait = 30 * time.Millisecond
	for _, after := range []time.Duration{0, wait} {
		var last time.Duration
		c := newChain(t, linkmodel.Spec{}, boxFunc(func(now time.Duration, forward bool, frame []byte, emit linkmodel.Emit) {
			if now < last {
				t.Errorf("time went from %v to %v", last, now)
			}
			last = now
			if !forward || !isEcho(frame) {
				return
			}
			var mac [6]byte
			var ip [4]byte
			copy(mac[:], frame[0:6])
			copy(frame[0:6], frame[6:12])
			copy(frame[6:12], mac[:])
			copy(ip[:], frame[26:30])
			copy(frame[26:30], frame[30:34])
			copy(frame[30:34], ip[:])
			frame[34] = 0 // echo reply
			binary.BigEndian.PutUint16(frame[36:], binary.BigEndian.Uint16(frame[36:])+0x0800)
			emit(false, after, frame)
		}))
		rtts := c.ping(t, 10)
		if len(rtts) != 10 {
			t.Fatalf("%d of 10 pings answered by the box", len(rtts))
		}
		for _, rtt := range rtts {
			if rtt < after {
				t.Errorf("an answer took %v, less than the box's %v", rtt, after)
			}
		}
		t.Logf("answers after %v took %v", after, rtts)
		if fw, bw := c.fw[0].Stats(); fw.Sent != 0 || bw.Sent < 10 {
			t.Errorf("sent %d forward and %d backward", fw.Sent, bw.Sent)
		}
	}
}

// TestBoxEmitsBothWays: boxes that, called on either thread, emit into both directions, and nonsense too, while both
// are busy.
func TestBoxEmitsBothWays(t *testing.T) {
	var busy atomic.Int32
	both := boxFunc(func(now time.Duration, forward bool, frame []byte, emit linkmodel.Emit) {
		if busy.Add(1) > 1 {
			t.Error("two calls at once")
		}
		defer busy.Add(-1)
		emit(forward, 0, frame)
		if isEcho(frame) {
			return // an echo request sent back to its sender would be answered by nobody
		}
		emit(!forward, 0, frame)
		emit(!forward, time.Millisecond, frame)
		emit(forward, time.Microsecond, nil)
		emit(forward, 0, make([]byte, 1520)) // longer than the interface takes
		emit(forward, 0, make([]byte, 4000))
	})
	c := newChain(t, linkmodel.Spec{}, both)
	stop := make(chan struct{})
	done := make(chan struct{}, 2)
	for _, h := range []*netns.Host{c.left, c.right} {
		go func() {
			defer func() { done <- struct{}{} }()
			send(t, h, 200*time.Microsecond, 100, stop)
		}()
	}
	got := 0
	for try := 0; got == 0 && try < 10; try++ { // the flood may crowd some out
		got = len(c.ping(t, 20))
	}
	close(stop)
	<-done
	<-done
	if got == 0 {
		t.Error("no ping passed")
	}
	if fw, _ := c.fw[0].Stats(); fw.Oversize == 0 {
		t.Errorf("nonsense was carried: %+v", fw)
	}
}

// TestMTUIsFound: the kernel's TCP finds a narrow path's MTU by its answers, which come from the path of the other
// direction.
func TestMTUIsFound(t *testing.T) {
	c := newChain(t, linkmodel.Symmetric(linkmodel.Direction{MTU: 1280, Delay: time.Millisecond}, 1), nil)
	l, err := c.right.Listen(netip.AddrPortFrom(rightAddr, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := c.left.Dial(l.Addr().(*net.TCPAddr).AddrPort(), 10*time.Second)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		conn.Write(make([]byte, 100_000))
	}()
	l.SetDeadline(time.Now().Add(20 * time.Second))
	conn, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if n, err := io.Copy(io.Discard, conn); err != nil || n != 100_000 {
		t.Errorf("%d bytes came: %v", n, err)
	}
	if fw, _ := c.fw[0].Stats(); fw.Answers == 0 {
		t.Errorf("the path was not too narrow for any packet: %+v", fw)
	}
}

// send sends frames of a protocol nobody knows from a host's eth0 until stop, one each gap.
func send(t testing.TB, h *netns.Host, gap time.Duration, size int, stop <-chan struct{}) (sent int) {
	var s int
	err := h.Do(func() (err error) {
		i, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		if s, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(s, &unix.SockaddrLinklayer{Ifindex: i.Index})
	})
	if err != nil {
		t.Error(err)
		return 0
	}
	defer unix.Close(s)
	frame := make([]byte, size)
	frame[12], frame[13] = 0x88, 0xb5 // for local experiments
	begin := time.Now()
	for {
		select {
		case <-stop:
			return sent
		default:
		}
		for due := int(time.Since(begin) / gap); sent < due; sent++ {
			if _, err := unix.Write(s, frame); err != nil && err != unix.ENOBUFS && err != unix.EAGAIN {
				t.Error(err)
				return sent
			}
		}
		time.Sleep(gap)
	}
}

// BenchmarkBoxes carries frames of 1500 bytes through two Forwarders in a row, each with a Box, for as long as it takes.
func BenchmarkBoxes(b *testing.B) {
	// The kernel, not Go's scheduler, decides who runs: see linkcheck's moreProcs.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU() + 6))
	c := newChain(b, linkmodel.Spec{}, boxFunc(pass), boxFunc(pass))
	const gap = 40 * time.Microsecond // 300 Mbit/s
	for b.Loop() {
		stop := make(chan struct{})
		time.AfterFunc(time.Second, func() { close(stop) })
		before, _ := c.fw[1].Stats()
		begin := time.Now()
		sent := send(b, c.left, gap, 1514, stop)
		offered := time.Since(begin).Seconds()
		after := before
		for {
			time.Sleep(20 * time.Millisecond)
			now, _ := c.fw[1].Stats()
			if now.Sent == after.Sent {
				break
			}
			after = now
		}
		first, _ := c.fw[0].Stats()
		carried := after.Sent - before.Sent
		b.ReportMetric(float64(carried)*1514*8/1e6/(time.Since(begin).Seconds()-0.02), "Mbit/s")
		b.Logf("offered %.0f Mbit/s, %d frames, carried %d; kernel dropped %d and %d; late %d and %d µs (99 %%)",
			float64(sent)*1514*8/1e6/offered, sent, carried, first.KernelDrop, after.KernelDrop, first.LateP99us, after.LateP99us)
	}
}
