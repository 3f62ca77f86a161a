package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/http2"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/internal/decoy"
	"github.com/godwit-vpn/godwit/internal/device"
	flows "github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/link"
	"github.com/godwit-vpn/godwit/internal/packet"
	"github.com/godwit-vpn/godwit/internal/session"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/https"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
	frames "github.com/godwit-vpn/godwit/internal/wire"
)

const (
	seizedSessions = 240
	strangerAddr   = "198.51.100.90"
)

// TestSeizure has many people use a gateway, seizes it while they do, and again a minute after the last of them has gone.
// In use, everything that is looked for is found in memory, or looking proves nothing. A minute later another process
// serves, whose memory holds nothing of it, and neither does the first one's, which only waits, nor the disk, what the
// gateway printed, or the kernel's memory of peers. What is found of the network's own is in docs/threat-model.md.
func TestSeizure(t *testing.T) {
	needGodwit(t)
	if raceEnabled {
		t.Skip("the race detector's own memory is terabytes of addresses")
	}
	t.Parallel()
	w := newWorld(t)
	c := newCrowd(t, w)
	w.initGateway()
	made := w.gateway.run(t, "", godwit(t), "key", "add", accessKeyName, "--devices", "1000", "--json", "--state-dir", w.gatewayDir())
	c.key = keyOf(t, made)
	c.keepNetwork()
	w.gatewayProcess = c.startGateway()
	first := w.gatewayProcess.cmd.Process.Pid

	c.come(seizedSessions)
	c.use()
	c.visit()
	before := c.needles.searchMemory(t, first)
	for _, kind := range c.needles.kinds() {
		switch {
		case before.has(kind), strings.HasPrefix(kind, kept):
		case strings.HasSuffix(kind, "?"): // whether it is there at any one moment is chance
		default:
			t.Errorf("in use no %s is in memory: then its absence later says nothing", kind)
		}
	}
	t.Logf("in use %d of %d needles are in memory:%s", before.count(), c.needles.count(), before)

	c.leave()
	time.Sleep(time.Minute)
	serving, err := w.gatewayPID()
	if err != nil || serving == first {
		t.Fatalf("a minute after the last session process %d serves (%v), which did before", serving, err)
	}
	if err := onlyWaits(first); err != nil {
		t.Error(err)
	}
	for name, pid := range map[string]int{"the process that serves": serving, "the first process": first} {
		after := c.needles.searchMemory(t, pid)
		if n := after.count(); n > 0 {
			t.Errorf("a minute after the last session %d needles are in %s:%s", n, name, after)
		}
		for kind, at := range after.strong {
			if strings.HasPrefix(kind, kept) {
				t.Logf("%s has %s (%d)", name, kind, len(at))
			}
		}
	}
	c.searchFiles()
	c.searchKernel()

	// Somebody who comes now is let in, and whoever ends the first process ends all.
	c.guests = nil
	c.come(1)
	c.leave()
	if !w.gatewayProcess.stop(syscall.SIGTERM, 20*time.Second) || w.gatewayProcess.cmd.ProcessState.ExitCode() != 0 {
		t.Errorf("the first process, asked to end: %v", w.gatewayProcess.cmd.ProcessState)
	}
	if err := gone(serving); err != nil {
		t.Error(err)
	}
}

// TestRenewal has a gateway that is in use for longer than it would have to be idle, and then one that cannot be started
// anew: in both cases the process that served goes on.
func TestRenewal(t *testing.T) {
	t.Parallel()
	w := up(t)
	first, err := w.gatewayPID()
	if err != nil {
		t.Fatal(err)
	}
	const longer = 40 * time.Second
	serves := func(when string) {
		t.Helper()
		if pid, err := w.gatewayPID(); pid != first {
			t.Errorf("%s process %d serves (%v), want %d", when, pid, err, first)
		}
	}
	time.Sleep(longer)
	serves("with a session that does nothing")

	settings := filepath.Join(w.gatewayDir(), "gateway.toml")
	text, err := os.ReadFile(settings)
	if err == nil {
		err = os.WriteFile(settings, append([]byte("no_such_field = 1\n"), text...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if code, out := w.clientCommand("down"); code != 0 {
		t.Fatalf("down ended with %d: %s", code, out)
	}
	time.Sleep(longer)
	serves("with settings that are wrong")
	said, _ := os.ReadFile(w.gatewayProcess.log)
	if n := bytes.Count(said, []byte("no_such_field")); n != 1 {
		t.Errorf("that the settings are wrong was said %d times:\n%s", n, said)
	}
	w.clientProcess = w.startClient(w.key)
	if err := w.hello(); err != nil {
		t.Error(err)
	}
}

// kept begins the kinds of what is the network's, and stays.
const kept = "the network's "

const accessKeyName = "Key-of-needles"

// keepNetwork notes what is the network's.
func (c *crowd) keepNetwork() {
	c.t.Helper()
	files, err := filepath.Glob(filepath.Join(c.w.gatewayDir(), "keys", "*"))
	if err != nil || len(files) < 6 {
		c.t.Fatalf("keys: %q, %v", files, err)
	}
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err != nil {
			c.t.Fatal(err)
		}
		text := strings.TrimSpace(string(line))
		secret, err := base64.StdEncoding.DecodeString(text[strings.LastIndexByte(text, ' ')+1:])
		if err != nil {
			c.t.Fatal(err)
		}
		c.needles.bytes(kept+filepath.Base(file), secret)
	}
	c.needles.bytes(kept+"access key's id", c.key.ID[:])
	c.needles.text(kept+"access key's name", accessKeyName)
}

// A crowd is people who use a gateway: sessions of devices of their own, from several addresses, and strangers who look
// at the website. What is to be found of them nowhere is noted in needles.
type crowd struct {
	t       *testing.T
	w       *world
	key     accesskey.Key
	needles needles

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
		c.needles.addr("client's address", a)
	}
	w.ip(w.client, "addr add "+strangerAddr+"/32 dev wan")
	c.needles.addr("stranger's address", netip.MustParseAddr(strangerAddr))
	w.dns.mu.Lock()
	for i, a := range c.sites {
		w.ip(w.world, fmt.Sprintf("addr add %s/%d dev wan%s", a, a.BitLen(), nodad(a)))
		c.needles.addr("destination's address", a)
		name := c.name(i)
		var body dnsmessage.ResourceBody = &dnsmessage.AAAAResource{AAAA: a.As16()}
		if a.Is4() {
			body = &dnsmessage.AResource{A: a.As4()}
		}
		w.dns.zone[name+"."] = []dnsmessage.ResourceBody{body}
		c.needles.text("destination's name", strings.TrimSuffix(name, ".test"))
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
	udp := c.w.world.listenUDP(c.t, at)
	go func() {
		b := make([]byte, 2048)
		for {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = udp.WriteTo(b[:n], from)
		}
	}()
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
		c.needles.bytes("session's id", id[:])
		c.needles.text("session's id, as text?", hex.EncodeToString(id[:]))
		c.needles.bytes("device's public key", g.device.Public())
		c.needles.text("payload", string(g.sent))
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
		c.needles.tunnel(g.welcome.Addr4, g.number < 8)
		c.needles.tunnel(g.welcome.Addr6, true)
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
		c.needles.text("path", path)
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
		c.needles.text("stranger's path", path)
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

// dial makes a TLS connection to the gateway from one of the client's addresses, and notes its keys.
func (c *crowd) dial(source netip.Addr, proto string) (*tls.Conn, error) {
	to := net.JoinHostPort(gatewayAddr, gatewayPort)
	if source.Is6() {
		to = net.JoinHostPort(gatewayAddr6, gatewayPort)
	}
	var tcp net.Conn
	err := c.w.client.do(func() (err error) {
		d := net.Dialer{Timeout: 10 * time.Second, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))}
		tcp, err = d.Dial("tcp", to)
		return err
	})
	if err != nil {
		return nil, err
	}
	c.needles.sockaddr("client's address", tcp.LocalAddr().(*net.TCPAddr).AddrPort())
	var secrets bytes.Buffer
	conn := tls.Client(tcp, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{proto}, KeyLogWriter: &secrets,
		ServerName: "site.test"})
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if err := conn.Handshake(); err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	c.needles.keyLog(secrets.String(), conn.ConnectionState().CipherSuite)
	return conn, nil
}

// knock opens a link over Go's own TLS, whose keys it will tell.
func (c *crowd) knock(source netip.Addr, k link.Knock) (*keyedLink, error) {
	conn, err := c.dial(source, "h2")
	if err != nil {
		return nil, err
	}
	state := conn.ConnectionState()
	l := &keyedLink{Conn: conn, state: state, key: transport.KeyHash(state.PeerCertificates[0])}
	if l.knock, err = k.Knock(l); err != nil {
		return nil, err
	}
	for _, label := range []string{"EXPORTER-godwit-door", "EXPORTER-godwit-proof"} {
		ekm, err := l.Export(label, nil, 32)
		if err != nil {
			return nil, err
		}
		c.needles.bytes("what a link exports?", ekm)
	}
	c.needles.bytes("door's MAC", l.knock[8:link.DoorLen])
	c.needles.bytes("proof", signatureOf(l.knock))
	name, length := decoy.CookieFor(l.key)
	value := make([]byte, base64.RawURLEncoding.DecodedLen(length))
	copy(value[copy(value, l.knock):], randomBytes(len(value)))
	cookie := base64.RawURLEncoding.EncodeToString(value)
	c.needles.text("knock, as a cookie?", cookie[20:100])
	for _, record := range chrome.Opening("site.test", name+"="+cookie) {
		if _, err := conn.Write(record); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// signatureOf finds the signature in a knock: HELLO ends with it and an empty certificate.
func signatureOf(knock []byte) []byte {
	r := bytes.NewReader(knock[link.DoorLen:])
	if _, body, err := frames.ReadFrame(r, frames.MaxHello); err == nil {
		if h, err := frames.ParseHello(body); err == nil {
			return bytes.Clone(h.Signature[:])
		}
	}
	panic("a knock without a HELLO")
}

// keyedLink is a link's connection whose keys are known.
type keyedLink struct {
	*tls.Conn
	state  tls.ConnectionState
	key    [32]byte
	knock  []byte
	passed bool
}

func (l *keyedLink) Export(label string, context []byte, n int) ([]byte, error) {
	return l.state.ExportKeyingMaterial(label, context, n)
}
func (l *keyedLink) ServerKey() [32]byte { return l.key }
func (l *keyedLink) Knock() []byte       { return l.knock }

// Read skips what the website's server says, up to the marker.
func (l *keyedLink) Read(b []byte) (int, error) {
	for !l.passed {
		var head [9]byte
		if _, err := io.ReadFull(l.Conn, head[:]); err != nil {
			return 0, err
		}
		if _, err := io.CopyN(io.Discard, l.Conn, int64(binary.BigEndian.Uint32(head[:])>>8)); err != nil {
			return 0, err
		}
		l.passed = http2.FrameType(head[3]) == http2.FrameHeaders
	}
	return l.Conn.Read(b)
}

// searchKernel looks at what the gateway's kernel remembers of TCP's peers. By default that is each one's address, and
// when it was last heard of; gateway init, as root, turned that off.
func (c *crowd) searchKernel() {
	c.t.Helper()
	f := newFound()
	table := c.w.gateway.run(c.t, "", "ip", "tcp_metrics", "show")
	if c.needles.search(f, "tcp_metrics", 0, []byte(table)); f.count() > 0 {
		c.t.Errorf("in the kernel:%s", f)
	}
}

// searchFiles looks at all that the gateway wrote: its directory, with what SQLite keeps beside and inside of its file,
// and what it printed.
func (c *crowd) searchFiles() {
	c.t.Helper()
	files := 0
	look := func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if i, err := os.Lstat(path); err != nil || !i.Mode().IsRegular() {
			return err
		}
		files++
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f := newFound()
		if c.needles.search(f, filepath.Base(path), 0, data); f.count() > 0 {
			c.t.Errorf("on disk:%s", f)
		}
		return nil
	}
	for _, root := range []string{c.w.gatewayDir(), c.w.gatewayProcess.log} {
		if err := filepath.WalkDir(root, look); err != nil {
			c.t.Error(err)
		}
	}
	if said, _ := os.ReadFile(c.w.gatewayProcess.log); !bytes.Contains(said, []byte("link ended")) {
		c.t.Errorf("the gateway did not say that links ended: it does not log all that it can")
	}
	if files < 4 {
		c.t.Errorf("only %d files were searched", files)
	}
}
