package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// nearAddr is the middle's, which the gateway refuses to go to: whoever has an answer from there went past the tunnel.
const nearAddr = "203.0.113.1"

// TestMachineSplit sends past the tunnel what rules about names, users and control groups say, and asks a network's own resolver
// about its own names only.
func TestMachineSplit(t *testing.T) {
	if ids, err := os.ReadFile("/proc/self/uid_map"); err != nil || strings.HasSuffix(string(ids), " 1\n") {
		t.Skip("needs root, who can become another user: sudo make test")
	}
	need(t, "bash", "setpriv")
	w, _ := withMachine(t)
	if err := w.client.do(func() error { return os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 0"), 0o644) }); err != nil {
		t.Fatal(err)
	}
	near := &dnsmessage.AResource{A: [4]byte{203, 0, 113, 1}}
	w.dns.learn("past.test.", near)
	office := newNameServer(t, w.middle, nearAddr, nil)
	office.learn("host.corp.test.", near)
	w.spy.learn("host.home.test.", near)
	port := w.serveWho(nearAddr)
	rules := filepath.Join(w.clientDir(), "rules.toml")
	if err := os.MkdirAll(w.clientDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(format string, args ...any) {
		t.Helper()
		if err := os.WriteFile(rules, fmt.Appendf(nil, format, args...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`
[[rule]]
users = ["4321"]
action = "block"
[[rule]]
users = ["1234"]
cidrs = ["%s"]
action = "direct"
[[rule]]
domains = ["past.test", "corp.test", "home.test"]
action = "direct"
`, nearAddr)

	w.clientProcess = w.startClient(w.key, "--tun", "--names-first", "--split-dns", "corp.test=direct:"+nearAddr,
		"--split-dns", "home.test=direct:network")
	// who asks the middle who it is that asks, by TCP or UDP.
	who := func(proto, host, user, group string) string {
		t.Helper()
		cmd := w.client.command("setpriv", "--reuid="+user, "--clear-groups", "bash", "-c",
			// To IPv4, which is all that the middle has: names that come first have addresses of both.
			`a=$(getent ahostsv4 $1) && exec 3<>/dev/$0/${a%% *}/$2 && for i in 1 2; do echo who >&3; timeout 1 head -n 1 <&3 && break; done`, proto, host, port)
		if group != "" {
			dir, err := os.Open(group)
			if err != nil {
				t.Fatal(err)
			}
			defer dir.Close()
			cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
		}
		out, _ := cmd.Output()
		return strings.TrimSpace(string(out))
	}
	const us, nobody = "198.51.100.2", ""
	throughProxy := func(user string) string {
		_, out := run(t, w.client.command("setpriv", "--reuid="+user, "--clear-groups", "curl", "-s", "--http0.9", "--max-time", "5", "--proxy",
			"socks5h://"+proxyAddr, "http://"+net.JoinHostPort(nearAddr, port)))
		return strings.TrimSpace(out)
	}
	if got := throughProxy("1234"); got != us {
		t.Errorf("by the proxy, of user 1234: asked by %q", got)
	}
	if got := throughProxy("0"); got != nobody {
		t.Errorf("by the proxy, of user 0: asked by %q", got)
	}
	for _, c := range []struct{ host, user, want string }{
		{nearAddr, "0", nobody}, {nearAddr, "1234", us}, {nearAddr, "4321", nobody}, // before it is known to be a name's
		{"past.test", "0", us}, {"past.test", "4321", nobody}, {"host.corp.test", "0", us}, {"host.home.test", "0", us},
	} {
		for _, proto := range []string{"tcp", "udp"} {
			if got := who(proto, c.host, c.user, ""); got != c.want {
				t.Errorf("%s to %s of user %s: asked by %q, not %q", proto, c.host, c.user, got, c.want)
			}
		}
	}
	if code, out := run(t, w.client.command("ping", "-4", "-c", "2", "-i", "0.2", "-W", "5", "past.test")); code != 0 {
		t.Errorf("ping past the tunnel: %s", out)
	}
	if err := w.fetch("http://site.test/hello"); err != nil {
		t.Error(err)
	}
	if asked := office.names("."); slices.ContainsFunc(asked, func(n string) bool { return !strings.HasSuffix(n, ".corp.test.") }) {
		t.Errorf("the office's resolver was asked about %q", asked)
	}
	if asked := w.spy.names("."); slices.ContainsFunc(asked, func(n string) bool { return !strings.HasSuffix(n, ".home.test.") }) || asked == nil {
		t.Errorf("the network's resolver was asked about %q", asked)
	}

	// Rules that change count without a restart, and those with a mistake do not.
	write("[[rule]]\naction = 'x'\n")
	if code, out := w.clientCommand("rules", "reload"); code == 0 || !strings.Contains(out, "rules.toml:2") {
		t.Errorf("reload of a mistake ended with %d: %s", code, out)
	}
	if got := who("udp", nearAddr, "1234", ""); got != us {
		t.Errorf("after that, asked by %q", got)
	}
	write("[[rule]]\nusers = ['1234']\naction = 'block'\n")
	if code, out := w.clientCommand("rules", "reload"); code != 0 {
		t.Errorf("reload ended with %d: %s", code, out)
	}
	for _, proto := range []string{"tcp", "udp"} {
		if got := who(proto, nearAddr, "1234", ""); got != nobody {
			t.Errorf("%s: with other rules, asked by %q", proto, got)
		}
	}
	t.Run("cgroup", func(t *testing.T) {
		group := newCgroup(t)
		write("[[rule]]\ncgroups = ['%s']\naction = 'direct'\n", strings.TrimPrefix(group, cgroupMount(t)))
		if code, out := w.clientCommand("rules", "reload"); code != 0 {
			t.Errorf("reload ended with %d: %s", code, out)
		}
		for _, proto := range []string{"tcp", "udp"} {
			if in, out := who(proto, nearAddr, "0", group), who(proto, nearAddr, "0", ""); in != us || out != nobody {
				t.Errorf("%s: in the control group asked by %q, and outside by %q", proto, in, out)
			}
		}
	})
	write("[[rule]]\nusers = ['1234']\ncgroups = ['/x']\naction = 'block'\n")
	if code, out := run(t, exec.Command(godwit(t), "rules", "test", nearAddr, "--file", rules, "--user", "1234", "--cgroup", "/x")); code != 0 ||
		!strings.HasPrefix(out, "block") {
		t.Errorf("rules test ended with %d: %s", code, out)
	}

	w.spy.forget() // all of it was meant
	stray := strings.Join(w.leaks(), "")
	if strings.Count(stray, ".") != 3 || !strings.Contains(stray, nearAddr) {
		t.Errorf("past the tunnel: %s", stray)
	}
	w.nft("flush set inet watch strays4")
}

// serveWho answers at a port of the middle's, by TCP and UDP, with the address of who asks.
func (w *world) serveWho(addr string) (port string) {
	l := w.middle.listen(w.t, net.JoinHostPort(addr, "0"))
	_, port, _ = net.SplitHostPort(l.Addr().String())
	udp := w.middle.listenUDP(w.t, l.Addr().String())
	host := func(a net.Addr) []byte {
		h, _, _ := net.SplitHostPort(a.String())
		return []byte(h + "\n")
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 1000))
			_, _ = c.Write(host(c.RemoteAddr()))
			_ = c.Close()
		}
	}()
	go func() {
		for {
			_, from, err := udp.ReadFrom(make([]byte, 100))
			if err != nil {
				return
			}
			_, _ = udp.WriteTo(host(from), from)
		}
	}()
	return port
}
