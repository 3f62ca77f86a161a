package peer

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/godwit-vpn/godwit/lab/capture"
	"github.com/godwit-vpn/godwit/lab/netns"
)

// Record the packets that rules are tested with, all of them or some:
//
//	GODWIT_LAB_BUILD=1 go test ./lab/peer -run '^TestRecord$' -count 1 -update
//	go test ./lab/peer -run '^TestRecord$/^ssh$' -count 1 -update
var update = flag.Bool("update", false, "record the captures in lab/firewall/testdata/peers")

const (
	capturesDir = "../firewall/testdata/peers"

	recordedDelay = 25 * time.Millisecond // each way; the capture is at the client

	mostFrames  = 100
	wholeFrames = 40 // then only the headers are kept
	snapTo      = 96
	mostBytes   = 60 << 10
)

// pageWithParts is the page that is visited in captures: 60 KB in a document and four pictures, for Chromium and for curl.
func pageWithParts(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" {
		w.Header().Set("Content-Type", "image/jpeg")
		part := make([]byte, partSize)
		rand.Read(part)
		w.Write(part)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	var b bytes.Buffer
	b.WriteString("<!doctype html><title>recorded</title>recorded")
	for i := range parts - 1 {
		fmt.Fprintf(&b, `<img src="/%d.jpg" alt="">`, i)
	}
	for b.Len() < partSize {
		b.WriteString("<p>The bar-tailed godwit flies from Alaska to New Zealand without landing.")
	}
	w.Write(b.Bytes())
}

// routed opens the way from client to target that no peer uses.
func (n *network) routed(t *testing.T) {
	t.Helper()
	if err := errors.Join(
		n.client.AddRoute(netns.Route{To: targetNet, Dev: "eth0", Via: gatewayAddr}),
		n.target.AddRoute(netns.Route{To: clientNet, Dev: "eth0", Via: netip.MustParseAddr("198.51.100.1")}),
		n.gateway.Sysctl("net.ipv4.ip_forward", "1"),
	); err != nil {
		t.Fatal(err)
	}
}

// command runs a program on the client to its end, or until it has had its time.
func (n *network) command(t *testing.T, limit time.Duration, program, pkg string, args ...string) (string, error) {
	t.Helper()
	path, err := debian(program, pkg)
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.Env = dir, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir}
	cmd.WaitDelay = time.Second
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := n.client.Start(cmd); err != nil {
		return "", err
	}
	if err := cmd.Wait(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s", program, err, complaint.String())
	}
	return out.String(), nil
}

// browse has Chromium load the page. Of its arguments only those about names and certificates concern the connection,
// and they change nothing that is sent.
func (n *network) browse(t *testing.T, url, socks string, args ...string) error {
	t.Helper()
	rules := fmt.Sprintf("MAP %s %s, MAP %s %s, MAP * ~NOTFOUND", banned, targetAddr, allowed, targetAddr)
	if socks != "" {
		// The far end looks names up; the browser's own errands go nowhere.
		rules = "MAP nothing.example ~NOTFOUND"
		script := `function FindProxyForURL(url, host) {
			return dnsDomainIs(host, ".example") ? "SOCKS5 ` + socks + `" : "PROXY 127.0.0.1:9";
		}`
		args = append(args, "--proxy-pac-url=data:application/x-javascript-config;base64,"+
			base64.StdEncoding.EncodeToString([]byte(script)))
	}
	args = append([]string{"--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--ignore-certificate-errors",
		"--host-resolver-rules=" + rules, "--user-data-dir=" + t.TempDir(), "--dump-dom"}, args...)
	dom, err := n.command(t, 30*time.Second, "chromium", "chromium", append(args, url)...)
	if err == nil && !strings.Contains(dom, "recorded") {
		err = errors.New("the page did not load: " + dom)
	}
	return err
}

// A subject is something to be recorded.
type subject struct {
	name string
	run  func(t *testing.T, n *network)
}

func subjects() (all []subject) {
	for _, name := range Names() {
		switch name {
		case "direct", "godwit-https", "godwit-quic", "godwit-websocket", "godwit-http", "godwit-dns":
			continue
		}
		all = append(all, subject{name, func(t *testing.T, n *network) {
			s := n.site(t)
			p := start(t, name, s)
			if err := n.ready(p); err != nil {
				t.Fatal(err)
			}
			if err := n.browse(t, "https://"+banned+"/", p.Proxy()); err != nil {
				t.Fatal(err)
			}
		}})
	}
	plain := func(name string, run func(t *testing.T, n *network) error) {
		all = append(all, subject{name, func(t *testing.T, n *network) {
			n.routed(t)
			if err := run(t, n); err != nil {
				t.Fatal(err)
			}
		}})
	}
	for name, host := range map[string]string{"banned": banned, "allowed": allowed} {
		for file, scheme := range map[string]string{"direct-https": "https", "http": "http"} {
			plain(file+"-"+name, func(t *testing.T, n *network) error {
				args := []string{"--silent", "--show-error", "--insecure", "--output", "/dev/null"}
				for i := range parts {
					args = append(args, fmt.Sprintf("%s://%s/%d", scheme, host, i))
				}
				_, err := n.command(t, 10*time.Second, "curl", "curl", args...)
				return err
			})
		}
		plain("chromium-https-"+name, func(t *testing.T, n *network) error {
			return n.browse(t, "https://"+host+"/", "")
		})
		plain("quic-initial-"+name, func(t *testing.T, n *network) error {
			// Nobody answers: Chromium says the same again until it gives up.
			sink, err := listenUDP(n.target, netip.AddrPortFrom(targetAddr, 443))
			if err != nil {
				return err
			}
			defer sink.Close()
			n.command(t, 6*time.Second, "chromium", "chromium", quicArgs(t, host, "")...)
			return nil
		})
		plain("quic-"+name, func(t *testing.T, n *network) error { return n.browseQUIC(t, host) })
	}
	plain("dns", func(t *testing.T, n *network) error {
		stop, err := n.serveDNS()
		if err != nil {
			return err
		}
		defer stop()
		for _, args := range [][]string{{banned, "A"}, {banned, "AAAA"}, {allowed, "A"}, {"+tcp", banned, "A"}, {"+tcp", allowed, "A"}} {
			if _, err := n.command(t, 10*time.Second, "dig", "dnsutils", append([]string{"@" + targetAddr.String()}, args...)...); err != nil {
				return err
			}
		}
		return nil
	})
	return all
}

// ready waits until a proxy listens, or a tunnel carries.
func (n *network) ready(p Peer) error {
	to := netip.AddrPortFrom(targetAddr, 80)
	if p.Proxy() != "" {
		to = netip.MustParseAddrPort(p.Proxy())
	}
	for range 100 {
		c, err := n.client.Dial(to, 200*time.Millisecond)
		if err == nil {
			c.Close()
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.New("not ready")
}

func listenUDP(h *netns.Host, addr netip.AddrPort) (c *net.UDPConn, err error) {
	err = h.Do(func() (err error) {
		c, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(addr))
		return err
	})
	return c, err
}

func quicArgs(t *testing.T, host, spki string) []string {
	args := []string{"--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--host-resolver-rules=MAP " + host + " " + targetAddr.String() + ", MAP * ~NOTFOUND",
		"--user-data-dir=" + t.TempDir(), "--enable-quic", "--origin-to-force-quic-on=" + host + ":443", "--dump-dom"}
	if spki != "" {
		args = append(args, "--ignore-certificate-errors-spki-list="+spki)
	}
	return append(args, "https://"+host+"/")
}

// browseQUIC has Chromium load the page over HTTP/3, from the website that Hysteria2 shows to strangers.
func (n *network) browseQUIC(t *testing.T, host string) error {
	t.Helper()
	tools := &Tools{Dir: toolsDir(), Offline: true}
	if _, err := tools.install(t.Context(), singboxProgram); err != nil {
		t.Skip(err)
	}
	s := n.site(t)
	s.CoverName = host
	cert, key, err := s.certificate()
	if err != nil {
		return err
	}
	b := &singbox{path: tools.path(singboxProgram)}
	p, err := b.run(s, n.target, "gateway", object{
		"type": "hysteria2", "listen": targetAddr.String(), "listen_port": 443, "users": []object{{"password": randomHex(16)}},
		"tls":        object{"enabled": true, "certificate_path": cert, "key_path": key, "alpn": []string{"h3"}},
		"masquerade": "http://" + targetAddr.String(),
	}, nil, object{"type": "direct"}, nil, nil)
	if err != nil {
		return err
	}
	defer p.Stop()
	if err := p.listens(t.Context(), n.target, "udp", 443); err != nil {
		return err
	}
	text, err := os.ReadFile(cert)
	if err != nil {
		return err
	}
	block, _ := pem.Decode(text)
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(parsed.RawSubjectPublicKeyInfo)
	dom, err := n.command(t, 30*time.Second, "chromium", "chromium", quicArgs(t, host, base64.StdEncoding.EncodeToString(sum[:]))...)
	if err == nil && !strings.Contains(dom, "recorded") {
		err = errors.New("the page did not load: " + dom + p.LastWords())
	}
	return err
}

// serveDNS answers on the target, over UDP and TCP.
func (n *network) serveDNS() (stop func(), err error) {
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 300},
				A: targetAddr.AsSlice()}}
		}
		w.WriteMsg(m)
	})
	addr := netip.AddrPortFrom(targetAddr, 53)
	l, err := n.target.Listen(addr)
	if err != nil {
		return nil, err
	}
	c, err := listenUDP(n.target, addr)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	servers := []*dns.Server{{Listener: l, Handler: handler}, {PacketConn: c, Handler: handler}}
	var wg sync.WaitGroup
	for _, s := range servers {
		ready := make(chan struct{})
		s.NotifyStartedFunc = func() { close(ready) }
		wg.Go(func() { s.ActivateAndServe() })
		<-ready
	}
	return func() {
		for _, s := range servers {
			s.Shutdown()
		}
		wg.Wait()
	}, nil
}

// TestRecord records what passes between client and gateway, from the first packet on, while a page is loaded through
// each peer and without any.
func TestRecord(t *testing.T) {
	if !*update {
		t.Skip("records only with -update")
	}
	for _, x := range subjects() {
		t.Run(x.name, func(t *testing.T) {
			n := newNetwork(t, recordedDelay, http.HandlerFunc(pageWithParts))
			c, err := capture.Start(n.client, "eth0", 0)
			if err != nil {
				t.Fatal(err)
			}
			x.run(t, n)
			frames := c.Stop()
			var ip []capture.Frame
			for _, f := range frames {
				if t := binary.BigEndian.Uint16(f.Data[12:]); t == 0x0800 || t == 0x86dd {
					ip = append(ip, f)
				}
			}
			if len(ip) > 0 {
				begin := ip[0].At
				for i := range ip {
					ip[i].At -= begin
				}
			}
			t.Logf("%d packets", len(ip))
			write(t, filepath.Join(capturesDir, x.name+".pcap"), ip[:min(len(ip), mostFrames)])
		})
	}
}

// write writes as many whole frames as are wanted and fit.
func write(t *testing.T, path string, frames []capture.Frame) {
	t.Helper()
	for whole := wholeFrames; ; whole-- {
		var b bytes.Buffer
		if err := capture.WritePcap(&b, frames, whole, snapTo); err != nil {
			t.Fatal(err)
		}
		if b.Len() > mostBytes {
			continue
		}
		if whole < wholeFrames {
			t.Logf("only %d are whole", whole)
		}
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
}

// TestCaptures holds what was recorded: addresses that are nobody's, whole frames where they were promised, small files.
func TestCaptures(t *testing.T) {
	t.Parallel()
	nobodys := []netip.Prefix{clientNet, targetNet, gatewayNet}
	for _, x := range subjects() {
		path := filepath.Join(capturesDir, x.name+".pcap")
		text, err := os.ReadFile(path)
		if err != nil {
			t.Errorf("%v; record it: see update", err)
			continue
		}
		if len(text) > mostBytes {
			t.Errorf("%s has %d bytes, more than %d", x.name, len(text), mostBytes)
		}
		frames, err := capture.ReadPcap(bytes.NewReader(text))
		if err != nil || len(frames) == 0 {
			t.Errorf("%s: %d frames, %v", x.name, len(frames), err)
			continue
		}
		for i, f := range frames {
			if i < wholeFrames && len(f.Data) != f.Length || f.Length > 1514 || len(f.Data) < 34 {
				t.Errorf("%s: frame %d has %d of %d bytes", x.name, i+1, len(f.Data), f.Length)
				break
			}
			src, dst := netip.AddrFrom4([4]byte(f.Data[26:30])), netip.AddrFrom4([4]byte(f.Data[30:34]))
			known := func(a netip.Addr) bool {
				return slices.ContainsFunc(nobodys, func(p netip.Prefix) bool { return p.Contains(a) })
			}
			if !known(src) || !known(dst) {
				t.Errorf("%s: frame %d is from %v to %v", x.name, i+1, src, dst)
				break
			}
		}
	}
}
