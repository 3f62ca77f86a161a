package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestServiceUnderSystemd boots systemd on a copy of this machine, installs the gateway in it as docs/gateway.md says, and
// has systemctl do what it will be asked to.
func TestServiceUnderSystemd(t *testing.T) {
	w, m := bootMachine(t, "godwit-gateway")
	unit, err := filepath.Abs("../packaging/systemd/godwit-gateway.service")
	if err != nil {
		t.Fatal(err)
	}
	m.do("install", "-m", "644", unit, "/etc/systemd/system/")
	m.do("useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", "godwit")
	m.do("godwit", "gateway", "init", "--endpoint", w.endpoint)
	m.do("systemctl", "daemon-reload")

	m.do("systemctl", "enable", "--now", "godwit-gateway") // which waits until the gateway says that it is ready
	main := m.serves("start")
	if typ, sub := m.show("Type"), m.show("SubState"); typ != "notify" || sub != "running" {
		t.Errorf("the service is of type %s and %s, not notify and running", typ, sub)
	}
	m.confined("godwit", unix.CAP_NET_BIND_SERVICE)

	before := m.show("MainPID")
	m.do("systemctl", "reload", "godwit-gateway")
	next := m.serves("reload")
	if next == main {
		t.Errorf("after reload, process %s serves still", main)
	}
	if after := m.show("MainPID"); after != before {
		t.Errorf("with reload, the service's main process changed from %s to %s", before, after)
	}
	m.confined("godwit", unix.CAP_NET_BIND_SERVICE)

	// The main process only waits for the one that serves, by now. Without it there is nobody whom systemd could stop, so
	// both have to go, and systemd starts anew.
	if err := syscall.Kill(m.processes()[before], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.eventually("the service starts again when its main process was killed", m.process, 30*time.Second, func() error {
		if n, pid, state := m.show("NRestarts"), m.show("MainPID"), m.show("ActiveState"); n != "1" || pid == before ||
			state != "active" {
			return fmt.Errorf("%s restarts, main process %s, %s", n, pid, state)
		}
		return nil
	})
	before = m.serves("restart by itself")
	if _, left := m.processes()[next]; left {
		t.Errorf("process %s, which served before, is still there", next)
	}

	m.do("systemctl", "restart", "godwit-gateway")
	if after := m.serves("restart"); after == before {
		t.Errorf("restart left process %s", before)
	}

	// With one right more, the kernel carries packets.
	more, err := filepath.Abs("../packaging/systemd/godwit-gateway-packets.conf")
	if err != nil {
		t.Fatal(err)
	}
	network := func() string { return m.do("nft", "list", "ruleset") + m.do("sysctl", "net.ipv4.ip_forward") }
	was := network()
	m.do("install", "-D", "-m", "644", more, "/etc/systemd/system/godwit-gateway.service.d/packets.conf")
	m.do("sed", "-i", `s/^\[egress\]/&\npackets = "kernel"/`, "/etc/godwit/gateway.toml")
	m.do("systemctl", "daemon-reload")
	m.do("systemctl", "restart", "godwit-gateway")
	m.serves("restart with the kernel's packets")
	m.do("systemctl", "reload", "godwit-gateway")
	m.serves("reload with the kernel's packets")
	if now := network(); !strings.Contains(now, "table inet godwit-gateway") || !strings.Contains(now, "net.ipv4.ip_forward = 1") {
		t.Errorf("the kernel does not carry packets:\n%s", now)
	}

	m.do("systemctl", "stop", "godwit-gateway")
	if now := network(); now != was {
		t.Errorf("once stopped, the machine's network was\n%s\nand is\n%s", was, now)
	}
	if left := m.processes(); len(left) > 0 {
		t.Errorf("stop left processes %v", left)
	}
	if state, result := m.show("ActiveState"), m.show("Result"); state != "inactive" || result != "success" {
		t.Errorf("once stopped the service is %s, with result %s", state, result)
	}

	m.do("journalctl", "--sync")
	journal := m.do("journalctl", "--no-pager", "--unit=godwit-gateway")
	if n := strings.Count(journal, "listening on"); n != 4 {
		t.Errorf("the journal tells of %d starts, not of 4", n)
	}
	for _, text := range []string{
		visitorAddr, visitorAddr6, "godwit://",
		"reception only permitted", // of what a process tells systemd about the service
		"DATA RACE", "\ngoroutine ",
	} {
		if strings.Contains(journal, text) {
			t.Errorf("the journal has %q in it", text)
		}
	}
	if t.Failed() {
		t.Logf("the journal:\n%s", journal)
	}
}

// serves makes sure that the service is up and the machine a website, and returns the process that serves.
func (m *machine) serves(after string) (pid string) {
	m.w.t.Helper()
	if state := m.show("ActiveState"); state != "active" {
		m.w.t.Fatalf("after %s, the service is %s", after, state)
	}
	addrs := []string{gatewayAddr}
	if m.w.ipv6 {
		addrs = append(addrs, gatewayAddr6)
	}
	for _, addr := range addrs {
		url := "https://" + net.JoinHostPort(addr, gatewayPort) + "/"
		code, page := run(m.w.t, m.w.client.command("curl", "--silent", "--show-error", "--fail", "--insecure", "--max-time",
			"20", url))
		if code != 0 || !strings.Contains(page, "</html>") {
			m.w.t.Errorf("after %s, curl %s ended with %d: %s", after, url, code, page)
		}
		// Web servers like to log this with the address.
		conn, err := m.w.client.dial(net.JoinHostPort(addr, gatewayPort))
		if err != nil {
			m.w.t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = io.WriteString(conn, "SSH-2.0-OpenSSH_9.2\r\n\r\n")
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
	}
	var status struct{ PID int }
	out := m.do("godwit", "gateway", "status", "--json", "--state-dir", "/var/lib/godwit")
	if err := json.Unmarshal([]byte(out), &status); err != nil || status.PID == 0 {
		m.w.t.Fatalf("after %s, gateway status printed %q (%v)", after, out, err)
	}
	return strconv.Itoa(status.PID)
}
