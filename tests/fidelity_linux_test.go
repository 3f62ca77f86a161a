package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
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
