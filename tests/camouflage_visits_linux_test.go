package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
	"github.com/godwit-vpn/godwit/lab/devtools"
	"github.com/godwit-vpn/godwit/tests/visitors"
)

// otherPorts has connections from now on come from ports that none has come from: programs that name connections go by them, and
// the kernel gives a port again within seconds.
func (w *world) otherPorts(c *capture) {
	w.t.Helper()
	const each = 400
	first := 10000 + each*(c.ranges%130)
	c.ranges++
	if err := w.client.do(func() error {
		return os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", fmt.Appendf(nil, "%d %d", first, first+each-1), 0o644)
	}); err != nil {
		w.t.Fatal(err)
	}
}

// settle waits until what is on the wire has arrived, and takes it.
func (x *wire) settle() []frame {
	time.Sleep(10 * x.delay) // the wire's own time
	return x.take()
}

// visitGateway has Chromium visit the gateway's website: someone new, and the same one again with the site's cookie, first
// in a browser that was just started, and then in the same one, when its connections are gone. It says of itself what the
// profile says, which is what ours says, so that the lengths can be compared.
func (w *world) visitGateway(x *wire, b *devtools.Browser, c *capture) {
	w.t.Helper()
	var cookies []devtools.Cookie
	x.take()
	for i := range 2 * *camouflage {
		w.otherPorts(c)
		kind := []string{newVisitors, returning}[i%2]
		win, err := b.Window("")
		if err == nil && kind == returning {
			err = win.SetCookies(cookies)
		}
		if err == nil {
			err = sayMostPeoples(win)
		}
		if err == nil {
			err = win.Open("https://" + gatewayName + "/")
		}
		if err == nil && kind == newVisitors {
			cookies, err = win.Cookies()
		}
		if err == nil {
			time.Sleep(500 * time.Millisecond) // for what it fetches besides
			w.addVisit(c, kind, x.settle())
		}
		for n, before := 0, len(c.conns[revisits]); kind == returning && err == nil && len(c.conns[revisits]) == before; n++ {
			if n == mostAgain {
				w.t.Fatalf("Chromium came back %d times without resuming a session", n)
			}
			if err = w.visitAgain(x, win); err == nil {
				w.addVisit(c, kind, x.settle())
			}
		}
		if err == nil {
			err = win.Close()
		}
		if err != nil {
			w.t.Fatalf("Chromium: %v", err)
		}
		if i == 0 && len(cookies) != 1 {
			w.t.Errorf("the website set %d cookies: one is expected, as long as a knock", len(cookies))
		}
		c.frames = append(c.frames, x.settle()...)
	}
}

// visitAgain has a window load the gateway's page on new connections. What it keeps of the page is forgotten, or it would
// ask whether that has changed.
func (w *world) visitAgain(x *wire, win *devtools.Window) error {
	w.t.Helper()
	const passing = "198.51.100.77/32"
	// When this machine gets an address, Chromium closes what it has open.
	w.ip(w.client, "addr add "+passing+" dev wan")
	time.Sleep(500 * time.Millisecond)
	w.ip(w.client, "addr del "+passing+" dev wan")
	time.Sleep(500 * time.Millisecond)
	if err := win.ForgetPages(); err != nil {
		return err
	}
	if err := win.Open("https://" + gatewayName + "/"); err != nil {
		return err
	}
	time.Sleep(500 * time.Millisecond)
	return nil
}

// addVisit adds the connections of one visit that carried a request: Chromium opens some that it does not use. When it
// opens two of them and has one ticket, the one that it uses may be the one without.
func (w *world) addVisit(c *capture, kind string, frames []frame) {
	w.t.Helper()
	c.frames = append(c.frames, frames...)
	used := 0
	for _, conn := range watchedIn(frames) {
		if up, _ := conn.firsts(time.Time{}); len(up) > 3 {
			used++
			if kind == returning && conn.comesBack() {
				c.add(revisits, nil, conn)
			} else {
				c.add(kind, nil, conn)
			}
		}
	}
	if used == 0 {
		w.t.Errorf("%s: no connection was used", kind)
	}
}

// visitOther has Chromium visit a site that is nobody's, with a certificate as a CA's.
func (w *world) visitOther(x *wire, b *devtools.Browser, c *capture, url string) {
	w.t.Helper()
	for range *camouflage {
		w.otherPorts(c)
		if err := loadPage(b, "", url); err != nil {
			w.t.Fatalf("Chromium: %v", err)
		}
		w.addVisit(c, otherSite, x.settle())
	}
}

// loadPage loads a page in a window of its own.
func loadPage(b *devtools.Browser, proxy, url string) error {
	win, err := b.Window(proxy)
	if err != nil {
		return err
	}
	if err := win.Open(url); err != nil {
		return err
	}
	time.Sleep(200 * time.Millisecond)
	return win.Close()
}

// openLinks starts a client again and again, which opens two links each time, a first one and one that comes back, and
// leaves them idle, and then loads a page over them, by curl and by Chromium in turn.
func (w *world) openLinks(x *wire, b *devtools.Browser, c *capture) {
	w.t.Helper()
	x.take()
	for i := range *camouflage {
		w.otherPorts(c)
		p := w.startClient(w.key, "--transport", "https")
		time.Sleep(3 * time.Second) // the second link is dialled half a second after the first
		until := time.Now()
		time.Sleep(*idle) // what it says now and then, people can read
		over := curlOver
		if i%2 == 0 {
			w.curlOK("--insecure", "--socks5-hostname", proxyAddr, chainURL)
		} else {
			over = browserOver
			if err := loadPage(b, "socks5://"+proxyAddr, chainURL); err != nil {
				w.t.Fatalf("Chromium through the tunnel: %v", err)
			}
		}
		time.Sleep(500 * time.Millisecond)
		p.stop(syscall.SIGTERM, 10*time.Second)
		frames := x.settle()
		c.frames = append(c.frames, frames...)
		conns := slices.DeleteFunc(watchedIn(frames), func(conn *watched) bool {
			return len(conn.segments) == 0 // a dial that the client's end cut short
		})
		for n, conn := range conns {
			c.until[conn] = until
			kind := links
			if conn.comesBack() {
				kind = backLinks
			}
			if conn.comesBack() != (n > 0) {
				w.t.Errorf("link %d comes back %v", n+1, conn.comesBack())
			}
			c.add(kind, nil, conn)
			if up, _ := conn.firsts(time.Time{}); len(up) >= usedRecords { // this one carried the page
				c.add(over, nil, conn)
			}
		}
	}
}

// useLinksAtOnce loads a page the moment that the proxy takes connections.
func (w *world) useLinksAtOnce(x *wire, c *capture) {
	w.t.Helper()
	for range max(2, *camouflage/4) {
		w.otherPorts(c)
		p := w.start("client", w.client.command(godwit(w.t), "up", "--foreground", "--state-dir", w.clientDir(),
			"--transport", "https", "--browser", "chrome", "--links", "1", "--proxy", proxyAddr, w.key))
		w.eventually("proxy listens", p, 30*time.Second, func() error {
			conn, err := w.client.dial(proxyAddr)
			if err == nil {
				_ = conn.Close()
			}
			return err
		})
		w.curlOK("--insecure", "--socks5-hostname", proxyAddr, chainURL)
		time.Sleep(500 * time.Millisecond)
		p.stop(syscall.SIGTERM, 10*time.Second)
		frames := x.settle()
		c.add(early, frames, watchedIn(frames)...)
	}
}

// tunnelPlainly loads the page through a tunnel that is nothing but TLS with Chrome's hello.
func (w *world) tunnelPlainly(x *wire, b *devtools.Browser, c *capture) {
	w.t.Helper()
	for range (*camouflage + 1) / 2 {
		w.otherPorts(c)
		w.curlOK("--insecure", "--proxy", "http://"+naiveProxy, chainURL)
		frames := x.settle()
		c.add(curlNaive, frames, watchedIn(frames)...)
		if err := loadPage(b, "http://"+naiveProxy, chainURL); err != nil {
			w.t.Fatalf("Chromium through a plain tunnel: %v", err)
		}
		frames = x.settle()
		c.add(naiveOver, frames, watchedIn(frames)...)
	}
}

// curlOK has curl fetch something on the client's machine, which must work.
func (w *world) curlOK(args ...string) {
	w.t.Helper()
	if code, out := w.curl(append([]string{"--output", "/dev/null"}, args...)...); code != 0 {
		w.t.Fatalf("curl %v ended with %d: %s", args, code, out)
	}
}

// sayMostPeoples makes the window's Chromium say of itself what most people's Chrome does, as the profile has it.
func sayMostPeoples(win *devtools.Window) error {
	text, err := os.ReadFile(profileFile)
	if err != nil {
		return err
	}
	p, err := chrome.ParseProfile(text)
	if err != nil {
		return err
	}
	var brands []any
	agent := ""
	for _, line := range p.HTTP2.Headers {
		if v, ok := strings.CutPrefix(line, "user-agent: "); ok {
			agent = v
		}
		if v, ok := strings.CutPrefix(line, "sec-ch-ua: "); ok {
			for one := range strings.SplitSeq(v, ", ") {
				if m := visitors.Brand.FindStringSubmatch(one); m != nil {
					brands = append(brands, map[string]any{"brand": m[1], "version": m[2]})
				}
			}
		}
	}
	_, err = win.Call("Network.setUserAgentOverride", map[string]any{"userAgent": agent,
		"userAgentMetadata": map[string]any{"brands": brands, "platform": "Windows", "platformVersion": "10",
			"architecture": "x86", "model": "", "mobile": false}})
	return err
}
