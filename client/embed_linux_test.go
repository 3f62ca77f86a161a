package client_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/client"
	"github.com/godwit-vpn/godwit/internal/dnsmessage/dnstest"
	"github.com/godwit-vpn/godwit/lab/netns"
)

// A client in an application, as on Android: the system has made a TUN, to which all traffic of its network goes but that of
// marked sockets.
//
//	programs ── tun0 ── the application, with a client in it ── wan ═══ wan ── gateway ── sites, resolvers
//	198.51.100.2, 10.111.0.1                                        198.51.100.1, and those of 203.0.113.0/24
const (
	phoneAddr   = "198.51.100.2"
	gatewayAddr = "198.51.100.1"
	siteAddr    = "203.0.113.5"
	dnsAddr     = "203.0.113.53"
	officeDNS   = "203.0.113.54"
	mark        = 7
)

var (
	phonePrefix = netip.MustParsePrefix("10.111.0.0/24")
	phoneFirst  = netip.MustParsePrefix("198.19.0.0/16")
)

// roleEnv makes this program the gateway's or the application's process; it is started on its host.
const roleEnv = "GODWIT_TEST_EMBED"

// role is a process that has one.
type role struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	reports *json.Decoder
	out     bytes.Buffer
}

// startRole starts one that reads what is asked of it from its standard input, says what there is to say on descriptor 3, and ends
// when its input does.
func startRole(t *testing.T, h *netns.Host, name, env string, files ...*os.File) *role {
	t.Helper()
	r := &role{cmd: exec.Command(os.Args[0], "-test.run=^TestRole$", "-test.timeout=60s")}
	r.cmd.Env = append(os.Environ(), roleEnv+"="+name, env)
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.out
	reports, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reports.Close() })
	r.reports = json.NewDecoder(reports)
	r.cmd.ExtraFiles = append([]*os.File{to}, files...)
	if r.in, err = r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := h.Start(r.cmd); err != nil {
		t.Fatal(err)
	}
	to.Close()
	t.Cleanup(func() { r.end(t) })
	return r
}

func (r *role) end(t *testing.T) {
	t.Helper()
	if r.in.Close() != nil {
		return // it has ended
	}
	if err := r.cmd.Wait(); err != nil {
		t.Errorf("the process ended with %v:\n%s", err, r.out.Bytes())
	}
}

func (r *role) read(t *testing.T, v any) {
	t.Helper()
	if err := r.reports.Decode(v); err != nil {
		r.in.Close()
		r.cmd.Wait()
		t.Fatalf("no report: %v\n%s", err, r.out.Bytes())
	}
}

// TestRole is what those processes run.
func TestRole(t *testing.T) {
	report := json.NewEncoder(os.NewFile(3, "reports"))
	switch os.Getenv(roleEnv) {
	case "":
		t.Skip("it belongs to TestEmbedded")
	case "gateway":
		beGateway(t, report)
	case "phone":
		bePhone(t, report)
	}
}

func beGateway(t *testing.T, report *json.Encoder) {
	w := newWorldAt(t, gatewayAddr)
	w.dir.Settings.Egress.Allow = []string{"203.0.113.0/24"}
	w.dir.Settings.Egress.Resolver = dnsAddr + ":53"
	w.run(t)
	for addr, answer := range map[string]func(name string) string{
		dnsAddr: func(name string) string {
			if strings.HasSuffix(name, ".example.") && !strings.HasSuffix(name, ".corp.example.") {
				return siteAddr
			}
			return ""
		},
		officeDNS: func(string) string { return "203.0.113.7" },
	} {
		h := dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
			a := new(dns.Msg).SetReply(m)
			if to := answer(m.Question[0].Name); to != "" && m.Question[0].Qtype == dns.TypeA {
				rr, _ := dns.NewRR(m.Question[0].Name + " 60 IN A " + to)
				a.Answer = append(a.Answer, rr)
			}
			w.WriteMsg(a)
		})
		udp, err := net.ListenPacket("udp", addr+":53")
		if err != nil {
			t.Fatal(err)
		}
		tcp, err := net.Listen("tcp", addr+":53")
		if err != nil {
			t.Fatal(err)
		}
		dnstest.Serve(t, &dns.Server{PacketConn: udp, Handler: h})
		dnstest.Serve(t, &dns.Server{Listener: tcp, Handler: h})
	}
	for _, port := range []string{"443", "7"} { // an echo, and who it is that asks
		l, err := net.Listen("tcp", net.JoinHostPort(siteAddr, port))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				if port == "7" {
					fmt.Fprint(c, c.RemoteAddr().(*net.TCPAddr).IP)
					c.Close()
					continue
				}
				go func() {
					io.Copy(c, c)
					c.Close()
				}()
			}
		}()
	}
	udp, err := net.ListenPacket("udp", siteAddr+":4500")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { udp.Close() })
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			udp.WriteTo(b[:n], from)
		}
	}()
	report.Encode(w.key.Text())
	io.Copy(io.Discard, os.Stdin)
}

// protector marks sockets, and knows which it has.
type protector struct {
	mu   sync.Mutex
	seen map[uint64]bool // by inode
}

func (p *protector) protect(_, _ string, c syscall.RawConn) (err error) {
	cerr := c.Control(func(fd uintptr) {
		var st unix.Stat_t
		if err = unix.Fstat(int(fd), &st); err != nil {
			return
		}
		p.mu.Lock()
		p.seen[st.Ino] = true
		p.mu.Unlock()
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, mark)
	})
	return errors.Join(err, cerr)
}

// sockets are those of this process, by inode, but for those that are bound to the TUN's address.
func sockets(t *testing.T) map[uint64]bool {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	all := map[uint64]bool{}
	for _, e := range fds {
		var fd int
		fmt.Sscan(e.Name(), &fd)
		var st unix.Stat_t
		if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
			continue
		}
		sa, err := unix.Getsockname(fd)
		if v4, ok := sa.(*unix.SockaddrInet4); err == nil && ok && phonePrefix.Contains(netip.AddrFrom4(v4.Addr)) {
			continue
		}
		all[st.Ino] = true
	}
	return all
}

// unprotected counts sockets that Protect has not seen, and those that it has ever. One that has just been made is seen at once.
func (p *protector) unprotected(t *testing.T, before map[uint64]bool) (none, all int) {
	now := sockets(t)
	time.Sleep(50 * time.Millisecond)
	still := sockets(t)
	p.mu.Lock()
	defer p.mu.Unlock()
	for ino := range now {
		if still[ino] && !before[ino] && !p.seen[ino] {
			none++
		}
	}
	return none, len(p.seen)
}

type phoneReport struct {
	Protected, Unprotected int
	Connections            uint64 // that came by the TUN
	Links                  int
}

func bePhone(t *testing.T, report *json.Encoder) {
	var set struct{ Key, Rules, Names, Bare string }
	if err := json.Unmarshal([]byte(os.Getenv("GODWIT_TEST_PHONE")), &set); err != nil {
		t.Fatal(err)
	}
	key, err := accesskey.Parse(set.Key)
	if err != nil {
		t.Fatal(err)
	}
	before := sockets(t)
	p := &protector{seen: map[uint64]bool{}}
	if err := unix.SetNonblock(4, true); err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(4, "tun")
	cfg := client.Config{Key: key, Protect: p.protect, Memory: 32 << 20, Rules: set.Rules, Logger: logger(t),
		TUN: &client.TUN{File: f, Prefix4: phonePrefix}, SplitDNS: []string{"corp.example=" + officeDNS}}
	if set.Names != "" {
		cfg.NamesFirst = []netip.Prefix{phoneFirst}
	}
	if set.Bare != "" {
		cfg.Protect, cfg.Transports = nil, []string{set.Bare}
	}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	if set.Bare != "" {
		for c.Status().Attempts == 0 {
			time.Sleep(10 * time.Millisecond)
		}
		report.Encode(c.Status().Error)
		cancel()
		<-ended
		return
	}
	ready(t, c)
	report.Encode("ready")
	asked := bufio.NewScanner(os.Stdin)
	for asked.Scan() {
		if asked.Text() == "network" {
			c.NetworkChanged()
		}
		var r phoneReport
		r.Unprotected, r.Protected = p.unprotected(t, before)
		if st := c.Status(); st.TUN != nil {
			r.Connections, r.Links = st.TUN.Opened, len(st.Links)
		}
		report.Encode(r)
	}
	if err := c.ServeTUN(ctx, client.TUN{}); err == nil {
		t.Error("a TUN without a descriptor was served")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if _, err := f.Write([]byte{0}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the TUN is not closed: %v", err)
	}
}

// TestEmbedded has a client carry what comes by a TUN that its embedder has made.
func TestEmbedded(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("namespaces take root")
	}
	for _, tool := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	host := func(name string) *netns.Host {
		h, err := netns.NewHost(name)
		do(err)
		t.Cleanup(func() { h.Close() })
		do(h.Sysctl("net.ipv4.conf.all.rp_filter", "0")) // answers come from where only marked sockets go
		do(h.Sysctl("net.ipv4.conf.default.rp_filter", "0"))
		return h
	}
	phone, gateway := host("phone"), host("gateway")
	do(netns.Connect(phone, "wan", gateway, "wan"))
	do(phone.AddAddr("wan", netip.MustParsePrefix(phoneAddr+"/24"), ""))
	do(gateway.AddAddr("wan", netip.MustParsePrefix(gatewayAddr+"/24"), ""))
	for _, a := range []string{siteAddr, dnsAddr, officeDNS} {
		do(gateway.AddAddr("lo", netip.MustParsePrefix(a+"/32"), ""))
	}
	do(phone.AddDefaultRoute("wan", netip.MustParseAddr(gatewayAddr)))
	g := startRole(t, gateway, "gateway", "")
	var key string
	g.read(t, &key)
	rules := filepath.Join(t.TempDir(), "rules.toml")
	do(os.WriteFile(rules, []byte("[[rule]]\ndomains = [\"blocked.example\"]\naction = \"block\"\n"+
		"[[rule]]\ndomains = [\"direct.example\"]\naction = \"direct\"\n"), 0o600))
	for _, names := range []string{"", "first"} {
		t.Run("names "+names, func(t *testing.T) { embedded(t, phone, key, rules, names) })
	}
	for _, transport := range []string{"https", "quic"} {
		t.Run("not protected, "+transport, func(t *testing.T) { unprotected(t, phone, key, transport) })
	}
}

// unprotected has a client's own sockets captured: it says so, and they do not go round for ever.
func unprotected(t *testing.T, phone *netns.Host, key, transport string) {
	device, _ := makeTUN(t, phone)
	set, _ := json.Marshal(map[string]string{"Key": key, "Bare": transport})
	p := startRole(t, phone, "phone", "GODWIT_TEST_PHONE="+string(set), device)
	device.Close()
	var said string
	if p.read(t, &said); !strings.Contains(said, "came back by the TUN") {
		t.Errorf("it says %q", said)
	}
	p.end(t)
}

// makeTUN is the system's part: a TUN without offloads, its address, and the way there for all but marked sockets. command runs
// one on the phone.
func makeTUN(t *testing.T, phone *netns.Host) (device *os.File, command func(args ...string) string) {
	command = func(args ...string) string {
		t.Helper()
		var out bytes.Buffer
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdout, cmd.Stderr = &out, &out
		err := phone.Start(cmd)
		if err == nil {
			err = cmd.Wait()
		}
		if err != nil {
			t.Fatalf("%v: %v: %s", args, err, out.Bytes())
		}
		return out.String()
	}
	if err := phone.Do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		device = os.NewFile(uintptr(fd), "tun")
		req, err := unix.NewIfreq("tun0")
		if err != nil {
			return err
		}
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		return unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}); err != nil {
		t.Fatal(err)
	}
	command("ip", "addr", "add", phonePrefix.Addr().Next().String()+"/24", "dev", "tun0")
	command("ip", "link", "set", "tun0", "up")
	command("ip", "route", "add", "default", "dev", "tun0", "table", "100")
	command("ip", "rule", "add", "pref", "100", "not", "fwmark", fmt.Sprint(mark), "lookup", "100")
	t.Cleanup(func() { command("ip", "rule", "del", "pref", "100") })
	return device, command
}

func embedded(t *testing.T, phone *netns.Host, key, rules, names string) {
	device, command := makeTUN(t, phone)
	command("nft", fmt.Sprintf(`add table inet watch
add counter inet watch past
add counter inet watch loop
add chain inet watch out { type filter hook output priority 0; }
add rule inet watch out oifname "wan" meta mark != %d counter name past
add rule inet watch out oifname "tun0" ip daddr %s counter name loop`, mark, gatewayAddr))
	defer command("nft", "delete table inet watch")
	snapshot := func() string {
		all := command("ip", "rule") + command("ip", "route", "show", "table", "all") + command("ip", "-brief", "addr") +
			command("nft", "-s", "list", "ruleset") + command("cat", "/etc/resolv.conf")
		return all
	}
	before := snapshot()

	set, _ := json.Marshal(map[string]string{"Key": key, "Rules": rules, "Names": names})
	p := startRole(t, phone, "phone", "GODWIT_TEST_PHONE="+string(set), device)
	device.Close()
	var word string
	p.read(t, &word)

	// Programs on the phone.
	ask := func(name string) netip.Addr {
		t.Helper()
		var a *dns.Msg
		err := phone.DoApart(func() (err error) {
			// A resolver that is nobody's: whoever is asked, the client answers.
			c, err := net.Dial("udp", "192.0.2.53:53")
			if err != nil {
				return err
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(10 * time.Second))
			a, _, err = new(dns.Client).ExchangeWithConn(new(dns.Msg).SetQuestion(name+".", dns.TypeA), &dns.Conn{Conn: c})
			return err
		})
		if err != nil || len(a.Answer) != 1 {
			t.Fatalf("%s: %v, %v", name, a, err)
		}
		addr, _ := netip.AddrFromSlice(a.Answer[0].(*dns.A).A.To4())
		return addr
	}
	dial := func(network string, addr netip.Addr, port uint16) (c net.Conn, err error) {
		err = phone.DoApart(func() (err error) {
			c, err = net.DialTimeout(network, netip.AddrPortFrom(addr, port).String(), 10*time.Second)
			return err
		})
		if err == nil {
			c.SetDeadline(time.Now().Add(20 * time.Second))
			t.Cleanup(func() { c.Close() })
		}
		return c, err
	}
	site := ask("site.example")
	if synthetic := phoneFirst.Contains(site); synthetic != (names != "") || !synthetic && site.String() != siteAddr {
		t.Errorf("site.example is %v", site)
	}
	if a := ask("host.corp.example"); a.String() != "203.0.113.7" {
		t.Errorf("a name of a domain with a resolver of its own: %v", a)
	}
	carry := func() {
		t.Helper()
		c, err := dial("tcp", site, 443)
		if err != nil {
			t.Fatal(err)
		}
		want := make([]byte, 2<<20)
		rand.Read(want)
		go func() {
			c.Write(want)
			c.(*net.TCPConn).CloseWrite()
		}()
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
		}
		u, err := dial("udp", site, 4500)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 10000)
		for try := 0; ; try++ { // one may be lost
			u.Write(want[:9000])
			u.SetReadDeadline(time.Now().Add(2 * time.Second))
			n, err := u.Read(got)
			if err == nil && bytes.Equal(got[:n], want[:9000]) {
				return
			}
			if try == 3 {
				t.Fatalf("a datagram came back as %d bytes, %v", n, err)
			}
		}
	}
	carry()
	who := func(name string) string {
		t.Helper()
		c, err := dial("tcp", ask(name), 7)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		b, err := io.ReadAll(c)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return string(b)
	}
	if names == "" { // where two names have one address, rules cannot tell them apart
		if got := who("site.example"); got == phoneAddr {
			t.Errorf("it went past the tunnel")
		}
	} else {
		for name, want := range map[string]bool{"site.example": false, "direct.example": true, "other.example": false} {
			if got := who(name); (got == phoneAddr) != want {
				t.Errorf("%s: the site was asked by %s", name, got)
			}
		}
		if _, err := dial("tcp", ask("blocked.example"), 443); err == nil {
			t.Error("a name that a rule blocks is reached")
		}
		if _, err := dial("tcp", phoneFirst.Addr().Next(), 443); !errors.Is(err, syscall.EHOSTUNREACH) {
			t.Errorf("an address that stands for no name: %v", err)
		}
	}
	for _, what := range []string{"look", "network"} {
		fmt.Fprintln(p.in, what)
		var r phoneReport
		p.read(t, &r)
		if r.Unprotected != 0 || r.Protected == 0 || r.Connections == 0 || r.Links == 0 {
			t.Errorf("%s: %+v", what, r)
		}
	}
	carry()
	if after := snapshot(); after != before {
		t.Errorf("the client has touched the system.\nbefore:\n%s\nafter:\n%s", before, after)
	}
	for _, counter := range []string{"past", "loop"} {
		if out := command("nft", "list", "counter", "inet", "watch", counter); !strings.Contains(out, "packets 0 ") {
			t.Errorf("sockets that were not protected: %s", out)
		}
	}
	p.end(t)
}
