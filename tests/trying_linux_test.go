package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/devtools"
)

// A trying is a program that goes on trying to reach the world, whatever happens.
type trying struct {
	what    string
	process *process
	succeed string // what its log says of each time that it did
}

// successes counts how often it succeeded.
func (p trying) successes() int {
	b, err := os.ReadFile(p.process.log)
	if err != nil {
		return 0
	}
	return bytes.Count(b, []byte(p.succeed))
}

// keepTrying has real programs on the client's machine reach for the world by all they have until the test ends: by TCP,
// UDP and ICMP, by names and addresses, by resolvers of their own.
func (w *world) keepTrying() (all []trying) {
	w.t.Helper()
	need(w.t, "curl", "dig", "ping", "iperf3")
	script := func(what, succeed, line string) {
		cmd := w.client.command("sh", "-c", "while :; do "+line+"; sleep 0.3; done")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that what it has just started can be ended, too
		all = append(all, trying{what, w.start("trying-"+strings.ReplaceAll(what, " ", "-"), cmd), succeed})
	}
	curl := "curl --silent --max-time 2 --write-out '\\n' --cacert " + w.web.ca + " "
	script("curl", "hello over HTTP/2", curl+"https://site.test/hello")
	script("curl by address", "hello over HTTP/1.1", curl+"http://"+webAddr+"/hello")
	dig := "dig +tries=1 +time=1 "
	script("dig", "site.test.", dig+"site.test")
	script("dig at the world's resolver", "site.test.", dig+"@"+dnsAddr+" site.test")
	script("dig at the network's resolver", "site.test.", dig+"@"+middleAddr+" site.test; "+dig+"+tcp @"+middleAddr+" site.test")
	script("ping", "bytes from", "ping -n -c 3 -i 0.3 -W 1 "+webAddr)
	// A server waits for ever for a datagram that is lost.
	w.start("iperf3-server", w.world.command("sh", "-c", "while :; do timeout 5 iperf3 -s -1 -B "+webAddr+"; done"))
	script("iperf3 UDP", "receiver", "timeout 3 iperf3 -c "+webAddr+" -u -b 500K -t 1 --connect-timeout 1000")
	if w.ipv6 {
		script("curl over IPv6", "hello over HTTP/1.1", curl+"http://["+webAddr6+"]/hello")
		script("ping over IPv6", "bytes from", "ping -6 -n -c 3 -i 0.3 -W 1 "+webAddr6)
		script("dig over IPv6", "site.test.", dig+"@2001:db8:1::1 site.test")
	}
	return all
}

// giveUp ends it.
func (p trying) giveUp() {
	_ = syscall.Kill(-p.process.cmd.Process.Pid, syscall.SIGKILL)
	<-p.process.done
}

// eventuallyAll waits until each of them has succeeded once more.
func (w *world) eventuallyAll(when string, all []trying, patience time.Duration) {
	w.t.Helper()
	before := make([]int, len(all))
	for i, p := range all {
		before[i] = p.successes()
	}
	deadline := time.Now().Add(patience)
	for {
		var err error
		for i, p := range all {
			if p.successes() == before[i] {
				err = errors.Join(err, errors.New(p.what))
			}
		}
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%s, not within %v: %v", when, patience, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// browsing is a page that asks for the world by whatever a browser has: fetches, images, and WebRTC, which is known to
// reach past proxies. It counts in its title.
const browsing = `data:text/html,<script>
let n = 0;
setInterval(() => {
	fetch('http://site.test/hello', {mode: 'no-cors', cache: 'no-store'}).then(() => document.title = 'came ' + ++n, () => {});
	new Image().src = 'https://v4.test/object/1?' + Math.random();
	const rtc = new RTCPeerConnection({iceServers: [{urls: ['stun:` + webAddr + `:3478', 'stun:v4.test:3478', 'stun:[` + webAddr6 + `]:3478']}]});
	rtc.createDataChannel('x');
	rtc.createOffer().then(o => rtc.setLocalDescription(o));
	setTimeout(() => rtc.close(), 2000);
}, 500);
</script>`

// browseOn has Chromium open that page, and says how often something came.
func (w *world) browseOn(t *testing.T) (b *devtools.Browser, came func() int) {
	t.Helper()
	need(t, "chromium")
	b = w.browse("--disable-features=LocalNetworkAccessChecks")
	win, err := b.Window("")
	if err == nil {
		err = win.Open(strings.Join(strings.Fields(browsing), " "))
	}
	if err != nil {
		t.Fatal(err)
	}
	return b, func() (n int) {
		var title string
		if err := win.Evaluate("document.title", &title); err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Sscanf(title, "came %d", &n)
		return n
	}
}
