package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// resolvedRoot is where tests/packages puts what is systemd-resolved, without installing it.
const resolvedRoot = "/usr/local/lib/godwit-tests/systemd-resolved"

// networkResolver is one of the machine's own network, next to the visitor.
const networkResolver = "203.0.113.98"

// strictly has systemd-resolved insist on what no resolver of a tunnel can give.
const strictly = "[Resolve]\nDNS=\nDNSOverTLS=yes\nDNSSEC=yes\n"

// begin starts systemd-resolved, and tells it of its network what a DHCP client, or another VPN, does.
const begin = `systemctl start dbus.socket systemd-resolved
	resolvectl dns wan ` + networkResolver + `
	resolvectl domain wan '~.'
	resolvectl default-route wan yes
	resolvectl dnsovertls wan no
	resolvectl dnssec wan no`

// resolved has programs ask a real systemd-resolved, and the client be a service beside it, where the machine's network has a
// resolver that all names are to be asked of, too.
func resolved(t *testing.T, w *world, m *machine, keyFile string, connected func(when string)) {
	need(t, "dbus-daemon")
	if _, err := os.Stat("/lib/systemd/systemd-resolved"); err != nil {
		if _, err := os.Stat(resolvedRoot); err != nil {
			t.Skip("needs systemd-resolved, which tests/packages unpacks: sudo make packages")
		}
		from := exec.Command("tar", "-C", resolvedRoot, "-c", ".")
		to := m.inside("tar", "-C", "/", "-x", "--keep-directory-symlink")
		var err error
		if to.Stdin, err = from.StdoutPipe(); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(from.Start(), to.Run(), from.Wait()); err != nil {
			t.Fatal(err)
		}
	}
	wrong := []dnsmessage.ResourceBody{&dnsmessage.AResource{A: [4]byte{192, 0, 2, 66}}}
	w.ip(w.client, "addr add "+networkResolver+"/24 dev wan")
	spy := newNameServer(t, w.client, networkResolver, map[string][]dnsmessage.ResourceBody{"site.test.": wrong})
	sh := func(script string) string { return m.do("sh", "-c", "set -e\n"+script) }
	sh(`id systemd-resolve >/dev/null 2>&1 || useradd --system --no-create-home systemd-resolve
		cp /lib/systemd/system/systemd-resolved.service /lib/systemd/system/dbus.service /lib/systemd/system/dbus.socket /etc/systemd/system
		ln -s systemd-resolved.service /etc/systemd/system/dbus-org.freedesktop.resolve1.service
		mkdir -p /etc/systemd/resolved.conf.d
		printf '` + strings.ReplaceAll(strictly, "\n", `\n`) + `' >/etc/systemd/resolved.conf.d/strict.conf
		umount /etc/resolv.conf 2>/dev/null || true
		cp /etc/resolv.conf /root/resolv.conf
		ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
		systemctl daemon-reload
		` + begin)
	state := func() string {
		return sh(`resolvectl dns; resolvectl domain; resolvectl dnsovertls; resolvectl dnssec; resolvectl default-route wan
			readlink /etc/resolv.conf; cat /etc/resolv.conf /run/systemd/resolve/resolv.conf; nft list ruleset`)
	}
	ask := func(name, want string) error {
		for _, args := range [][]string{{"resolvectl", "query", "-4", name}, {"getent", "ahostsv4", name}} {
			if code, out := run(t, m.inside(args...)); code != 0 || !strings.Contains(out, want) {
				return fmt.Errorf("%q ended with %d: %s", args, code, out)
			}
		}
		return nil
	}
	if err := ask("site.test", "192.0.2.66"); err != nil {
		t.Fatal(err)
	}
	before := state()
	same := func(when string) {
		t.Helper()
		if after := state(); after != before {
			t.Errorf("%s, systemd-resolved is not as it was.\nbefore:\n%s\nafter:\n%s", when, before, after)
		}
	}
	heard := func(when string) {
		t.Helper()
		if asked := spy.names("."); asked != nil {
			t.Errorf("%s, the network's resolver was asked about %q", when, asked)
		}
		spy.forget()
	}

	spy.forget()
	m.do("godwit", "service", "install", keyFile)
	connected("beside systemd-resolved")
	if err := ask("site.test", "192.0.2.1 "); err != nil {
		t.Errorf("with the tunnel: %v", err)
	}
	began := time.Now()
	if code, out := run(t, m.inside("resolvectl", "query", "-4", "nowhere.test")); code == 0 || !strings.Contains(out, "not found") {
		t.Errorf("a name that does not exist, after %v: %d, %s", time.Since(began), code, out)
	}
	if link := sh("readlink /etc/resolv.conf"); !strings.Contains(link, "stub") {
		t.Errorf("resolv.conf leads to %s", link)
	}
	heard("with the tunnel")
	m.do("systemctl", "stop", "godwit")
	same("once stopped")
	heard("once stopped")

	// As at boot: there is neither a bus nor systemd-resolved yet.
	sh("systemctl stop systemd-resolved dbus.socket dbus; rm -r /run/systemd/resolve; systemctl start godwit\n" + begin)
	connected("before systemd-resolved")
	w.eventually("systemd-resolved asks through the tunnel", m.process, 20*time.Second, func() error {
		if out := sh("resolvectl domain godwit0"); !strings.Contains(out, "~.") {
			return errors.New(out)
		}
		return ask("site.test", "192.0.2.1 ")
	})
	heard("from before systemd-resolved was there")

	// Killed, and kept from starting again.
	sh("systemctl kill --signal=KILL godwit; systemctl stop godwit")
	if code, out := run(t, m.inside("timeout", "1", "resolvectl", "query", "-4", "other.test")); code == 0 {
		t.Errorf("when it was killed: %s", out)
	}
	heard("when it was killed")
	m.do("godwit", "rescue")
	same("once rescued")
	if err := ask("site.test", "192.0.2.66"); err != nil {
		t.Errorf("once rescued: %v", err)
	}
	m.do("godwit", "service", "remove", "--purge")
	sh("systemctl stop systemd-resolved dbus.socket dbus; rm /etc/resolv.conf; cp /root/resolv.conf /etc/resolv.conf")
}
