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

	"github.com/godwit-vpn/godwit/lab/netns/netnstest"
)

// gatewaySnapshot is all that a gateway may change of its machine's network.
func (w *world) gatewaySnapshot() string {
	w.t.Helper()
	var b strings.Builder
	for _, args := range []string{"nft list ruleset", "ip -brief link", "ip -4 route show table all", "ip -6 route", "ip rule",
		"sysctl -a --pattern net.ipv[46].conf"} {
		f := strings.Fields(args)
		fmt.Fprintf(&b, "# %s\n%s", args, w.gateway.run(w.t, "", f[0], f[1:]...))
	}
	return b.String()
}

// TestPackets has the kernel of the gateway's machine carry what the client's programs send, of protocols that a gateway without
// that right refuses, over a restart of each end, an upgrade and a kill.
func TestPackets(t *testing.T) {
	netnstest.NeedTUN(t)
	needGodwit(t)
	need(t, "ping", "sysctl")
	w := newWorld(t)
	for _, h := range []*host{w.client, w.gateway} {
		lib := filepath.Join(w.dir, h.name+".lib")
		if err := os.Mkdir(lib, 0o755); err != nil {
			t.Fatal(err)
		}
		h.files["/var/lib"] = lib
	}
	w.initGateway()
	before := w.gatewaySnapshot()
	start := func() {
		t.Helper()
		cmd := w.gateway.command(godwit(t), append(w.gatewayArgs(), "--packets", "kernel")...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		w.gatewayProcess = w.startGatewayAs(cmd)
	}
	start()
	w.clientProcess = w.startClient(w.key, "--tun")
	address := w.tunnelAddress()

	addrs := []string{webAddr}
	if w.ipv6 {
		addrs = append(addrs, webAddr6)
	}
	for _, a := range addrs {
		w.rawEcho(a)
	}
	carries := func(when string) {
		t.Helper()
		w.tunnelAddress() // it is connected
		for _, a := range addrs {
			if err := w.askRaw(a); err != nil {
				t.Errorf("protocol 253 to %s, %s: %v", a, when, err)
			}
		}
	}
	carries("at first")
	w.udpEcho(9000)
	w.udpEcho(65507)
	for i, a := range addrs {
		if code, out := run(t, w.client.command("ping", "-c", "1", "-W", "5", "-s", "3000", a)); code != 0 {
			t.Errorf("ping: %s", out)
		}
		hop := []string{"100.64.0.1", "fd67:6f64:7769:7402::1"}[i]
		if _, out := run(t, w.client.command("ping", "-c", "1", "-W", "5", "-t", "1", a)); !strings.Contains(out, hop) || !strings.Contains(out, "exceeded") {
			t.Errorf("ping with one hop, which %s should answer: %s", hop, out)
		}
	}
	if seen := w.leaks(); seen != nil {
		t.Errorf("past the tunnel: %q", seen)
	}

	same := func(when string) {
		t.Helper()
		carries(when)
		if a := w.tunnelAddress(); a != address {
			t.Errorf("%s, the device is %s, and was %s", when, a, address)
		}
	}
	if code, out := w.clientCommand("down"); code != 0 {
		t.Fatalf("down: %s", out)
	}
	w.clientProcess = w.startClient(w.key, "--tun")
	same("after the client's restart")
	if code, out := w.upgrade(); code != 0 {
		t.Fatalf("upgrade: %s", out)
	}
	w.eventually("it carries after the gateway's upgrade", w.clientProcess, 30*time.Second, func() error { return w.askRaw(webAddr) })
	w.gatewayProcess.stop(syscall.SIGTERM, 20*time.Second)
	if after := w.gatewaySnapshot(); after != before {
		t.Errorf("the gateway's network is not as it was:\n%s", lineDiff(before, after))
	}
	start()
	w.eventually("it carries after the gateway's restart", w.clientProcess, 30*time.Second, func() error { return w.askRaw(webAddr) })
	same("after the gateway's restart")
	w.gatewayProcess.stop(syscall.SIGKILL, 20*time.Second)
	w.gatewayProcess = w.startGateway() // with sockets
	if after := w.gatewaySnapshot(); after != before {
		t.Errorf("after a kill and a start with sockets, the gateway's network is not as it was:\n%s", lineDiff(before, after))
	}
	w.eventually("it is refused by a gateway with sockets", w.clientProcess, 30*time.Second, func() error {
		if err := w.askRaw(webAddr); !errors.Is(err, syscall.EHOSTUNREACH) {
			return fmt.Errorf("%v", err)
		}
		return nil
	})
}

// tunnelAddress is the device's address in the tunnel.
func (w *world) tunnelAddress() string {
	w.t.Helper()
	var doc struct {
		Address4 string `json:"address4"`
	}
	w.eventually("status tells the device's address", w.clientProcess, 30*time.Second, func() error {
		code, out := w.clientCommand("status", "--json")
		if err := json.Unmarshal([]byte(out), &doc); code != 0 || err != nil || doc.Address4 == "" {
			return fmt.Errorf("status ended with %d: %s", code, out)
		}
		return nil
	})
	return doc.Address4
}

const experiment = 253 // RFC 3692

// rawEcho answers packets of a protocol that no program knows.
func (w *world) rawEcho(address string) {
	w.t.Helper()
	var c net.PacketConn
	if err := w.world.do(func() (err error) {
		c, err = net.ListenPacket(fmt.Sprint("ip:", experiment), address)
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() })
	go func() {
		b := make([]byte, 2000)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(b[:n], from)
		}
	}()
}

// askRaw has such a packet answered.
func (w *world) askRaw(address string) error {
	var c net.Conn
	if err := w.client.do(func() (err error) {
		c, err = net.Dial(fmt.Sprint("ip:", experiment), address)
		return err
	}); err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	var err error
	for range 3 { // it may be lost
		if _, err = c.Write([]byte("experiment")); err != nil {
			return err
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		b := make([]byte, 2000)
		var n int
		if n, err = c.Read(b); err == nil && !strings.HasSuffix(string(b[:n]), "experiment") {
			return fmt.Errorf("%q came back", b[:n])
		} else if !os.IsTimeout(err) {
			return err
		}
	}
	return err
}

// lineDiff are the lines that only one of two texts has.
func lineDiff(a, b string) (d string) {
	for _, side := range []struct{ sign, have, miss string }{{"- ", a, b}, {"+ ", b, a}} {
		for line := range strings.Lines(side.have) {
			if !strings.Contains(side.miss, line) {
				d += side.sign + line
			}
		}
	}
	return d
}
