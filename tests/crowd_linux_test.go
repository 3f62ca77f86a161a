package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/internal/device"
	flows "github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/link"
	"github.com/godwit-vpn/godwit/internal/packet"
	"github.com/godwit-vpn/godwit/internal/session"
	"github.com/godwit-vpn/godwit/internal/transports/https"
	frames "github.com/godwit-vpn/godwit/internal/wire"
	"github.com/godwit-vpn/godwit/tests/needles"
)

// A crowd is people who use a gateway: sessions of devices of their own, from several addresses, and strangers who look
// at the website. What is to be found of them nowhere is noted in needles.
type crowd struct {
	t       *testing.T
	w       *world
	key     accesskey.Key
	needles needles.Set

	sources []netip.Addr
	sites   []netip.Addr
	port    uint16

	guests    []*guest
	strangers []net.Conn
}

// A guest is one session.
type guest struct {
	number  int
	session *session.Session
	welcome frames.Welcome
	device  *device.Key
	cert    []byte
	conn    *keyedLink
	sent    []byte // the payload of what it sends, and gets back
	packets chan []byte
}

func newCrowd(t *testing.T, w *world) *crowd {
	t.Helper()
	c := &crowd{t: t, w: w, port: 8080}
	for i := range 12 {
		c.sources = append(c.sources, netip.AddrFrom4([4]byte{198, 51, 100, byte(70 + i)}))
	}
	for i := range 8 {
		c.sites = append(c.sites, netip.AddrFrom4([4]byte{192, 0, 2, byte(171 + i)}))
	}
	if w.ipv6 {
		w.ip(w.middle, "addr add 2001:db8:3::1/64 dev gateway nodad")
		w.ip(w.gateway, "addr add "+gatewayAddr6+"/64 dev wan nodad\nroute add default via 2001:db8:3::1")
		if err := w.middle.do(func() error {
			return os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0o644)
		}); err != nil {
			t.Fatal(err)
		}
		for i := range 4 {
			c.sources = append(c.sources, netip.MustParseAddr(fmt.Sprintf("2001:db8:1::77:%x", 0x1a2b+i)))
			c.sites = append(c.sites, netip.MustParseAddr(fmt.Sprintf("2001:db8:2::5e:%x", 0x3c4d+i)))
		}
	}
	for _, a := range c.sources {
		w.ip(w.client, fmt.Sprintf("addr add %s/%d dev wan%s", a, a.BitLen(), nodad(a)))
		c.needles.Addr("client's address", a)
	}
	w.ip(w.client, "addr add "+strangerAddr+"/32 dev wan")
	c.needles.Addr("stranger's address", netip.MustParseAddr(strangerAddr))
	w.dns.mu.Lock()
	for i, a := range c.sites {
		w.ip(w.world, fmt.Sprintf("addr add %s/%d dev wan%s", a, a.BitLen(), nodad(a)))
		c.needles.Addr("destination's address", a)
		name := c.name(i)
		var body dnsmessage.ResourceBody = &dnsmessage.AAAAResource{AAAA: a.As16()}
		if a.Is4() {
			body = &dnsmessage.AResource{A: a.As4()}
		}
		w.dns.zone[name+"."] = []dnsmessage.ResourceBody{body}
		c.needles.Text("destination's name", strings.TrimSuffix(name, ".test"))
	}
	w.dns.mu.Unlock()
	for _, a := range c.sites {
		c.serve(a)
	}
	return c
}

func nodad(a netip.Addr) string {
	if a.Is6() {
		return " nodad"
	}
	return ""
}

// name is what a site is called. Names are looked up in any spelling, and told apart from what the test itself is about.
func (c *crowd) name(i int) string { return fmt.Sprintf("needle-%04x.test", 0x7f3a+i*0x101) }

// serve answers HTTP with what was posted, many times over, and datagrams with themselves.
func (c *crowd) serve(a netip.Addr) {
	at := netip.AddrPortFrom(a, c.port).String()
	server := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		for range 64 {
			_, _ = w.Write(append(b, make([]byte, 1000)...))
		}
		if r.URL.Query().Has("stay") {
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
	})}
	l := c.w.world.listen(c.t, at)
	go func() { _ = server.Serve(l) }()
	c.t.Cleanup(func() { _ = server.Close() })
	c.w.world.echoUDP(c.t, at)
}

func keyOf(t *testing.T, out string) accesskey.Key {
	t.Helper()
	var made struct {
		Key string `json:"key"`
	}
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		t.Fatalf("%v in:\n%s", err, out)
	}
	k, err := accesskey.Parse(made.Key)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// startGateway runs the gateway with all that it can be told to log.
func (c *crowd) startGateway() *process {
	w := c.w
	args := []string{"--log-level", "debug", "gateway", "run", "--state-dir", w.gatewayDir(),
		"--listen", net.JoinHostPort(gatewayAddr, gatewayPort), "--allow", "192.0.2.0/24"}
	if w.ipv6 {
		args = append(args, "--listen", net.JoinHostPort(gatewayAddr6, gatewayPort), "--allow", "2001:db8:2::/64")
	}
	p := w.start("gateway", w.gateway.command(godwit(w.t), args...))
	w.eventually("gateway listens", p, 30*time.Second, func() error {
		conn, err := w.gateway.dial(net.JoinHostPort(gatewayAddr, gatewayPort))
		if err == nil {
			_ = conn.Close()
		}
		return err
	})
	return p
}

// each calls f for every guest, some at a time.
func (c *crowd) each(f func(g *guest) error) {
	c.t.Helper()
	next := make(chan *guest)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for g := range next {
				if err := f(g); err != nil {
					c.t.Errorf("guest %d: %v", g.number, err)
				}
			}
		})
	}
	for _, g := range c.guests {
		next <- g
	}
	close(next)
	wg.Wait()
	if c.t.Failed() {
		c.t.FailNow()
	}
}

// come opens the sessions.
func (c *crowd) come(n int) {
	for i := range n {
		c.guests = append(c.guests, &guest{number: i, packets: make(chan []byte, 16),
			sent: []byte(fmt.Sprintf("payload-%s-", hex.EncodeToString(randomBytes(12))))})
	}
	c.each(func(g *guest) (err error) {
		if g.device, err = device.New(rand.Reader); err != nil {
			return err
		}
		id := frames.SessionID(randomBytes(16))
		c.needles.Bytes("session's id", id[:])
		c.needles.Text("session's id, as text?", hex.EncodeToString(id[:]))
		c.needles.Bytes("device's public key", g.device.Public())
		c.needles.Text("payload", string(g.sent))
		g.session = session.New(session.Config{Role: session.Client, ID: id, Pool: session.NewPool(64 << 20),
			Packet: func(p []byte) {
				select {
				case g.packets <- bytes.Clone(p):
				default:
				}
			}})
		c.t.Cleanup(func() { g.session.Close(0) })
		return c.attach(g)
	})
}

// attach gives a guest's session a link, and waits until it is let in.
func (c *crowd) attach(g *guest) error {
	k := link.Knock{Transport: https.Name, KeyID: c.key.ID, Secret: c.key.Secret.Reveal(), Device: g.device, Cert: g.cert,
		Session: g.session.ID(), Next: g.session.Next()}
	if g.cert == nil {
		k.Flags = frames.HelloNew | frames.HelloEnrol
	}
	conn, err := c.knock(c.sources[g.number%len(c.sources)], k)
	if err != nil {
		return err
	}
	g.conn = conn
	welcome := make(chan frames.Welcome, 1) // for nobody, if it comes too late
	if _, err := g.session.Attach(conn, session.LinkOptions{Transport: https.Name, Handshake: func(t frames.Type, b []byte) (uint64, error) {
		answer, err := link.ParseAnswer(t, b)
		if err == nil {
			welcome <- answer
		}
		return answer.Next, err
	}}); err != nil {
		return err
	}
	select {
	case g.welcome = <-welcome:
	case <-time.After(20 * time.Second):
		return fmt.Errorf("not welcomed: %v", g.session.Err())
	}
	if g.cert == nil {
		g.cert = g.welcome.Cert
		c.needles.Tunnel(g.welcome.Addr4, g.number < 8)
		c.needles.Tunnel(g.welcome.Addr6, true)
	}
	return nil
}

// reset ends the guest's link as a firewall does.
func (g *guest) reset() {
	_ = g.conn.NetConn().(*net.TCPConn).SetLinger(0)
	_ = g.conn.NetConn().Close()
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// use has every guest look at a site by its name, ask for a name, and send a datagram to an address; and leave one
// answer unfinished, with its connection.
func (c *crowd) use() {
	c.each(func(g *guest) error {
		i := g.number % len(c.sites)
		name := c.name(i)
		if g.number%2 == 1 {
			name = strings.ToUpper(name)
		}
		ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
		defer cancel()
		t := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			target, err := flows.ParseTarget(address)
			if err != nil {
				return nil, err
			}
			return g.session.Open(ctx, target, g.number%3 == 0)
		}}
		path := "/path-" + hex.EncodeToString(randomBytes(12))
		c.needles.Text("path", path)
		for _, query := range []string{"", "?stay"} {
			url := fmt.Sprintf("http://%s:%d%s%s", name, c.port, path, query)
			r, err := http.NewRequestWithContext(c.t.Context(), "POST", url, bytes.NewReader(g.sent))
			if err != nil {
				return err
			}
			answer, err := t.RoundTrip(r)
			if err != nil {
				return err
			}
			body := io.Reader(answer.Body)
			if query != "" {
				body = io.LimitReader(body, 10000)
			}
			got, err := io.ReadAll(body)
			if err != nil || !bytes.HasPrefix(got, g.sent) {
				return fmt.Errorf("answered %q (%v)", got[:min(40, len(got))], err)
			}
		}
		if addrs, err := g.session.Resolve(ctx, name); err != nil || len(addrs) != 1 || addrs[0] != c.sites[i] {
			return fmt.Errorf("%s resolved to %v (%v)", name, addrs, err)
		}
		return c.sendDatagram(g, c.sites[i])
	})
}

// sendDatagram sends one from the tunnel's address, until it comes back.
func (c *crowd) sendDatagram(g *guest, to netip.Addr) error {
	from := g.welcome.Addr4
	if to.Is6() {
		from = g.welcome.Addr6
	}
	p, err := packet.AppendUDP(nil, netip.AddrPortFrom(from, 40000), netip.AddrPortFrom(to, c.port), g.sent)
	if err != nil {
		return err
	}
	for range 20 {
		if err := g.session.SendPacket(p); err != nil {
			return err
		}
		select {
		case back := <-g.packets:
			if !bytes.HasSuffix(back, g.sent) {
				return fmt.Errorf("a datagram came back as %q", back)
			}
			return nil
		case <-time.After(500 * time.Millisecond):
		}
	}
	return fmt.Errorf("no datagram came back")
}

// visit has strangers look at the website.
func (c *crowd) visit() {
	for _, proto := range []string{"h2", "http/1.1"} {
		path := "/stranger-" + hex.EncodeToString(randomBytes(12))
		c.needles.Text("stranger's path", path)
		conn, err := c.dial(netip.MustParseAddr(strangerAddr), proto)
		if err != nil {
			c.t.Fatal(err)
		}
		r, _ := http.NewRequest("GET", "https://"+gatewayAddr+path, nil)
		protocols := new(http.Protocols)
		protocols.SetHTTP1(proto != "h2")
		protocols.SetHTTP2(proto == "h2")
		t := &http.Transport{Protocols: protocols,
			DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
		answer, err := t.RoundTrip(r)
		if err != nil {
			c.t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		c.strangers = append(c.strangers, conn)
	}
}

// leave ends every session, and waits until the gateway knows of none.
func (c *crowd) leave() {
	for _, s := range c.strangers {
		_ = s.Close()
	}
	c.each(func(g *guest) error {
		if g.number%10 == 0 { // its link is reset; then it comes back, to end
			g.reset()
			if err := c.attach(g); err != nil {
				return err
			}
		}
		g.session.Close(0)
		return nil
	})
	c.w.eventually("the sessions end", c.w.gatewayProcess, 20*time.Second, func() error {
		out := c.w.gateway.run(c.t, "", godwit(c.t), "gateway", "status", "--json", "--state-dir", c.w.gatewayDir())
		var status struct{ Sessions *int }
		if err := json.Unmarshal([]byte(out), &status); err != nil || status.Sessions == nil || *status.Sessions > 0 {
			return fmt.Errorf("%v, %s", err, out)
		}
		return nil
	})
}
