package e2e

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// hotel makes the middle a network that lets nobody out who has not logged in at http://login.hotel.example: all that is asked
// without TLS is sent there, in TLS another key is shown than the gateway's, and all else is dropped.
func (w *world) hotel() {
	w.t.Helper()
	here := []dnsmessage.ResourceBody{&dnsmessage.AResource{A: netip.MustParseAddr(middleAddr).As4()}}
	w.spy.mu.Lock()
	w.spy.zone = map[string][]dnsmessage.ResourceBody{"nmcheck.gnome.org.": here, "login.hotel.example.": here, "tracker.example.": here}
	w.spy.mu.Unlock()
	page := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch {
		case r.Host != "login.hotel.example":
			http.Redirect(rw, r, "http://login.hotel.example/in?room", http.StatusFound)
		case r.Method == http.MethodPost:
			w.nft("add element inet hotel guests { 198.51.100.2 }")
			fmt.Fprintln(rw, "welcome")
		default:
			fmt.Fprintln(rw, "your room, please")
		}
	})
	for port, server := range map[string]*httptest.Server{"80": httptest.NewUnstartedServer(page), "443": httptest.NewUnstartedServer(page)} {
		server.Config.ErrorLog = log.New(io.Discard, "", 0) // the client hangs up on whoever is not the gateway
		server.Listener.Close()
		server.Listener = w.middle.listen(w.t, net.JoinHostPort(middleAddr, port))
		if port == "443" {
			server.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
			server.StartTLS()
		} else {
			server.Start()
		}
		w.t.Cleanup(server.Close)
	}
	w.nft(`table inet hotel {
		set guests { type ipv4_addr; }
		chain pages {
			type nat hook prerouting priority -100;
			iifname "client" ip saddr != @guests tcp dport { 80, 443 } redirect
		}
		chain out { type filter hook forward priority 0; iifname "client" ip saddr != @guests drop; }
	}`)
}

// loginWay is what status and portal tell of a way past the tunnel; nil is none.
type loginWay struct {
	Left    float64 `json:"seconds_left"`
	Proxy   string
	Refused []string
}

func (w *world) loginWay() *loginWay {
	w.t.Helper()
	var doc struct {
		Machine struct{ Portal *loginWay }
	}
	if code, out := w.clientCommand("status", "--json"); code != 0 || json.Unmarshal([]byte(out), &doc) != nil {
		w.t.Fatalf("status ended with %d: %s", code, out)
	}
	return doc.Machine.Portal
}

// TestPortal logs in to a network that wants it, while the machine is shut.
func TestPortal(t *testing.T) {
	w, before := withMachine(t)
	root := filepath.Join(w.dir, "root")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	w.client.files["/root"] = root
	w.hotel()
	start := func() *process {
		t.Helper()
		p := w.start("client", w.client.command(godwit(t), "up", "--tun", "--foreground", "--timeout", "0", "--state-dir", w.clientDir(),
			"--browser", "chrome", "--proxy", proxyAddr, w.key))
		w.eventually("status knows of the login page", p, 30*time.Second, func() error {
			if code, out := w.clientCommand("status"); code != 0 || !strings.Contains(out, "'godwit portal'") {
				return fmt.Errorf("status ended with %d: %s", code, out)
			}
			return nil
		})
		return p
	}
	p := start()
	// What other programs try comes nowhere, and only the login's names are looked up.
	shut := func(when string) {
		t.Helper()
		for _, url := range []string{"http://" + middleAddr + "/", "http://login.hotel.example/"} {
			if code, out := w.curl("--max-time", "0.7", url); code == 0 {
				t.Errorf("%s: %s came past the tunnel: %s", when, url, out)
			}
		}
		names := slices.DeleteFunc(w.spy.names("."), func(n string) bool { return n == "nmcheck.gnome.org." || n == "login.hotel.example." })
		if seen := append(w.leaks(), names...); len(seen) > 0 {
			t.Errorf("%s: past the tunnel: %q", when, seen)
		}
	}
	shut("before")
	if asked := w.spy.names("."); len(asked) > 0 {
		t.Errorf("asked of the network before anybody wanted it: %q", asked)
	}
	ask := func(args ...string) *loginWay {
		t.Helper()
		var doc struct{ Way *loginWay }
		code, out := w.clientCommand(append([]string{"portal", "--json"}, args...)...)
		if code != 0 || json.Unmarshal([]byte(out), &doc) != nil {
			t.Fatalf("portal ended with %d: %s", code, out)
		}
		return doc.Way
	}
	closed := func(what, proxy string, p *process) {
		t.Helper()
		w.eventually("shut after "+what, p, 20*time.Second, func() error {
			c, err := w.client.dial(proxy)
			if err == nil {
				c.Close()
				return fmt.Errorf("the login's proxy is there still")
			}
			return nil
		})
	}

	// Its end comes with its time, when it is asked for, and with the process.
	closed("its time", ask("--for", "1s").Proxy, p)
	way := ask("--for", "1m")
	if again := ask("--for", "10m"); again.Proxy != way.Proxy || again.Left < 300 {
		t.Errorf("asked again: %+v, and before %+v", again, way)
	}
	if ask("--end") != nil || w.loginWay() != nil {
		t.Error("it has not ended, though it was to")
	}
	closed("--end", way.Proxy, p)
	way = ask()
	p.stop(syscall.SIGKILL, 5*time.Second)
	if c, err := w.client.dial(way.Proxy); err == nil {
		c.Close()
		t.Error("the login's proxy outlives the process")
	}
	shut("after kill -9")
	start()

	// A person logs in.
	bin := filepath.Join(w.dir, "bin")
	browser := `#!/bin/sh
for a; do case $a in --proxy-server=*) proxy=${a#*=} ;; http*) url=$a ;; esac; done
cd ` + w.dir + `
curl -s --proxy $proxy http://tracker.example/ > tracker
curl -s --proxy $proxy "$url" > page
touch reached
until [ -e go ]; do sleep 0.1; done
curl -s --proxy $proxy --data room=7 "$url" > welcome
exec sleep 100
`
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "chromium"), []byte(browser), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := w.client.command(godwit(t), "portal", "--state-dir", w.clientDir())
	cmd.Env = append(cmd.Env, "SUDO_UID=0", "PATH="+bin+":"+os.Getenv("PATH"))
	login := w.start("portal", cmd)
	w.eventually("the browser shows the page", login, 20*time.Second, func() error {
		_, err := os.Stat(filepath.Join(w.dir, "reached"))
		return err
	})
	read := func(name string) string {
		text, _ := os.ReadFile(filepath.Join(w.dir, name))
		return string(text)
	}
	if page := read("page"); page != "your room, please\n" {
		t.Errorf("the browser shows %q", page)
	}
	if page := read("tracker"); strings.Contains(page, "your room") {
		t.Errorf("another site than the login's is let in: %q", page)
	}
	if way := w.loginWay(); way == nil || way.Left < 200 || way.Left > 300 || !slices.Equal(way.Refused, []string{"tracker.example"}) {
		t.Errorf("status tells %+v", way)
	}
	if _, out := w.clientCommand("status"); !strings.Contains(out, "one browser may log in") {
		t.Errorf("status: %s", out)
	}
	shut("meanwhile")
	w.write("go", "")
	select {
	case <-login.done:
	case <-time.After(60 * time.Second):
		t.Fatal("it does not end when the network lets the machine out")
	}
	if said := read("portal.log"); login.err != nil || !strings.Contains(said, "Connected") || !strings.Contains(said, "tracker.example") {
		t.Errorf("it ended with %v: %s", login.err, said)
	}
	if got := read("welcome"); got != "welcome\n" {
		t.Errorf("the login was answered %q", got)
	}
	if w.loginWay() != nil {
		t.Error("the way past the tunnel is open still")
	}
	if left, _ := os.ReadDir(root); len(left) > 0 {
		t.Errorf("the browser's profile is there still: %v", left)
	}
	if err := w.fetch("http://site.test/hello"); err != nil {
		t.Error(err)
	}
	if code, out := w.clientCommand("portal"); code != 1 || !strings.Contains(out, "wants no login") {
		t.Errorf("portal, of one that is connected, ended with %d: %s", code, out)
	}
	if slices.Contains(w.spy.names("."), "tracker.example.") {
		t.Error("a name was looked up that the browser may not go to")
	}
	if code, out := w.clientCommand("down"); code != 0 {
		t.Fatalf("down: %s", out)
	}
	if after := w.snapshot(); after != before {
		t.Errorf("the machine's network is not as it was.\nbefore:\n%s\nafter:\n%s", before, after)
	}
}
