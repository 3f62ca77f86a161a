//go:build linux

package topology_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/bench/topology"
	"github.com/godwit-vpn/godwit/lab/netns"
	"github.com/godwit-vpn/godwit/lab/netns/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

func newNet(t *testing.T, cfg topology.Config) *topology.Net {
	t.Helper()
	netnstest.Need(t)
	n, err := topology.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// reach connects from a host to an address of another.
func reach(from, to *netns.Host, addr netip.Addr) error {
	l, err := to.Listen(netip.AddrPortFrom(addr, 0))
	if err != nil {
		return err
	}
	defer l.Close()
	c, err := from.Dial(netip.AddrPortFrom(addr, l.Addr().(*net.TCPAddr).AddrPort().Port()), 2*time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}

func TestRoutes(t *testing.T) {
	n := newNet(t, topology.Config{Offloads: true})
	if err := reach(n.Client, n.Gateway, topology.GatewayAddr); err != nil {
		t.Errorf("client to gateway: %v", err)
	}
	if err := reach(n.Gateway, n.Target, topology.TargetAddr); err != nil {
		t.Errorf("gateway to target: %v", err)
	}
	if err := reach(n.Client, n.Target, topology.TargetAddr); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("the client reaches the target without a peer: %v", err)
	}
	if err := n.Direct(); err != nil {
		t.Fatal(err)
	}
	if err := reach(n.Client, n.Target, topology.TargetAddr); err != nil {
		t.Errorf("client to target, direct: %v", err)
	}
	rtts, err := n.Client.Ping(t.Context(), topology.TargetAddr, 3, time.Millisecond, time.Second)
	if err != nil || len(rtts) != 3 {
		t.Errorf("ping: %v %v", rtts, err)
	}
}

func TestNothingLeadsOut(t *testing.T) {
	n := newNet(t, topology.Config{})
	for _, h := range n.Hosts() {
		err := h.Do(func() error {
			ifs, err := net.Interfaces()
			if err != nil {
				return err
			}
			for _, i := range ifs {
				if i.Flags&net.FlagUp != 0 && !strings.Contains("lo eth0 eth1 cl gw", i.Name) {
					t.Errorf("%s has interface %s", h.Name, i.Name)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if h == n.Target {
			continue // its default route ends at the gateway, which has none
		}
		c, err := h.Dial(netip.MustParseAddrPort("192.0.2.1:9"), time.Second)
		if !errors.Is(err, syscall.ENETUNREACH) {
			t.Errorf("%s dialled out: %v %v", h.Name, c, err)
		}
	}
}

func TestCongestionControl(t *testing.T) {
	netnstest.Need(t)
	for _, cc := range []string{"cubic", "bbr", "reno"} {
		t.Run(cc, func(t *testing.T) {
			n, err := topology.New(topology.Config{CC: cc})
			if errors.Is(err, topology.ErrNoCC) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer n.Close()
			found, err := n.CheckCC()
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("by %s: %v", n.CCBy, found)
			if len(found) != 6 {
				t.Errorf("probed %v", found)
			}
			for where, got := range found {
				if got != cc {
					t.Errorf("%s uses %s", where, got)
				}
			}

			l, err := n.Gateway.Listen(netip.AddrPortFrom(topology.GatewayAddr, 0))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			c, err := n.Client.Dial(l.Addr().(*net.TCPAddr).AddrPort(), time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for _, h := range []*netns.Host{n.Client, n.Gateway} {
				if got, err := topology.SocketCCs(h); err != nil || len(got) != 1 || got[cc] < 1 {
					t.Errorf("sockets of %s: %v %v", h.Name, got, err)
				}
			}
		})
	}
	if _, err := topology.New(topology.Config{CC: "nonesuch"}); !errors.Is(err, topology.ErrNoCC) {
		t.Errorf("nonesuch: %v", err)
	}
}

func TestClosedHostKillsItsProcesses(t *testing.T) {
	netnstest.Need(t)
	h, err := netns.NewHost("short-lived")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "600")
	if err := h.Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() { waited <- cmd.Wait() }()
	select {
	case <-waited:
	case <-time.After(10 * time.Second):
		cmd.Process.Kill()
		t.Fatal("its process outlived it")
	}
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL {
		t.Fatalf("it ended otherwise: %v", cmd.ProcessState)
	}
	if err := h.Do(func() error { return nil }); err == nil {
		t.Fatal("a closed host works")
	}
}

func TestPingEndsWithContext(t *testing.T) {
	n := newNet(t, topology.Config{Linked: true}) // nothing carries frames
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if rtts, err := n.Client.Ping(ctx, topology.GatewayAddr, 1000, 10*time.Millisecond, time.Minute); err == nil || len(rtts) > 0 {
		t.Fatalf("%v %v", rtts, err)
	}
}

func TestRelayIsBehindTheGateway(t *testing.T) {
	n := newNet(t, topology.Config{Relay: true})
	if err := reach(n.Client, n.Relay, topology.RelayAddr); err != nil {
		t.Errorf("client to relay: %v", err)
	}
	if err := reach(n.Relay, n.Gateway, topology.GatewayAddr); err != nil {
		t.Errorf("relay to gateway: %v", err)
	}
}

// TestKeepCC confines a program, this one, and has it try: a thread cannot get out of its filter again.
func TestKeepCC(t *testing.T) {
	const confined = "BENCH_TEST_KEEPCC"
	if os.Getenv(confined) == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestKeepCC$")
		cmd.Env = append(os.Environ(), confined+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	runtime.LockOSThread() // never unlocked: it ends with this goroutine
	if err := topology.KeepCC(); err != nil {
		t.Fatal(err)
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(s)
	if err := unix.SetsockoptString(s, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "reno"); !errors.Is(err, syscall.EPERM) {
		t.Errorf("choosing a congestion control: %v", err)
	}
	if _, err := unix.GetsockoptString(s, unix.IPPROTO_TCP, unix.TCP_CONGESTION); err != nil {
		t.Errorf("asking for it: %v", err)
	}
	if err := unix.SetsockoptInt(s, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		t.Errorf("another option: %v", err)
	}
}
