package owner

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// childEnv makes this program one that opens sockets as a user, says where they are, and waits.
const childEnv = "GODWIT_TEST_OWNER"

func TestMain(m *testing.M) {
	if uid, err := strconv.Atoi(os.Getenv(childEnv)); err == nil {
		child(uid, os.Args[1:])
		return
	}
	os.Exit(m.Run())
}

func child(uid int, to []string) {
	if err := syscall.Setuid(uid); err != nil {
		panic(err)
	}
	var all []Socket
	for _, at := range to {
		remote := netip.MustParseAddrPort(at)
		c, err := net.Dial("tcp", at)
		if err != nil {
			panic(err)
		}
		all = append(all, Socket{Local: c.LocalAddr().(*net.TCPAddr).AddrPort(), Remote: remote})
		connected, err := net.Dial("udp", at)
		if err != nil {
			panic(err)
		}
		all = append(all, Socket{UDP: true, Local: connected.LocalAddr().(*net.UDPAddr).AddrPort(), Remote: remote})
		free, err := net.ListenPacket("udp", ":0") // of both IP versions
		if err != nil {
			panic(err)
		}
		port := free.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		all = append(all, Socket{UDP: true, Local: netip.AddrPortFrom(remote.Addr(), port), Remote: remote})
		defer func() { c.Close(); connected.Close(); free.Close() }()
	}
	json.NewEncoder(os.Stdout).Encode(all)
	bufio.NewReader(os.Stdin).ReadByte()
}

// listeners are addresses where TCP is taken.
func listeners(t *testing.T) (at []string) {
	t.Helper()
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue // without IPv6
		}
		t.Cleanup(func() { l.Close() })
		at = append(at, l.Addr().String())
	}
	return at
}

// Sockets of two users in two control groups are told apart, of TCP and UDP, connected or not.
func TestOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("other users' processes take root")
	}
	at := listeners(t)
	top, path := newGroup(t)
	inner := filepath.Join(top, "inner.scope")
	if top != "" {
		if err := os.Mkdir(inner, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(inner) })
	}
	other := map[bool]netip.Addr{true: netip.MustParseAddr("192.0.2.77"), false: netip.MustParseAddr("2001:db8::77")}
	var table Table
	for _, who := range []struct {
		uid       int
		dir, path string
	}{{1234, top, path}, {4321, inner, path + "/inner.scope"}} {
		cmd := exec.Command(os.Args[0], at...)
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", childEnv, who.uid))
		cmd.Stderr = os.Stderr
		if top != "" {
			dir, err := os.Open(who.dir)
			if err != nil {
				t.Fatal(err)
			}
			defer dir.Close()
			cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
		}
		in, _ := cmd.StdinPipe()
		out, _ := cmd.StdoutPipe()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var sockets []Socket
		if err := json.NewDecoder(out).Decode(&sockets); err != nil {
			t.Fatal(err)
		}
		for _, s := range sockets {
			o, ok := table.Of(s)
			if !ok || o.UID != uint32(who.uid) || top != "" && o.Cgroup != who.path {
				t.Errorf("%+v: %+v, %v; want user %d of %s", s, o, ok, who.uid, who.path)
			}
			s.Local = netip.AddrPortFrom(s.Local.Addr(), s.Local.Port()^1)
			s.Remote = netip.AddrPortFrom(s.Remote.Addr(), 1)
			if o, ok := table.Of(s); ok && o.UID == uint32(who.uid) {
				t.Errorf("%+v, which is nobody's, is %+v", s, o)
			}
		}
		for _, s := range sockets {
			// What is forwarded for another machine may come from a port that a program here is bound to.
			s.Local = netip.AddrPortFrom(other[s.Local.Addr().Is4()], s.Local.Port())
			if o, ok := table.Of(s); ok {
				t.Errorf("%+v, another machine's, is %+v", s, o)
			}
		}
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		for _, s := range sockets {
			if o, ok := ask(s); ok {
				t.Errorf("once closed, %+v is %+v", s, o)
			}
		}
	}
	// What listens is not who sends from there: that is forwarded.
	l := netip.MustParseAddrPort(at[0])
	if o, ok := ask(Socket{Local: l, Remote: netip.MustParseAddrPort("192.0.2.1:443")}); ok {
		t.Errorf("a listener is %+v", o)
	}
	if top == "" {
		t.Skip("without control groups: needs a cgroup2 that root can write to")
	}
}

// newGroup makes a control group, and tells its path from the root; empty where that cannot be.
func newGroup(t *testing.T) (dir, path string) {
	t.Helper()
	root, own := cgroupRoot(), ownGroup(t)
	if root == "" {
		return "", ""
	}
	dir, err := os.MkdirTemp(filepath.Join(root, own), "godwit-owner-")
	if err != nil {
		return "", ""
	}
	t.Cleanup(func() { os.Remove(dir) })
	return dir, strings.TrimPrefix(dir, root)
}

// ownGroup is this process's control group.
func ownGroup(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	_, own, ok := strings.Cut("\n"+string(text), "\n0::")
	own, _, _ = strings.Cut(own, "\n")
	if !ok || cgroupRoot() == "" {
		t.Skip("needs cgroup2")
	}
	return own
}

// This process's own group has a number that leads to its path.
func TestOwnGroup(t *testing.T) {
	own := ownGroup(t)
	var st syscall.Stat_t
	if err := syscall.Lstat(filepath.Join(cgroupRoot(), own), &st); err != nil {
		t.Skip(err) // another namespace's root
	}
	var g cgroups
	if got := g.path(st.Ino); got != own {
		t.Errorf("it is %q, not %q", got, own)
	}
	if got := g.path(1 << 60); got != "" {
		t.Errorf("a group that is not there is %q", got)
	}
	at := listeners(t)
	c, err := net.Dial("tcp", at[0])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	o, ok := ask(Socket{Local: c.LocalAddr().(*net.TCPAddr).AddrPort(), Remote: netip.MustParseAddrPort(at[0])})
	if !ok || o != (Owner{UID: uint32(os.Geteuid()), Cgroup: own}) {
		t.Errorf("a socket of this process is %+v, %v", o, ok)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(make([]byte, 16))
	b := make([]byte, 16+messageSize+12)
	b[0], b[4], b[16+68], b[16+messageSize], b[16+messageSize+2] = byte(len(b)), sockDiagByFamily, 1, 12, diagCgroupID
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) { parse(b) })
}

func BenchmarkAsk(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	s := Socket{Local: c.LocalAddr().(*net.TCPAddr).AddrPort(), Remote: l.Addr().(*net.TCPAddr).AddrPort()}
	for b.Loop() {
		ask(s)
	}
}
