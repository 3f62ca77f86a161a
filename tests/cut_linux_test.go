package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A cut is something that a network does to the connections that are open now.
type cut struct {
	name string
	// do is called in the middle of a transfer; undo, if any, a while after.
	do    func(w *world)
	after time.Duration
	undo  func(w *world)
}

// cuts are what firewalls and bad days do. The kernel's connection tracking tells those connections that were open at
// the time of the cut from those that are made after it.
func cuts() []cut {
	return []cut{
		{"reset", func(w *world) { w.resetOpen() }, 0, nil},
		{"swallowed", func(w *world) { w.cutOpen("drop") }, 0, nil},
		{"reset, then all swallowed for 5 s", func(w *world) { w.resetOpen("drop") },
			5 * time.Second, func(w *world) { w.nft("flush chain inet cut others") }},
		{"cable out for 5 s", func(w *world) { w.ip(w.middle, "link set gateway down") },
			5 * time.Second, func(w *world) { w.ip(w.middle, "link set gateway up") }},
	}
}

// track has the middle tell connections apart: those made before the first cut are marked 1.
func (w *world) track() {
	w.nft(`table inet cut {
		chain existing { type filter hook forward priority 0; }
		chain others { type filter hook forward priority 1; }
		chain tell { type filter hook forward priority 2; ct state new ct mark set 1; }
	}`)
}

// cutOpen does something to every packet of the connections that are open now, in both directions, for good; and, if
// there is more, that to the packets of all other connections.
func (w *world) cutOpen(rule string, others ...string) {
	var script strings.Builder
	for _, r := range strings.Split(rule, "; ") {
		fmt.Fprintf(&script, "add rule inet cut existing ct mark 1 %s\n", r)
	}
	for _, r := range others {
		fmt.Fprintf(&script, "add rule inet cut others %s\n", r)
	}
	script.WriteString("flush chain inet cut tell\nadd rule inet cut tell ct state new ct mark set 2\n")
	w.nft(script.String())
}

// TestCut moves 50 MB, and in the middle of it the network does what networks do. Every byte arrives all the same.
func TestCut(t *testing.T) {
	needGodwit(t)
	need(t, "curl")
	const size, rate = 50_000_000, 16_000_000
	sum := sumOf(t, "cut", size)
	for _, c := range cuts() {
		t.Run(c.name, func(t *testing.T) {
			t.Run("down", func(t *testing.T) {
				w := up(t)
				file := filepath.Join(w.dir, "download")
				url := fmt.Sprintf("http://site.test/bytes/cut/%d?rate=%d", size, rate)
				cmd := w.client.command("curl", "--silent", "--show-error", "--socks5-hostname", proxyAddr, "--output", file, url)
				p := w.start("curl", cmd)
				w.eventually("a third has arrived", p, 30*time.Second, func() error { return atLeast(file, size/3) })
				w.during(c, p)
				if got := sumFile(t, file); got != sum {
					t.Errorf("what arrived has SHA-256 %s, want %s", got, sum)
				}
			})
			t.Run("up", func(t *testing.T) {
				w := up(t)
				upload, answer := filepath.Join(w.dir, "upload"), filepath.Join(w.dir, "answer")
				contentFile(t, upload, "cut", size)
				cmd := w.client.command("curl", "--silent", "--show-error", "--socks5-hostname", proxyAddr, "--output", answer,
					"--header", "Expect:", "--limit-rate", fmt.Sprint(rate), "--data-binary", "@"+upload, "http://site.test/sum")
				p := w.start("curl", cmd)
				w.eventually("a third has been sent", p, 30*time.Second, func() error {
					if n := w.received(); n < size/3 {
						return fmt.Errorf("only %d bytes", n)
					}
					return nil
				})
				w.during(c, p)
				got, err := os.ReadFile(answer)
				if want := fmt.Sprintf("%d %s", size, sum); err != nil || string(got) != want {
					t.Errorf("the site received %q (%v), want %q", got, err, want)
				}
			})
		})
	}
}

// during does the cut and waits for the program to end well.
func (w *world) during(c cut, p *process) {
	w.t.Helper()
	start := time.Now()
	c.do(w)
	if c.undo != nil {
		time.Sleep(c.after) // the network's time, not ours
		c.undo(w)
	}
	select {
	case <-p.done:
		w.t.Logf("ended %v after the cut", time.Since(start).Round(time.Millisecond))
	case <-time.After(3 * time.Minute):
		w.t.Fatal("not finished three minutes after the cut")
	}
	if p.err != nil {
		w.t.Fatalf("the transfer broke: %v", p.err)
	}
}

// TestCutPlain shows that each cut does break a connection that is carried by nothing: the rules are not for show.
func TestCutPlain(t *testing.T) {
	needNamespaces(t)
	need(t, "ip", "nft", "curl")
	for _, c := range cuts() {
		if strings.HasPrefix(c.name, "cable") {
			continue // TCP itself survives five seconds
		}
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			l := w.gateway.listen(t, net.JoinHostPort(gatewayAddr, "80"))
			server := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				r.SetPathValue("seed", "plain")
				r.SetPathValue("n", "50000000")
				w.web.bytes(rw, r)
			})}
			go func() { _ = server.Serve(l) }()
			t.Cleanup(func() { _ = server.Close() })
			file := filepath.Join(w.dir, "download")
			p := w.start("curl", w.client.command("curl", "--silent", "--show-error", "--output", file,
				"--speed-limit", "1000", "--speed-time", "2", "http://"+gatewayAddr+"/?rate=40000000"))
			w.eventually("a third has arrived", p, 30*time.Second, func() error { return atLeast(file, 16_000_000) })
			c.do(w)
			if c.undo != nil {
				time.Sleep(c.after)
				c.undo(w)
			}
			select {
			case <-p.done:
			case <-time.After(time.Minute):
				t.Fatal("curl waits for ever")
			}
			if p.err == nil {
				t.Error("a plain download went on: this cut cuts nothing")
			}
			if code, _ := w.curl("--output", "/dev/null", "http://"+gatewayAddr+"/"); code != 0 {
				t.Errorf("a new connection after the cut ended with %d, want 0", code)
			}
		})
	}
}

func atLeast(file string, n int64) error {
	info, err := os.Stat(file)
	if err == nil && info.Size() < n {
		err = fmt.Errorf("only %d bytes", info.Size())
	}
	return err
}

// received is how much the world's machine has received on its wire.
func (w *world) received() (n int64) {
	w.t.Helper()
	out := w.world.run(w.t, "", "cat", "/proc/net/dev")
	for _, line := range strings.Split(out, "\n") {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "wan:"); ok {
			_, _ = fmt.Sscan(rest, &n)
		}
	}
	return n
}
