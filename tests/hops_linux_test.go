package e2e

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
)

const (
	behindAddr  = "192.0.2.200"
	behindAddr6 = "2001:db8:2::200"
)

// withBehind adds a host behind the world's, which is a router from then on; what is longer than 1400 bytes does not get past that.
func (w *world) withBehind() *host {
	w.t.Helper()
	behind := newHost(w.t, "behind")
	w.ip(w.world, fmt.Sprintf(`
		link add behind type veth peer name wan netns %s
		link set behind mtu 1400
		addr add 192.0.2.201/32 dev behind
		link set behind up
		route add %s/32 dev behind`, behind.name, behindAddr))
	w.ip(behind, fmt.Sprintf(`
		addr add %s/32 dev wan
		link set wan mtu 1400
		link set wan up
		route add 192.0.2.201/32 dev wan
		route add default via 192.0.2.201`, behindAddr))
	w.ip(w.gateway, fmt.Sprintf("route add %s/32 via %s", behindAddr, webAddr))
	forwarding := []string{"/proc/sys/net/ipv4/ip_forward"}
	if w.ipv6 {
		w.ip(w.world, fmt.Sprintf("addr add 2001:db8:2::201/128 dev behind nodad\nroute add %s/128 dev behind\nroute add default via 2001:db8:2::1", behindAddr6))
		w.ip(behind, fmt.Sprintf("addr add %s/128 dev wan nodad\nroute add 2001:db8:2::201/128 dev wan\nroute add default via 2001:db8:2::201", behindAddr6))
		w.ip(w.gateway, fmt.Sprintf("route add %s/128 via %s", behindAddr6, webAddr6))
		forwarding = append(forwarding, "/proc/sys/net/ipv6/conf/all/forwarding")
	}
	for _, name := range forwarding {
		if err := w.world.do(func() error { return os.WriteFile(name, []byte("1"), 0o644) }); err != nil {
			w.t.Fatal(err)
		}
	}
	return behind
}

// TestHops has traceroute see the routers beyond a gateway of sockets, and programs learn from one of those how long packets may be.
func TestHops(t *testing.T) {
	w, _ := withMachine(t)
	need(t, "traceroute")
	behind := w.withBehind()
	w.clientProcess = w.startClient(w.key, "--tun")
	for _, v := range []struct{ version, addr, gateway, router string }{
		{"4", behindAddr, "100.64.0.1", webAddr}, {"6", behindAddr6, "fd67:6f64:7769:7402::1", webAddr6},
	} {
		if v.version == "6" && !w.ipv6 {
			continue
		}
		behind.echoUDP(t, net.JoinHostPort(v.addr, fmt.Sprint(fidelityPort+7)))
		for _, how := range []string{"--module=default", "--module=icmp"} {
			code, out := run(t, w.client.command("traceroute", how, "-"+v.version, "-n", "-q", "1", "-w", "3", "-m", "5", v.addr))
			var hops []string
			for _, line := range strings.Split(out, "\n")[1:] {
				if f := strings.Fields(line); len(f) > 1 {
					hops = append(hops, f[1])
				}
			}
			if want := []string{v.gateway, v.router, v.addr}; code != 0 || !slices.Equal(hops, want) {
				t.Errorf("traceroute %s (%d) goes by %q, not %q:\n%s", how, code, hops, want, out)
			}
		}
		s := &seat{w, w.client, nil, v.addr, "", v.version}
		if saw := s.uncut(); saw != "EMSGSIZE" {
			t.Errorf("UDP that must not be cut, to %s: %s", v.addr, saw)
		}
		if code, out := run(t, w.client.command("ping", "-c", "1", "-W", "3", "-s", "20000", v.addr)); code != 0 {
			t.Errorf("a long ping of %s: %s", v.addr, out)
		}
	}
	// Nobody is there, says the router that should know.
	if code, out := run(t, w.client.command("ping", "-c", "4", "-W", "5", "192.0.2.99")); code == 0 || !strings.Contains(out, "Destination Host Unreachable") {
		t.Errorf("ping of nobody (%d): %s", code, out)
	}
}
