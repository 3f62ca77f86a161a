package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

const containerAddr = "172.17.0.2"

// TestContainers carries what the machine forwards for containers, as Docker has it do: nobody has said --router.
func TestContainers(t *testing.T) {
	w, _ := withMachine(t)
	container := newHost(t, "container")
	w.ip(w.client, fmt.Sprintf(`
		link add docker0 type bridge
		addr add 172.17.0.1/16 dev docker0
		link set docker0 up
		link add veth0 type veth peer name eth0 netns %s
		link set veth0 master docker0
		link set veth0 up`, container.name))
	w.ip(container, `
		addr add `+containerAddr+`/16 dev eth0
		link set eth0 up
		route add default via 172.17.0.1`)
	if err := w.client.do(func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644) }); err != nil {
		t.Fatal(err)
	}
	w.client.run(t, `table ip docker {
		chain forward {
			type filter hook forward priority 0; policy drop;
			iifname docker0 accept
			oifname docker0 ct state established,related accept
		}
		chain postrouting { type nat hook postrouting priority 100; ip saddr 172.17.0.0/16 oifname != docker0 masquerade; }
	}`, "nft", "-f", "-")
	container.files["/etc/resolv.conf"] = w.client.files["/etc/resolv.conf"] // the network's, which it asked before the tunnel
	container.files["/etc/hosts"] = w.client.files["/etc/hosts"]
	get := func() (int, string) {
		return run(t, container.command("curl", "-sS", "--max-time", "5", "http://site.test/hello"))
	}
	w.clientProcess = w.startClient(w.key, "--tun")
	if code, out := get(); code != 0 || !strings.HasPrefix(out, "hello over") {
		t.Errorf("a container's curl ended with %d: %s", code, out)
	}
	w.clientProcess.stop(syscall.SIGKILL, 5*time.Second)
	if code, out := get(); code == 0 {
		t.Errorf("with the client killed, a container's curl got %s", out)
	}
	if seen := w.leaks(); seen != nil {
		t.Errorf("past the tunnel: %q", seen)
	}
}
