package e2e

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fidelityDoc is where the table is that TestFidelity keeps true.
const fidelityDoc = "../docs/fidelity.md"

// A seat is where a program sits: on a host from which the world is reached directly, or by the tunnel.
type seat struct {
	w    *world
	host *host
	far  *far
	// addr is the world's host, of the IP version that is looked at, nobody an address of its network that nobody has, and
	// version 4 or 6.
	addr, nobody string
	version      string
}

// A behaviour is something that programs rely on. It says in a few words what a program saw.
type behaviour struct {
	name string
	see  func(s *seat) string
	// other is what is seen through the tunnel where it is not what is seen directly, and why is why.
	other, why string
}

var behaviours = []behaviour{
	{name: "connect, nobody listens", see: func(s *seat) string { return s.connect(s.at(1)) }},
	{name: "connect, no such host", see: func(s *seat) string { return s.connect(net.JoinHostPort(s.nobody, "7")) }},
	{name: "connect, swallowed by a firewall", see: func(s *seat) string { return s.connect(s.at(2)) }},
	{name: "connect, prohibited by a firewall", see: func(s *seat) string { return s.connect(s.at(3)) }},
	{name: "50 ports knocked at, six open", see: (*seat).scan},
	{name: "5 MB there and back", see: func(s *seat) string { return s.echo(5 << 20) }},
	{name: "we end our half first", see: func(s *seat) string { return s.echo(10) }},
	{name: "they end theirs first, we go on", see: func(s *seat) string { return s.goOn(11) }},
	{name: "they reset in mid-stream", see: func(s *seat) string { return s.untilEnd(9) }},
	{name: "they close with our bytes unread", see: func(s *seat) string { return s.untilEnd(15) }},
	{name: "we reset in mid-stream", see: func(s *seat) string { return s.reset(13) }},
	{name: "urgent data", see: func(s *seat) string { return s.urgent(17) }},
	{name: "TCP Fast Open", see: (*seat).fastOpen},
	{name: "1000 short connections, 32 at once", see: (*seat).short},
	{name: "a name whose IPv6 address is swallowed (Happy Eyeballs)", see: (*seat).eyeballs},
	{name: "UDP of 0 to 65,507 bytes there and back", see: (*seat).datagrams},
	{name: "UDP, nobody listens", see: func(s *seat) string { return s.refusedUDP(s.at(1)) }},
	{name: "UDP, no such host", see: func(s *seat) string { return s.refusedUDP(net.JoinHostPort(s.nobody, "7")) }},
	{name: "two peers see one port of ours", see: (*seat).mapping},
	{name: "a call: 50 datagrams a second both ways", see: (*seat).call},
	{name: "QUIC, 1 MB there and back", see: (*seat).quic},
	{name: "ping", see: func(s *seat) string { return s.ping("-s", "56") }},
	{name: "ping of 20,000 bytes", see: func(s *seat) string { return s.ping("-s", "20000") }},
	{name: "dig: an address, a long answer, none", see: (*seat).dig},
}

// Those that are looked at when the way to the world takes packets of no more than 1400 bytes.
var narrowBehaviours = []behaviour{
	{name: "5 MB there and back where packets may have 1400 bytes", see: func(s *seat) string { return s.echo(5 << 20) }},
	{name: "UDP of 1472 bytes that must not be cut, there", see: (*seat).uncut},
}

// TestFidelity has programs do the same directly and through the tunnel, and compares what they see. The table in
// docs/fidelity.md is what it saw.
func TestFidelity(t *testing.T) {
	w, _ := withMachine(t)
	need(t, "dig")
	w.clientProcess = w.startClient(w.key, "--tun")
	// A connection that nobody answers is given up after 7 s rather than after two minutes.
	for _, h := range []*host{w.client, w.gateway} {
		if err := h.do(func() error {
			return os.WriteFile("/proc/sys/net/ipv4/tcp_syn_retries", []byte("2"), 0o644)
		}); err != nil {
			t.Fatal(err)
		}
	}
	w.world.run(t, `table inet fidelity { chain in { type filter hook input priority 0;
		tcp dport 2 drop; tcp dport 3 reject with icmpx admin-prohibited; ip6 daddr `+eyeballsAddr6+` drop; }; }`, "nft", "-f", "-")
	f := newFar(w)
	var direct, tunnel []*seat
	for _, v := range []struct{ version, addr, nobody string }{{"4", webAddr, "192.0.2.99"}, {"6", webAddr6, "2001:db8:2::99"}} {
		if v.version == "4" || w.ipv6 {
			direct = append(direct, &seat{w, w.gateway, f, v.addr, v.nobody, v.version})
			tunnel = append(tunnel, &seat{w, w.client, f, v.addr, v.nobody, v.version})
		}
	}
	table := compare(t, behaviours, direct, tunnel)
	w.ip(w.gateway, "link set world mtu 1400")
	w.ip(w.world, "link set wan mtu 1400")
	table += compare(t, narrowBehaviours, direct, tunnel)
	if t.Failed() || !w.ipv6 {
		return
	}
	doc, err := os.ReadFile(fidelityDoc)
	if err != nil {
		t.Fatal(err)
	}
	before, after, ok := bytes.Cut(doc, []byte("| --- | --- | --- |\n"))
	if !ok {
		t.Fatalf("%s has no table", fidelityDoc)
	}
	old, after, _ := bytes.Cut(after, []byte("\n\n"))
	if string(old)+"\n" == table {
		return
	}
	if !*update {
		t.Fatalf("%s says something else; with -update it will say:\n%s", fidelityDoc, table)
	}
	text := fmt.Sprintf("%s| --- | --- | --- |\n%s\n%s", before, table, after)
	if err := os.WriteFile(fidelityDoc, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// compare looks at each behaviour from every seat, all at once, and returns the table's rows.
func compare(t *testing.T, all []behaviour, direct, tunnel []*seat) string {
	t.Helper()
	rows := make([]string, len(all))
	var wg sync.WaitGroup
	for i, b := range all {
		wg.Go(func() {
			seen := func(seats []*seat) (words string) {
				saw := make([]string, len(seats))
				var wg sync.WaitGroup
				for i, s := range seats {
					wg.Go(func() { saw[i] = b.see(s) })
				}
				wg.Wait()
				if len(saw) == 2 && saw[0] != saw[1] {
					return fmt.Sprintf("IPv4: %s; IPv6: %s", saw[0], saw[1])
				}
				return saw[0]
			}
			saw := make(chan string, 1)
			go func() { saw <- seen(direct) }()
			is := seen(tunnel)
			was := <-saw
			want, cell := was, is
			if b.other != "" {
				want = b.other
			}
			if is != want {
				t.Errorf("%s: directly %q, through the tunnel %q, and it should be %q", b.name, was, is, want)
			}
			if is == was {
				cell = "the same"
			} else if b.why != "" {
				cell = is + ": " + b.why
			}
			rows[i] = fmt.Sprintf("| %s | %s | %s |\n", b.name, was, cell)
		})
	}
	wg.Wait()
	return strings.Join(rows, "")
}

// at is a port of the world's host.
func (s *seat) at(port int) string { return net.JoinHostPort(s.addr, fmt.Sprint(port)) }

// dial connects, by TCP or UDP.
func (s *seat) dial(network, address string) (conn net.Conn, err error) {
	err = s.host.do(func() error {
		conn, err = net.DialTimeout(network, address, 10*time.Second)
		return err
	})
	if err == nil {
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	}
	return conn, err
}

// name is how an error is called.
func name(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return "the end"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "nothing"
	}
	return err.Error()
}

func (s *seat) connect(address string) string {
	conn, err := s.dial("tcp", address)
	if err != nil {
		return name(err)
	}
	_ = conn.Close()
	return "connected"
}

func (s *seat) scan() string {
	count := map[string]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			saw := s.connect(s.at(fidelityPort + 7 - 25 + i))
			mu.Lock()
			defer mu.Unlock()
			count[saw]++
		})
	}
	wg.Wait()
	return strings.TrimPrefix(fmt.Sprint(count), "map")
}

// echo sends that much, ends its half, and reads what comes back.
func (s *seat) echo(n int) string {
	conn, err := s.dial("tcp", s.at(fidelityPort+7))
	if err != nil {
		return name(err)
	}
	defer conn.Close()
	return bounce(conn, n, conn.(*net.TCPConn).CloseWrite)
}

// bounce sends n bytes, ends, and compares what comes back with what went.
func bounce(conn io.ReadWriter, n int, end func() error) string {
	want := make([]byte, n)
	_, _ = rand.Read(want)
	go func() {
		_, _ = conn.Write(want)
		_ = end()
	}()
	got, err := io.ReadAll(conn)
	if err != nil {
		return name(err)
	}
	if !bytes.Equal(got, want) {
		return fmt.Sprintf("%d bytes, and not those", len(got))
	}
	return "all came back"
}

func (s *seat) goOn(port int) string {
	conn, id, err := s.known(port)
	if err != nil {
		return name(err)
	}
	defer conn.Close()
	if b, err := io.ReadAll(conn); err != nil || string(b) != "bye" {
		return fmt.Sprintf("%q, %s", b, name(err))
	}
	_, _ = conn.Write(make([]byte, 1000))
	_ = conn.CloseWrite()
	return s.far.said(id)
}

// untilEnd sends something and reads until it ends.
func (s *seat) untilEnd(port int) string {
	conn, _, err := s.known(port)
	if err != nil {
		return name(err)
	}
	defer conn.Close()
	_, _ = conn.Write(make([]byte, 20))
	_, err = io.Copy(io.Discard, conn)
	return name(err)
}

func (s *seat) reset(port int) string {
	conn, id, err := s.known(port)
	if err != nil {
		return name(err)
	}
	_, _ = io.ReadFull(conn, make([]byte, 1)) // what was sent before may not come
	_ = conn.SetLinger(0)
	_ = conn.Close()
	return s.far.said(id)
}

func (s *seat) urgent(port int) string {
	conn, id, err := s.known(port)
	if err != nil {
		return name(err)
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return name(err)
	}
	_, _ = conn.Write([]byte("be"))
	time.Sleep(100 * time.Millisecond) // they read it before
	_ = raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), []byte("X"), unix.MSG_OOB, nil) })
	if err != nil {
		return name(err)
	}
	_, _ = conn.Write([]byte("hind"))
	_ = conn.CloseWrite()
	return s.far.said(id)
}

// known connects to a port where the far side tells afterwards what it saw.
func (s *seat) known(port int) (*net.TCPConn, string, error) {
	conn, err := s.dial("tcp", s.at(fidelityPort+port))
	if err != nil {
		return nil, "", err
	}
	id := make([]byte, idLength)
	_, _ = rand.Read(id)
	_, err = conn.Write(id)
	return conn.(*net.TCPConn), string(id), err
}

func (s *seat) fastOpen() (saw string) {
	err := s.host.do(func() error {
		d := net.Dialer{Timeout: 10 * time.Second, Control: func(_, _ string, c syscall.RawConn) (err error) {
			return errors.Join(c.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1)
			}), err)
		}}
		conn, err := d.Dial("tcp", s.at(fidelityPort+7))
		if err != nil {
			return err
		}
		defer conn.Close()
		saw = bounce(conn, 1000, conn.(*net.TCPConn).CloseWrite)
		return nil
	})
	if err != nil {
		return name(err)
	}
	return saw
}

func (s *seat) short() string {
	var failed atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range 32 {
		wg.Go(func() {
			_ = s.host.do(func() error {
				for range 1000 / 32 {
					conn, err := net.DialTimeout("tcp", s.at(fidelityPort+7), 10*time.Second)
					if err != nil {
						failed.Add(1)
						continue
					}
					b := []byte("hello")
					_, _ = conn.Write(b)
					_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
					if _, err := io.ReadFull(conn, b); err != nil {
						failed.Add(1)
					}
					_ = conn.Close()
				}
				return nil
			})
		})
	}
	wg.Wait()
	s.w.t.Logf("%s, IPv%s: %.0f short connections a second, beside all else", s.host.name, s.version, 992/time.Since(began).Seconds())
	return fmt.Sprintf("%d failed", failed.Load())
}

// eyeballs has curl fetch from a name one of whose addresses nobody answers at.
func (s *seat) eyeballs() string {
	began := time.Now()
	code, out := run(s.w.t, s.host.command("curl", "--silent", "--show-error", "--max-time", "10", "http://eyeballs.test/hello"))
	if code != 0 || !strings.HasPrefix(out, "hello over") {
		return fmt.Sprintf("curl ended with %d: %s", code, out)
	}
	if time.Since(began) > 5*time.Second {
		return "the page, late"
	}
	return "the page"
}

func (s *seat) datagrams() string {
	conn, err := s.dial("udp", s.at(fidelityPort+7))
	if err != nil {
		return name(err)
	}
	defer conn.Close()
	for _, n := range []int{0, 1, 1472, 1473, 9000, 65507} {
		if saw := datagram(conn, n, 5); saw != "came back" {
			return fmt.Sprintf("%d bytes: %s", n, saw)
		}
	}
	return "all came back"
}

// datagram sends one, again for so many times as nothing comes, and waits for its return.
func datagram(conn net.Conn, n, tries int) string {
	want := make([]byte, n)
	_, _ = rand.Read(want)
	got := make([]byte, 1<<16)
	for range tries {
		if _, err := conn.Write(want); err != nil {
			return name(err)
		}
		for {
			_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
			k, err := conn.Read(got)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return name(err)
			}
			if bytes.Equal(got[:k], want) {
				return "came back"
			}
		}
	}
	return "nothing"
}

func (s *seat) refusedUDP(address string) string {
	conn, err := s.dial("udp", address)
	if err != nil {
		return name(err)
	}
	defer conn.Close()
	return datagram(conn, 10, 2)
}

// mapping asks two ports of the world's whom they see.
func (s *seat) mapping() string {
	c := s.host.listenUDP(s.w.t, ":0")
	saw := map[string]bool{}
	for _, port := range []int{19, 20} {
		to, err := net.ResolveUDPAddr("udp", s.at(fidelityPort+port))
		if err != nil {
			return name(err)
		}
		b := make([]byte, 100)
		n := 0
		for try := 0; n == 0 && try < 5; try++ {
			_, _ = c.WriteTo([]byte("who am I?"), to)
			_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
			n, _, _ = c.ReadFrom(b)
		}
		saw[string(b[:n])] = true
	}
	return fmt.Sprintf("%d seen", len(saw))
}

func (s *seat) call() string {
	conn, err := s.dial("udp", s.at(fidelityPort+7))
	if err != nil {
		return name(err)
	}
	defer conn.Close()
	const packets = 50
	go func() {
		b := make([]byte, 160)
		for i := range packets {
			b[0] = byte(i)
			_, _ = conn.Write(b)
			time.Sleep(20 * time.Millisecond)
		}
	}()
	came := map[byte]bool{}
	b := make([]byte, 1<<10)
	for len(came) < packets {
		_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
		if _, err := conn.Read(b); err != nil {
			break
		}
		came[b[0]] = true
	}
	if len(came) < packets*9/10 { // it may be lost, on a busy machine
		return fmt.Sprintf("%d of %d came back", len(came), packets)
	}
	return "carried"
}

func (s *seat) ping(args ...string) string {
	args = append([]string{"-" + s.version, "-c", "2", "-i", "0.2", "-W", "5"}, args...)
	code, out := run(s.w.t, s.host.command("ping", append(args, s.addr)...))
	if code != 0 {
		return out
	}
	return "answered"
}

// dig asks a resolver of the world's. On a busy machine an answer may be late, and then is none.
func (s *seat) dig() (saw string) {
	for range 3 {
		if saw = s.digOnce(); saw == "NOERROR 5, NOERROR 5, NOERROR 8, NOERROR 5, NXDOMAIN 0" {
			return "answered"
		}
	}
	return saw
}

func (s *seat) digOnce() string {
	var all []string
	for _, ask := range [][]string{{"site.test", "A"}, {"site.test", "AAAA"}, {"big.test", "TXT"}, {"+tcp", "site.test", "A"}, {"nowhere.test", "A"}} {
		args := append([]string{"@" + dnsAddr, "+noall", "+comments", "+answer", "+tries=3", "+time=5"}, ask...)
		_, out := run(s.w.t, s.host.command("dig", args...))
		status, answer := "", 0
		for line := range strings.Lines(out) {
			if _, after, ok := strings.Cut(line, "status: "); ok {
				status, _, _ = strings.Cut(after, ",")
			} else if !strings.HasPrefix(line, ";") {
				answer += len(strings.Fields(line))
			}
		}
		all = append(all, fmt.Sprintf("%s %d", status, answer))
	}
	return strings.Join(all, ", ")
}

// uncut sends a datagram that routers must not cut.
func (s *seat) uncut() string {
	conn, err := s.dial("udp", s.at(fidelityPort+7))
	if err != nil {
		return name(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.UDPConn).SyscallConn()
	if err != nil {
		return name(err)
	}
	level, option, do := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO
	if s.version == "6" {
		level, option, do = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO
	}
	_ = raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, do) })
	if err != nil {
		return name(err)
	}
	n := 1472
	if s.version == "6" {
		n = 1452
	}
	return datagram(conn, n, 5)
}
