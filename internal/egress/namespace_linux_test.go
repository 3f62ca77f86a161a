package egress

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/packet"
)

// inNamespace runs the calling test again in a network of its own, which has nothing but loopback, and where ICMP echo
// sockets are allowed. It reports whether this is the inner run.
func inNamespace(t *testing.T) bool {
	t.Helper()
	const mark = "GODWIT_TEST_NAMESPACE"
	if os.Getenv(mark) == t.Name() {
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(s)
		ifr, err := unix.NewIfreq("lo")
		if err != nil {
			t.Fatal(err)
		}
		ifr.SetUint16(unix.IFF_UP)
		if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, ifr); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 0"), 0); err != nil {
			t.Log(err)
		}
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), mark+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	switch {
	case cmd.ProcessState == nil:
		t.Skip("no namespaces here: ", err)
	case err != nil:
		t.Fatalf("%v\n%s", err, out)
	case strings.Contains(string(out), "--- SKIP"):
		t.Skipf("%s", out)
	}
	return false
}

func TestPing(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	if c, err := openPing(false, netip.Addr{}, nil); err != nil {
		t.Skip(err)
	} else {
		c.Close()
	}
	s := newSockets(t, Config{})
	in := newInside(t, s)
	for _, lo := range []netip.Addr{lo4, lo6} {
		src := innerOf(lo, 0).Addr()
		for seq := range uint16(3) {
			for _, id := range []uint16{0x1111, 0x2222} {
				b, err := packet.AppendEcho(nil, false, src, lo, id, seq, []byte("is it far?"))
				if err != nil {
					t.Fatal(err)
				}
				in.sink.WritePacket(b)
				p := in.recv()
				m, err := p.ICMP()
				if err != nil || m.Kind != packet.EchoReply || m.ID != id || m.Seq != seq || string(m.Body) != "is it far?" {
					t.Fatalf("%v: got %+v, %v", lo, m, err)
				}
				if p.Src != lo || p.Dst != src {
					t.Errorf("%v: from %v to %v", lo, p.Src, p.Dst)
				}
			}
		}
	}
	if st := s.Stats(); st.Mappings != 4 || st.PacketsOut != 12 || st.PacketsIn != 12 {
		t.Errorf("counted %+v", st)
	}
	k := in.sink.(*sink)
	s.skew.Add(int64(echoTimeout))
	k.sweep()
	if st := s.Stats(); st.Mappings != 0 {
		t.Errorf("counted %+v", st)
	}
	// What the policy refuses is not pinged.
	b, _ := packet.AppendEcho(nil, false, inner4, netip.MustParseAddr("10.0.0.1"), 1, 1, nil)
	in.sink.WritePacket(b)
	if why, _ := in.recvError(); why != packet.Prohibited {
		t.Errorf("told %v", why)
	}
}

// Datagrams that must get there whole do, or the session is told how long they may be. Others go in fragments.
func TestWhole(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	const mtu = 1400
	if out, err := exec.Command("ip", "link", "set", "lo", "mtu", "1400").CombinedOutput(); err != nil {
		t.Skipf("%v: %s", err, out)
	}
	in := newInside(t, newSockets(t, Config{}))
	for _, lo := range []netip.Addr{lo4, lo6} {
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(lo, 0)))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		to, buf := c.LocalAddr().(*net.UDPAddr).AddrPort(), make([]byte, 1<<16)
		send := func(length int, fragments bool) {
			b, err := packet.AppendUDP(nil, innerOf(lo, 4000), to, make([]byte, length-packet.UDPOverhead(lo)))
			if err != nil {
				t.Fatal(err)
			}
			if fragments {
				packet.AllowFragments(b, 1)
			}
			in.sink.WritePacket(b)
		}
		arrives := func(length int) {
			t.Helper()
			_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
			if n, err := c.Read(buf); err != nil || n+packet.UDPOverhead(lo) != length {
				t.Fatalf("%v: %d of %d bytes, %v", lo, n, length, err)
			}
		}
		send(mtu, false)
		arrives(mtu)
		send(mtu+1, false)
		p := in.recv()
		m, err := p.ICMP()
		if err != nil || m.Kind != packet.TooBig || m.MTU != mtu || p.Src != lo {
			t.Fatalf("%v: told %+v, %v", lo, m, err)
		}
		if q, err := m.Quoted(); err != nil || q.Src != innerOf(lo, 4000) || q.Dst != to {
			t.Errorf("%v: told of %+v, %v", lo, q, err)
		}
		// Over IPv6 whoever has been told has sent what is longer in fragments.
		for _, length := range []int{mtu + 1, 9000} {
			send(length, true)
			arrives(length)
		}
		send(mtu, false)
		arrives(mtu)
	}
}

// Without a route nothing pretends that there is one.
func TestNoRoute(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if v4, v6 := s.ExitAddrs(); s.Families() != 0 || v4.IsValid() || v6.IsValid() {
		t.Errorf("families %d, leaves from %v, %v", s.Families(), v4, v6)
	}
	for _, host := range []string{"8.8.8.8", "2606:4700::1111"} {
		if _, err := s.Dial(t.Context(), flow.Target{Host: host, Port: 443}); flow.CodeOf(err) != flow.CodeNetUnreach {
			t.Errorf("%s: got %v", host, err)
		}
	}
	// The same when only the kernel knows.
	sure := newSockets(t, Config{Allow: []netip.Prefix{}})
	in := newInside(t, sure)
	for _, host := range []string{"8.8.8.8", "2606:4700::1111"} {
		if _, err := sure.Dial(t.Context(), flow.Target{Host: host, Port: 443}); flow.CodeOf(err) != flow.CodeNetUnreach {
			t.Errorf("%s: got %v", host, err)
		}
		in.send(4000, netip.AddrPortFrom(netip.MustParseAddr(host), 443), "x")
		if why, _ := in.recvError(); why != packet.NoRoute {
			t.Errorf("%s: told %v", host, why)
		}
	}
}

// The host's own addresses are refused as soon as they are known, public ones too.
func TestOwnInterface(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	if out, err := exec.Command("ip", "address", "add", "93.184.216.34/24", "dev", "lo").CombinedOutput(); err != nil {
		t.Skipf("%v: %s", err, out)
	}
	l, err := net.Listen("tcp", "93.184.216.34:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	to := l.Addr().(*net.TCPAddr).AddrPort()
	own := flow.Target{Host: to.Addr().String(), Port: to.Port()}
	s := newSockets(t, Config{Allow: []netip.Prefix{}})
	if _, err := s.Dial(t.Context(), own); flow.CodeOf(err) != flow.CodeDenied {
		t.Errorf("got %v", err)
	}
	// Were the list of interfaces to miss it, the connection's own ends would tell.
	blind := newSockets(t, Config{Allow: []netip.Prefix{}})
	blind.policy.listLocal = func() ([]net.Addr, error) { return nil, nil }
	if _, err := blind.Dial(t.Context(), own); flow.CodeOf(err) != flow.CodeDenied {
		t.Errorf("blind: got %v", err)
	}
	in := newInside(t, s)
	in.send(4000, to, "x")
	if why, _ := in.recvError(); why != packet.Prohibited {
		t.Errorf("told %v", why)
	}
}
