package netns_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/netns"
	"github.com/godwit-vpn/godwit/lab/netns/netnstest"
)

var (
	left4, right4 = netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("192.0.2.2/24")
	left6, right6 = netip.MustParsePrefix("2001:db8::1/64"), netip.MustParsePrefix("2001:db8::2/64")
	beyond4       = netip.MustParseAddr("198.51.100.1")
	beyond6       = netip.MustParseAddr("3fff::1")
)

// newPair is two hosts on a cable, with addresses of both families.
func newPair(t *testing.T) (left, right *netns.Host) {
	t.Helper()
	netnstest.Need(t)
	host := func(name string) *netns.Host {
		h, err := netns.NewHost(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.Close() })
		if err := h.EnableIPv6(); err != nil {
			t.Skip(err) // a kernel without
		}
		return h
	}
	left, right = host("left"), host("right")
	must(t, netns.Connect(left, "eth0", right, "eth0"))
	must(t, left.AddAddr("eth0", left4, ""), left.AddAddr("eth0", left6, ""))
	must(t, right.AddAddr("eth0", right4, ""), right.AddAddr("eth0", right6, ""))
	return left, right
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestBothFamilies(t *testing.T) {
	left, right := newPair(t)
	// What is behind the default route, and a neighbour that is fixed rather than asked for.
	must(t, left.AddDefaultRoute("eth0", right4.Addr()), left.AddDefaultRoute("eth0", right6.Addr()))
	mac, err := right.HardwareAddr("eth0")
	must(t, err)
	must(t, left.AddNeighbour("eth0", right4.Addr(), mac), left.AddNeighbour("eth0", right6.Addr(), mac))
	for _, a := range []netip.Addr{beyond4, beyond6} {
		must(t, right.AddAddr("lo", netip.PrefixFrom(a, a.BitLen()), ""))
	}
	for _, addr := range []netip.Addr{beyond4, beyond6, right4.Addr(), right6.Addr()} {
		rtts, err := left.Ping(t.Context(), addr, 2, time.Millisecond, 2*time.Second)
		for again := 0; again < 3 && err == nil && len(rtts) != 2; again++ { // a busy machine forgets to ask who its neighbour is
			rtts, err = left.Ping(t.Context(), addr, 2, time.Millisecond, 2*time.Second)
		}
		if err != nil || len(rtts) != 2 {
			t.Errorf("ping %v: %v %v", addr, rtts, err)
		}
		l, err := right.Listen(netip.AddrPortFrom(addr, 0))
		must(t, err)
		c, err := left.Dial(l.Addr().(*net.TCPAddr).AddrPort(), 5*time.Second)
		if err != nil {
			t.Errorf("TCP to %v: %v", addr, err)
		} else {
			c.Close()
		}
		l.Close()
		u, err := right.ListenUDP(netip.AddrPortFrom(addr, 0))
		must(t, err)
		d, err := left.DialContext(t.Context(), "udp", u.LocalAddr().String())
		must(t, err)
		_, err = d.Write([]byte("datagram"))
		must(t, err)
		u.SetReadDeadline(time.Now().Add(5 * time.Second))
		buf := make([]byte, 100)
		n, from, err := u.ReadFromUDPAddrPort(buf)
		if err != nil || string(buf[:n]) != "datagram" || from.Addr() != left4.Addr() && from.Addr() != left6.Addr() {
			t.Errorf("UDP to %v: %q from %v: %v", addr, buf[:n], from, err)
		}
		d.Close()
		u.Close()
	}
}

func TestDialDoesNotBlockItsHost(t *testing.T) {
	left, _ := newPair(t)
	ctx, cancel := context.WithCancel(t.Context())
	dialled := make(chan error, 1)
	go func() {
		_, err := left.DialContext(ctx, "tcp", "192.0.2.77:1") // nobody is there
		dialled <- err
	}()
	for range 10 {
		must(t, left.Do(func() error { return nil }))
	}
	select {
	case err := <-dialled:
		t.Errorf("the dial ended: %v", err)
	default:
	}
	cancel()
	if err := <-dialled; err == nil {
		t.Error("somebody was there")
	}
	if _, err := left.DialContext(t.Context(), "tcp", "site.example:80"); err == nil {
		t.Error("a name was dialled")
	}
}

func output(t *testing.T, h *netns.Host, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	must(t, h.Start(cmd))
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, &out)
	}
	return out.String()
}

func TestFilesOfAHost(t *testing.T) {
	left, right := newPair(t)
	machines, err := os.ReadFile("/etc/hosts")
	must(t, err)
	must(t, left.SetNames(netns.Name{Name: "site.example", Addr: beyond4}))
	must(t, left.SetResolvers(right4.Addr(), right6.Addr()))
	if got := output(t, left, "cat", "/etc/hosts"); !strings.Contains(got, "198.51.100.1 site.example\n") {
		t.Errorf("the host's names are %q", got)
	}
	if got := output(t, left, "cat", "/etc/resolv.conf"); got != "nameserver 192.0.2.2\nnameserver 2001:db8::2\n" {
		t.Errorf("the host's resolvers are %q", got)
	}
	must(t, left.SetNames(), left.SetResolvers())
	if got := output(t, left, "cat", "/etc/hosts"); strings.Contains(got, "site.example") {
		t.Errorf("the host's names are still %q", got)
	}
	now, err := os.ReadFile("/etc/hosts")
	must(t, err)
	if !bytes.Equal(machines, now) || output(t, right, "cat", "/etc/hosts") != string(machines) {
		t.Error("one host's names are another's, or the machine's")
	}
	if err := left.SetFile("/etc/no-such-file", ""); err == nil || !strings.Contains(err.Error(), "/etc/no-such-file") {
		t.Errorf("a missing file: %v", err)
	}
}

func TestProgramsEndWithTheHost(t *testing.T) {
	left, _ := newPair(t)
	cmd := exec.Command("sleep", "1000")
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, left.Start(cmd), left.Close())
	if _, err := io.ReadAll(out); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the program ended by itself")
	}
	if err := left.Do(func() error { return nil }); err == nil {
		t.Error("a closed host does things")
	}
}
