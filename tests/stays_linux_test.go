package e2e

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var (
	standStill = flag.Duration("stand-still", 2*time.Second, "how long TestMachineStays has a process stand still")
	happenings = flag.Duration("happening", 1500*time.Millisecond, "how long each thing lasts that TestMachineStays lets happen")
)

// TestMachineStays lets things happen to a machine and its network, from before there is a link to after the client has run
// out of memory, while real programs go on reaching for the world. Nothing of theirs goes past the tunnel, as the cable shows,
// and after each thing all of them are carried as before.
func TestMachineStays(t *testing.T) {
	w, _ := withMachine(t)
	need(t, "dnsmasq", "udhcpc")
	if w.ipv6 {
		w.ip(w.client, "link set wan addrgenmode eui64") // as machines are on which router advertisements are heard
	}
	cut := func() { w.nft("table inet cut { chain cut { type filter hook forward priority 0; drop; }; }") }
	heal := func() { w.nft("delete table inet cut") }

	cut()
	p := w.launchClient(w.key, "--tun")
	w.eventually("the network is shut", p, 20*time.Second, func() error {
		_, err := w.client.command("nft", "list", "table", "inet", "godwit").Output()
		return err
	})
	j := newJudge(t, w.middle, "client")
	all := w.keepTrying()
	browser, came := w.browseOn(t)
	clean := func(what string) {
		t.Helper()
		for _, s := range j.found() {
			t.Errorf("%s: past the tunnel: %s", what, s)
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	time.Sleep(*happenings)
	clean("before there is a link")
	heal()
	w.clientIsUp(p)

	goOn := func(what string) {
		t.Helper()
		before := came()
		w.eventuallyAll("after "+what, all, 40*time.Second)
		w.eventually("after "+what+", in Chromium", p, 40*time.Second, func() error {
			if n := came(); n <= before {
				return errNothing
			}
			return nil
		})
		clean(what)
	}
	goOn("the start")
	again := func() { p = w.startClient(w.key, "--tun") }
	for _, happens := range []struct {
		what       string
		begin, end func()
	}{
		{"all that it sends is swallowed", cut, heal},
		{"the process stands still", func() {
			_ = p.cmd.Process.Signal(syscall.SIGSTOP)
			time.Sleep(*standStill)
		}, func() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }},
		{"the gateway stands still", func() { _ = w.gatewayProcess.cmd.Process.Signal(syscall.SIGSTOP) },
			func() { _ = w.gatewayProcess.cmd.Process.Signal(syscall.SIGCONT) }},
		{"the gateway is gone", func() { w.gatewayProcess.stop(syscall.SIGKILL, 5*time.Second) },
			func() { w.gatewayProcess = w.startGateway() }},
		{"the interface flaps", func() { w.ip(w.client, "link set wan down") }, func() {
			up := "link set wan up\nroute add default via " + middleAddr
			if w.ipv6 { // which a link that goes down forgets
				up += "\naddr replace 2001:db8:1::2/64 dev wan nodad\nroute add default via 2001:db8:1::1"
			}
			w.ip(w.client, up)
		}},
		{"it has another address", func() {
			w.ip(w.client, "addr del 198.51.100.2/24 dev wan\naddr add 198.51.100.3/24 dev wan\nroute replace default via "+middleAddr)
		}, func() {}},
		{"another interface comes, with a default route", func() {
			w.ip(w.client, "link add extra0 type veth peer name extra1\naddr add 203.0.113.77/24 dev extra0\nlink set extra0 up\nlink set extra1 up\n"+
				"route add default dev extra0 metric 1")
		}, func() { w.ip(w.client, "link del extra0") }},
		{"resolv.conf is written by somebody", func() {
			if err := os.WriteFile(w.client.files["/etc/resolv.conf"], []byte("nameserver "+middleAddr+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, func() {}},
		{"a DHCP server has routes to the world, and a router advertises itself", w.rogue, func() {}},
		{"it is killed", func() { p.stop(syscall.SIGKILL, 5*time.Second) }, again},
		{"it has no memory left", func() { w.starve(p) }, again},
	} {
		happens.begin()
		time.Sleep(*happenings)
		happens.end()
		goOn(happens.what)
	}
	for _, p := range all {
		p.giveUp()
	}
	_ = browser.Close()
	if code, out := w.clientCommand("down"); code != 0 {
		t.Fatalf("down: %s", out)
	}
	time.Sleep(time.Second) // in which the kernel would send again what was on its way
	clean("the end")
}

// rogue is a local network that would have the client's traffic: by DHCP, option 121 (TunnelVision) and its resolver, and by
// router advertisements. A real server gives them to a real client and to the kernel, and the machine's main tables take
// them.
func (w *world) rogue() {
	w.t.Helper()
	if w.ipv6 {
		w.ip(w.middle, "addr add 2001:db8:bad::1/64 dev client nodad")
	}
	w.start("dnsmasq", w.middle.command("dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--user=root",
		"--pid-file=", "--no-hosts", "--no-resolv", "--interface=client", "--bind-interfaces",
		"--dhcp-leasefile="+filepath.Join(w.dir, "leases"), "--dhcp-authoritative", "--no-ping",
		"--dhcp-range=198.51.100.50,198.51.100.60,255.255.255.0,1h", "--dhcp-option=6,"+middleAddr,
		"--dhcp-option=121,192.0.2.0/25,"+middleAddr+",0.0.0.0/0,"+middleAddr,
		"--enable-ra", "--ra-param=client,high,5", "--dhcp-range=2001:db8:bad::,ra-only,64,1h"))
	script := w.write("udhcpc.script", `#!/bin/sh
case "$1" in bound | renew)
	ip addr replace "$ip/$mask" dev "$interface"
	set -- $staticroutes
	while [ $# -ge 2 ]; do
		ip route replace "$1" via "$2" dev "$interface"
		shift 2
	done
	echo "nameserver $dns" >/etc/resolv.conf
	;;
esac
`)
	if err := os.Chmod(script, 0o755); err != nil {
		w.t.Fatal(err)
	}
	w.client.run(w.t, "", "udhcpc", "-f", "-q", "-n", "-t", "10", "-T", "1", "-O", "staticroutes", "-i", "wan", "-s", script)
	if routes := w.client.run(w.t, "", "ip", "route"); !strings.Contains(routes, "192.0.2.0/25 via "+middleAddr) {
		w.t.Errorf("the DHCP server's route was not taken:\n%s", routes)
	}
	if w.ipv6 {
		w.eventually("the router's advertisement", w.gatewayProcess, 10*time.Second, func() error {
			if !strings.Contains(w.client.run(w.t, "", "ip", "-6", "route"), "proto ra") {
				return errNothing
			}
			return nil
		})
	}
}

// starve has a process run out of memory.
func (w *world) starve(p *process) {
	w.t.Helper()
	none := unix.Rlimit{Cur: 1 << 16, Max: 1 << 16}
	if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_DATA, &none, nil); err != nil {
		w.t.Fatal(err)
	}
	for range 50 { // each needs buffers
		w.start("hungry", w.client.command("curl", "--silent", "--max-time", "20", "--output", "/dev/null", "http://"+webAddr+"/bytes/a/100000000"))
	}
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		w.t.Fatal("it lives without memory")
	}
	_ = os.Truncate(p.log, 0) // that it crashed was meant
}
