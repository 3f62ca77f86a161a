package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// ifup brings the machine's interface up, as programs do that know of network-pre.target, if the network is shut.
const ifup = `[Unit]
DefaultDependencies=no
After=network-pre.target
[Service]
Type=oneshot
ExecStart=nft list table inet godwit
ExecStart=ip link set wan up
`

// TestClientService boots systemd on a copy of this machine, and has the client be a service there: from install, which is
// without a network first, over a crash and a restart, to remove. The gateway is next to it.
func TestClientService(t *testing.T) {
	w, m := bootMachine(t, "godwit")
	newNameServer(t, w.client, "127.0.0.1", map[string][]dnsmessage.ResourceBody{
		"site.test.": {&dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}}}})
	w.client.files["/etc/resolv.conf"] = w.write("gateway.resolv.conf", "nameserver 127.0.0.1\n")
	gatewayDir := filepath.Join(w.dir, "gateway")
	endpoint := net.JoinHostPort(visitorAddr, gatewayPort)
	code, out := run(t, w.client.command(godwit(t), "gateway", "init", "--state-dir", gatewayDir, "--endpoint", endpoint, "--json"))
	var made struct{ Key string }
	if err := json.Unmarshal([]byte(out), &made); code != 0 || err != nil {
		t.Fatalf("gateway init ended with %d: %s", code, out)
	}
	w.start("gateway", w.client.command(godwit(t), "gateway", "run", "--state-dir", gatewayDir, "--listen", ":"+gatewayPort))
	resolv := func() string { return m.do("cat", "/etc/resolv.conf") }
	before := resolv() + m.do("nft", "list", "ruleset")
	shut := func(when string) {
		t.Helper()
		if table := m.do("nft", "list", "ruleset"); !strings.Contains(table, "table inet godwit") {
			t.Errorf("%s, the machine's network is open", when)
		}
	}
	connected := func(when string) {
		t.Helper()
		w.eventually("the service is connected "+when, m.process, 30*time.Second, func() error {
			if code, out := run(t, m.inside("godwit", "status", "--json")); code != 0 || !strings.Contains(out, `"state": "connected"`) {
				return fmt.Errorf("status ended with %d: %s", code, out)
			}
			return nil
		})
	}

	w.ip(m.host, "link set wan down")
	file := filepath.Join(w.dir, "key")
	if err := os.WriteFile(file, []byte(made.Key), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := m.do("godwit", "service", "install", "--wait", "1s", file); !strings.Contains(out, "Not up yet") {
		t.Errorf("without a network, install said:\n%s", out)
	}
	shut("before the network is there")
	if out := m.do("godwit", "status"); !strings.Contains(out, "shut until it is connected") {
		t.Errorf("without a network, status said:\n%s", out)
	}
	if out := m.do("godwit", "service", "status"); !strings.Contains(out, "network is shut") {
		t.Errorf("without a network, service status said:\n%s", out)
	}
	w.ip(m.host, "link set wan up")
	connected("when the network is there")
	m.confined("root", unix.CAP_NET_ADMIN)
	if !strings.Contains(resolv(), "Written by Godwit") {
		t.Errorf("resolv.conf is not Godwit's:\n%s", resolv())
	}
	if out := m.do("systemctl", "show", "--value", "--property=Wants,Before", "godwit"); strings.Count(out, "network-pre.target") != 2 {
		t.Errorf("it is not before network-pre.target: %s", out)
	}

	pid := m.show("MainPID")
	if out := m.do("godwit", "service", "install"); !strings.Contains(out, "runs already") || m.show("MainPID") != pid {
		t.Errorf("install again started it anew, or said:\n%s", out)
	}
	if code, out := run(t, m.inside("godwit", "up", "-", "--tun", "--state-dir", "/other", "--proxy", "127.0.0.1:0")); code == 0 {
		t.Errorf("a second one came up: %s", out)
	}

	if err := syscall.Kill(m.processes()[pid], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	shut("when it was killed")
	w.eventually("the service starts again when it was killed", m.process, 30*time.Second, func() error {
		shut("before it starts again")
		if m.show("NRestarts") != "1" || m.show("ActiveState") != "active" {
			return errors.New(m.show("ActiveState"))
		}
		return nil
	})
	m.do("godwit", "service", "install", "--lan=false", "--router") // which restarts it
	if !strings.Contains(m.show("ExecStart"), "--tun --lan=false --router") {
		t.Errorf("with --lan=false it is started with %s", m.show("ExecStart"))
	}
	connected("with other flags")

	m.do("systemctl", "stop", "godwit")
	if after := resolv() + m.do("nft", "list", "ruleset"); after != before {
		t.Errorf("once stopped the machine's network is not as it was.\nbefore:\n%s\nafter:\n%s", before, after)
	}
	// At boot, who brings the interface up finds the network shut, and is not kept waiting for more.
	w.ip(m.host, "link set wan down")
	if err := os.WriteFile(file, []byte(ifup), 0o644); err != nil {
		t.Fatal(err)
	}
	m.do("install", "-m", "644", file, "/etc/systemd/system/ifup.service")
	m.do("systemctl", "daemon-reload")
	m.do("systemctl", "stop", "network-pre.target")
	m.do("systemctl", "start", "godwit", "ifup")
	connected("once started with the network")
	// It ends for good: nobody asked it to, so nothing opens.
	m.do("mv", "/var/lib/godwit/client/profiles/default/key", "/root/key")
	if code, _ := run(t, m.inside("systemctl", "restart", "godwit")); code == 0 || m.show("ActiveState") != "failed" {
		t.Errorf("without its key the service is %s", m.show("ActiveState"))
	}
	shut("without its key")
	if code, out := run(t, m.inside("godwit", "status")); code != 3 || !strings.Contains(out, "network is shut") {
		t.Errorf("without its key, status ended with %d: %s", code, out)
	}
	if code, out := run(t, m.inside("godwit", "service", "status")); code != 3 || !strings.Contains(out, "shut: ") {
		t.Errorf("without its key, service status ended with %d: %s", code, out)
	}
	m.do("mv", "/root/key", "/var/lib/godwit/client/profiles/default/key")
	m.do("godwit", "service", "remove")
	if after := resolv() + m.do("nft", "list", "ruleset"); after != before {
		t.Errorf("once removed the machine's network is not as it was.\nbefore:\n%s\nafter:\n%s", before, after)
	}
	m.do("test", "!", "-e", "/etc/systemd/system/godwit.service")
	if mode := strings.TrimSpace(m.do("stat", "-c", "%a %U", "/var/lib/godwit/client/profiles/default/key")); mode != "600 root" {
		t.Errorf("the key is kept as %s", mode)
	}
	m.do("godwit", "service", "remove", "--purge")
	m.do("test", "!", "-e", "/var/lib/godwit/client")

	t.Run("resolved", func(t *testing.T) {
		if err := os.WriteFile(file, []byte(made.Key), 0o600); err != nil {
			t.Fatal(err)
		}
		resolved(t, w, m, file, connected)
	})
	m.do("journalctl", "--sync")
	journal := m.do("journalctl", "--no-pager", "--unit=godwit")
	if n := strings.Count(journal, "stays shut until the service is there again"); n != 2 {
		t.Errorf("the journal tells %d times, not twice, that the network stays shut for a restart", n)
	}
	for _, text := range []string{visitorAddr, made.Key, "DATA RACE", "\ngoroutine "} {
		if strings.Contains(journal, text) {
			t.Errorf("the journal has %q in it", text)
		}
	}
	if t.Failed() {
		t.Logf("the journal:\n%s", journal)
	}
}
