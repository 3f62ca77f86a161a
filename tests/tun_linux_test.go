package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/netns/netnstest"
)

// A snapshot is all that godwit may change of a machine's network.
func (w *world) snapshot() string {
	w.t.Helper()
	var b strings.Builder
	for _, args := range [][]string{{"ip", "rule"}, {"ip", "-6", "rule"}, {"ip", "route", "show", "table", "all"},
		{"ip", "-6", "route", "show", "table", "all"}, {"ip", "-brief", "link"}, {"nft", "list", "ruleset"},
		{"cat", "/etc/resolv.conf", "/proc/sys/net/ipv4/conf/all/rp_filter", "/proc/sys/net/ipv4/conf/all/src_valid_mark",
			"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/conf/all/arp_ignore"}} {
		fmt.Fprintf(&b, "# %s\n%s", strings.Join(args, " "), w.client.run(w.t, "", args[0], args[1:]...))
	}
	return b.String()
}

// withMachine is a world whose client's machine can be captured, and what its network is before.
func withMachine(t *testing.T) (w *world, before string) {
	t.Helper()
	netnstest.NeedTUN(t)
	need(t, "curl", "ping")
	w = withGateway(t)
	if err := w.gateway.do(func() error { // as systems with systemd have it
		return os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 0"), 0o644)
	}); err != nil {
		t.Fatal(err)
	}
	lib := filepath.Join(w.dir, "lib")
	if err := os.Mkdir(lib, 0o755); err != nil {
		t.Fatal(err)
	}
	w.client.files["/var/lib"] = lib
	return w, w.snapshot()
}

// fetch gets a page without a proxy, as if there were no tunnel.
func (w *world) fetch(url string) error {
	code, out := w.curl("--max-time", "10", url)
	if code != 0 || !strings.HasPrefix(out, "hello over") {
		return fmt.Errorf("curl %s ended with %d: %s", url, code, out)
	}
	return nil
}

// TestMachine carries all of a machine's traffic, and gives the machine its network back.
func TestMachine(t *testing.T) {
	w, before := withMachine(t)
	w.clientProcess = w.startClient(w.key, "--tun")
	urls := []string{"http://site.test/hello", "https://site.test/hello", "https://" + webAddr + "/hello", "https://v4.test/hello"}
	if w.ipv6 {
		urls = append(urls, "https://v6.test/hello", "https://["+webAddr6+"]/hello")
	}
	for _, url := range urls {
		if err := w.fetch(url); err != nil {
			t.Error(err)
		}
	}
	if code, out := w.curl("--max-time", "10", "http://nowhere.test/"); code != 6 {
		t.Errorf("a name that does not exist: curl ended with %d, and it should be 6: %s", code, out)
	}
	began := time.Now()
	if _, err := w.client.dial(net.JoinHostPort(webAddr, "1")); !errors.Is(err, syscall.ECONNREFUSED) || time.Since(began) > 3*time.Second {
		t.Errorf("a port that nobody listens on: %v after %v", err, time.Since(began))
	}
	if code, out := run(t, w.client.command("ping", "-c", "2", "-i", "0.2", "-W", "5", webAddr)); code != 0 {
		t.Errorf("ping: %s", out)
	}
	w.udpEcho(9000)
	w.udpEcho(65507)
	if seen := w.leaks(); seen != nil {
		t.Errorf("past the tunnel: %q", seen)
	}
	if code, out := w.clientCommand("status"); code != 0 || !strings.Contains(out, "machine") {
		t.Errorf("status says nothing of the machine (%d):\n%s", code, out)
	}
	// There is one network to a machine. Another user's, or another profile's, finds it taken.
	other := filepath.Join(w.dir, "other")
	code, out := run(t, w.client.command(godwit(t), "up", "--tun", "--proxy", "127.0.0.1:0", "--state-dir", other, w.key))
	if pid := fmt.Sprintf("process %d ", w.clientProcess.cmd.Process.Pid); code != 1 || !strings.Contains(out, pid+"holds") ||
		!strings.Contains(out, "godwit down") {
		t.Errorf("a second one, beside %s, ended with %d: %s", pid, code, out)
	}
	if code, out := run(t, w.client.command(godwit(t), "status", "--state-dir", other)); code != 3 ||
		!strings.Contains(out, "carries this machine's traffic") {
		t.Errorf("status, of one that is not up, ended with %d: %s", code, out)
	}
	// What is open when the tunnel ends must not go on past it.
	open := map[string]net.Conn{}
	hosts := []string{webAddr}
	if w.ipv6 {
		hosts = append(hosts, webAddr6)
	}
	for _, network := range []string{"tcp", "udp"} {
		for _, host := range hosts {
			at := net.JoinHostPort(host, "80")
			var conn net.Conn
			if err := w.client.do(func() (err error) {
				conn, err = net.Dial(network, at)
				return err
			}); err != nil {
				t.Fatal(err)
			}
			open[network+" "+at] = conn
		}
	}
	if code, out := w.clientCommand("down"); code != 0 {
		t.Fatalf("down: %s", out)
	}
	for what, conn := range open {
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		// The client may have reset it before the kernel was told to.
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNABORTED) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s, when the tunnel ended: %v, and it should be aborted", what, err)
		}
		_ = conn.Close()
	}
	if after := w.snapshot(); after != before {
		t.Errorf("the machine's network is not as it was.\nbefore:\n%s\nafter:\n%s", before, after)
	}
}

// TestMachineNames answers programs with addresses that stand for names.
func TestMachineNames(t *testing.T) {
	w, before := withMachine(t)
	w.clientProcess = w.startClient(w.key, "--tun", "--names-first", "--split-dns", "v4.test="+dnsAddr)
	for url, synthetic := range map[string]bool{"http://site.test/hello": true, "https://site.test/hello": true,
		"https://v4.test/hello": false, "https://" + webAddr + "/hello": false} {
		code, out := w.curl("--max-time", "10", "--write-out", "\n%{remote_ip}", url)
		page, at, _ := strings.Cut(out, "\n")
		a, err := netip.ParseAddr(strings.TrimSpace(at[strings.LastIndexByte(at, '\n')+1:]))
		if code != 0 || !strings.HasPrefix(page, "hello over") || err != nil {
			t.Errorf("%s: curl ended with %d: %s", url, code, out)
			continue
		}
		stands := netip.MustParsePrefix("198.19.0.0/16").Contains(a) || netip.MustParsePrefix("fd67:6f64:7769:7401::/64").Contains(a)
		if stands != synthetic {
			t.Errorf("%s is at %v", url, a)
		}
	}
	if code, out := run(t, w.client.command("ping", "-4", "-c", "2", "-i", "0.2", "-W", "5", "site.test")); code != 0 {
		t.Errorf("ping: %s", out)
	}
	if code, out := w.curl("--max-time", "10", "http://nowhere.test/"); code == 0 || code == 28 {
		t.Errorf("a name that does not exist: curl ended with %d: %s", code, out)
	}
	if seen := w.leaks(); seen != nil {
		t.Errorf("past the tunnel: %q", seen)
	}
	if code, out := w.clientCommand("down"); code != 0 {
		t.Fatalf("down: %s", out)
	}
	if after := w.snapshot(); after != before {
		t.Errorf("the machine's network is not as it was.\nbefore:\n%s\nafter:\n%s", before, after)
	}
}

// udpEcho sends a datagram there and back.
func (w *world) udpEcho(size int) {
	w.t.Helper()
	server := w.world.echoUDP(w.t, net.JoinHostPort(webAddr, "0"))
	c := w.client.listenUDP(w.t, ":0")
	want := []byte(strings.Repeat("x", size))
	b := make([]byte, 1<<16)
	for try := 0; ; try++ { // it may be lost
		if _, err := c.WriteTo(want, server); err != nil {
			w.t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
		n, from, err := c.ReadFrom(b)
		if err == nil {
			if n != size || from.String() != server.String() {
				w.t.Errorf("%d bytes came back as %d from %v", size, n, from)
			}
			return
		}
		if try == 3 {
			w.t.Fatalf("a datagram of %d bytes does not come back: %v", size, err)
		}
	}
}

// TestMachineDies kills the client: nothing goes past where it was, until it is there again, or is asked to be undone.
func TestMachineDies(t *testing.T) {
	w, before := withMachine(t)
	kill := func(p *process) {
		t.Helper()
		p.stop(syscall.SIGKILL, 5*time.Second)
	}
	p := w.startClient(w.key, "--tun")
	kill(p)
	if code, out := w.clientCommand("status"); code != 3 || !strings.Contains(out, "network is shut") ||
		!strings.Contains(out, "godwit rescue") {
		t.Errorf("status of one that was killed ended with %d: %s", code, out)
	}
	tries := func() {
		t.Helper()
		for _, url := range []string{"http://site.test/hello", "http://" + webAddr + "/hello"} {
			if code, out := w.curl("--max-time", "2", url); code == 0 {
				t.Errorf("%s came without a tunnel: %s", url, out)
			}
		}
		_, _ = run(t, w.client.command("ping", "-c", "1", "-W", "1", webAddr))
		if seen := w.leaks(); seen != nil {
			t.Errorf("past the tunnel: %q", seen)
		}
	}
	tries()
	// The way to an address of the world's appears in the main table, as by a DHCP server's option 121.
	w.ip(w.client, "route add 192.0.2.0/25 via "+middleAddr)
	tries()
	w.ip(w.client, "route del 192.0.2.0/25 via "+middleAddr)

	p = w.startClient(w.key, "--tun")
	if err := w.fetch("http://site.test/hello"); err != nil {
		t.Errorf("after it was killed and started again: %v", err)
	}
	kill(p)
	if code, out := run(t, w.client.command(godwit(t), "rescue")); code != 0 {
		t.Fatalf("rescue: %s", out)
	}
	if after := w.snapshot(); after != before {
		t.Errorf("the machine's network is not as it was.\nbefore:\n%s\nafter:\n%s", before, after)
	}
}
