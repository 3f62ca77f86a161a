package prober

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Stand-ins mimic what was measured of programs that no longer run or that no package has: each says which. They show
// that a rule can fire; real programs are in programs_linux_test.go.

// discard reads to the end.
func discard(c net.Conn) { io.Copy(io.Discard, c) }

// oldShadowsocks mimics shadowsocks-python and early Outline with an AEAD cipher (B3): salt 32, length 2, tag 16; what
// does not open with the key closes. replays says that it knows no replay filter, as Outline before 1.1.
func oldShadowsocks(t *testing.T, genuine []byte, replays bool) netip.AddrPort {
	return serve(t, func(c net.Conn) {
		b := make([]byte, 50)
		if _, err := io.ReadFull(c, b); err != nil {
			return
		}
		if replays && bytes.Equal(b, genuine[:50]) {
			answer := make([]byte, 900)
			rand.Read(answer)
			c.Write(answer)
			discard(c)
		}
	})
}

func shadowsocksPayload() []byte {
	b := make([]byte, 300)
	rand.Read(b)
	return b
}

func TestOldShadowsocks(t *testing.T) {
	t.Parallel()
	control := plainSite(t)
	genuine := shadowsocksPayload()
	t.Run("thresholds", func(t *testing.T) {
		t.Parallel()
		r := probe(t, control, Suspect{Addr: oldShadowsocks(t, genuine, false), Client: [][]byte{genuine}})
		r.want(t, Unmasked, "shadowsocks", false)
		if !strings.Contains(r.Verdict.Reason, "closes at 50 bytes") {
			t.Errorf("the reason is %q", r.Verdict.Reason)
		}
		for _, res := range r.Results {
			if res.kind.Staged && res.Suspect.End != NotSent {
				t.Errorf("%s was sent, though no replay was answered", res.Probe)
			}
		}
	})
	t.Run("replay", func(t *testing.T) {
		t.Parallel()
		r := probe(t, control, Suspect{Addr: oldShadowsocks(t, genuine, true), Client: [][]byte{genuine}})
		r.want(t, Unmasked, "shadowsocks", true)
		for _, res := range r.Results {
			if res.kind.Staged && res.Suspect.End == NotSent {
				t.Errorf("%s was not sent, though a replay was answered", res.Probe)
			}
		}
	})
}

// Stream ciphers of shadowsocks-libev before 3.3 reset on an unknown address type, which random bytes have at random but
// for those that are shorter than a salt and a type (B2).
func TestStreamShadowsocks(t *testing.T) {
	t.Parallel()
	old := serve(t, func(c net.Conn) {
		b := make([]byte, 17)
		if _, err := io.ReadFull(c, b); err != nil {
			return
		}
		c.(*net.TCPConn).SetLinger(0)
	})
	probe(t, plainSite(t), Suspect{Addr: old, Client: [][]byte{shadowsocksPayload()}}).want(t, Unmasked, "shadowsocks", false)
}

// obfs4proxy before 0.0.11 closed after a number of bytes of its own, which it read 1448 at a time (B3).
func TestOldObfs4(t *testing.T) {
	t.Parallel()
	const most = 9731
	old := serve(t, func(c net.Conn) {
		b := make([]byte, 1448)
		for n := 0; n < most; {
			k, err := c.Read(b)
			if n += k; err != nil {
				return
			}
		}
	})
	probe(t, plainSite(t), Suspect{Addr: old, Client: [][]byte{shadowsocksPayload()}}).want(t, Unmasked, "obfs4", false)
}

// An open proxy, by SOCKS5 and by CONNECT.
func TestOpenProxy(t *testing.T) {
	t.Parallel()
	control := plainSite(t)
	relay := func(c net.Conn) {
		up, err := net.Dial("tcp", control.String())
		if err != nil {
			return
		}
		defer up.Close()
		go func() {
			io.Copy(up, c)
			up.Close()
		}()
		io.Copy(c, up)
	}
	t.Run("SOCKS5", func(t *testing.T) {
		t.Parallel()
		socks := serve(t, func(c net.Conn) {
			b := make([]byte, 10)
			if _, err := io.ReadFull(c, b[:3]); err != nil || b[0] != 5 {
				return
			}
			c.Write([]byte{5, 0})
			if _, err := io.ReadFull(c, b); err != nil {
				return
			}
			c.Write([]byte{5, 0, 0, 1, 127, 0, 0, 1, 0, 1})
			relay(c)
		})
		probe(t, control, Suspect{Addr: socks}).want(t, Unmasked, "proxy", true)
	})
	t.Run("CONNECT", func(t *testing.T) {
		t.Parallel()
		connect := serve(t, func(c net.Conn) {
			b := make([]byte, 4096)
			n, _ := c.Read(b)
			if !bytes.HasPrefix(b[:n], []byte("CONNECT ")) {
				io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			relay(c)
		})
		probe(t, control, Suspect{Addr: connect}).want(t, Unmasked, "proxy", true)
	})
	t.Run("CONNECT answered with a page", func(t *testing.T) { // without its length, as net/http does
		t.Parallel()
		page := serve(t, func(c net.Conn) {
			c.Read(make([]byte, 4096))
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n<!doctype html>")
		})
		probe(t, control, Suspect{Addr: page}).want(t, Undecided, "", false)
	})
}

// A server that ends the hellos of those it knows itself, and passes all others on to a website that nginx serves with
// OpenSSL: what REALITY does, without its cryptography. nginx is the real one. The website itself is not unmasked.
func TestBorrowedHandshake(t *testing.T) {
	t.Parallel()
	target := nginxSite(t, program(t, "nginx", "nginx-light"))
	cert := selfSigned(t)
	hello := make(chan []byte, 1)
	hello <- nil
	borrower := serve(t, func(c net.Conn) {
		b := make([]byte, 4096)
		n, err := c.Read(b)
		if err != nil {
			return
		}
		known := <-hello
		if known == nil { // the first one is the user
			known = bytes.Clone(b[:n])
		}
		hello <- known
		in := struct {
			io.Reader
			net.Conn
		}{io.MultiReader(bytes.NewReader(b[:n]), c), c}
		if bytes.HasPrefix(b[:n], known) { // what follows may have come along
			inner := tls.Server(&readFrom{c, in.Reader}, &tls.Config{Certificates: []tls.Certificate{cert}})
			discard(inner)
			return
		}
		up, err := net.Dial("tcp", target.String())
		if err != nil {
			return
		}
		defer up.Close()
		go func() {
			io.Copy(up, in.Reader)
			up.(*net.TCPConn).CloseWrite()
		}()
		io.Copy(c, up)
	})
	rec := tap(t, borrower.String())
	c, err := tls.Dial("tcp", rec.addr.String(), &tls.Config{InsecureSkipVerify: true, ServerName: "www.site.example"})
	ok(t, err)
	c.Close()
	control := plainSite(t)
	probe(t, control, rec.suspect(t, borrower)).want(t, Unmasked, "borrowed handshake", true)
	r := probe(t, control, rec.suspect(t, target))
	r.want(t, Undecided, "", false)
	probe(t, target, rec.suspect(t, target)).want(t, Cleared, "", true)
}

// A server that lets nginx shake hands with everyone, and speaks itself to those it knows as soon as they are finished:
// what ShadowTLS does, without its cryptography. nginx is the real one; it is cleared, and its tickets are where they
// belong.
func TestForwardedHandshake(t *testing.T) {
	t.Parallel()
	target := nginxSite(t, program(t, "nginx", "nginx-light"))
	first := make(chan bool, 1)
	first <- true
	shadow := serve(t, func(c net.Conn) {
		user := <-first
		first <- false
		up, err := net.Dial("tcp", target.String())
		if err != nil {
			return
		}
		defer up.Close()
		go func() {
			io.Copy(up, c)
			up.(*net.TCPConn).CloseWrite()
		}()
		if !user {
			io.Copy(c, up)
			return
		}
		for head := make([]byte, 5); ; {
			if _, err := io.ReadFull(up, head); err != nil {
				return
			}
			body := make([]byte, int(head[3])<<8+int(head[4]))
			if _, err := io.ReadFull(up, body); err != nil {
				return
			}
			c.Write(append(head, body...))
			if len(body) == finishedSHA384 || len(body) == finishedSHA256 {
				break
			}
		}
		b := make([]byte, 5+700)
		rand.Read(b)
		copy(b, []byte{23, 3, 3, 700 >> 8, 700 & 255})
		c.Write(b)
	})
	visit := func(at netip.AddrPort) Suspect {
		rec := tap(t, at.String())
		c, err := tls.Dial("tcp", rec.addr.String(), &tls.Config{InsecureSkipVerify: true, ServerName: "www.site.example",
			NextProtos: h2})
		ok(t, err)
		defer c.Close()
		io.WriteString(c, getPage)
		c.SetReadDeadline(time.Now().Add(time.Second))
		io.Copy(io.Discard, c)
		return rec.suspect(t, at)
	}
	genuine := visit(target)
	if n := len(behindFinished(genuine.Server)); n < 2 {
		t.Errorf("%d records behind the handshake of nginx", n)
	}
	probe(t, target, genuine).want(t, Cleared, "", true)
	probe(t, plainSite(t), genuine).want(t, Undecided, "", false)
	r := probe(t, target, visit(shadow))
	r.want(t, Unmasked, "borrowed handshake", true)
	if !strings.Contains(r.Verdict.Reason, "700 bytes in their place") {
		t.Errorf("the reason is %q", r.Verdict.Reason)
	}
}

// readFrom is a connection whose reads come from somewhere else.
type readFrom struct {
	net.Conn
	r io.Reader
}

func (c *readFrom) Read(b []byte) (int, error) { return c.r.Read(b) }

// TestUDP: what speaks over UDP is named, silence is not judged.
func TestUDP(t *testing.T) {
	t.Parallel()
	control := plainSite(t) // nothing listens there by UDP
	answering := func(answer func(b []byte) []byte) netip.AddrPort {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		ok(t, err)
		done := make(chan struct{})
		go func() {
			defer close(done)
			b := make([]byte, 2048)
			for {
				n, from, err := c.ReadFrom(b)
				if err != nil {
					return
				}
				if a := answer(b[:n]); a != nil {
					c.WriteTo(a, from)
				}
			}
		}()
		t.Cleanup(func() {
			c.Close()
			<-done
		})
		return netip.MustParseAddrPort(c.LocalAddr().String())
	}
	// A responder that knows nobody's proposal (RFC 7296, 2.7), as strongSwan is. It is a stand-in.
	ike := answering(func(b []byte) []byte {
		if len(b) < 28 || b[17] != 0x20 || b[18] != 34 {
			return nil
		}
		a := append(bytes.Clone(b[:8]), make([]byte, 8)...)
		a = append(a, 41, 0x20, 34, 0x20, 0, 0, 0, 0, 0, 0, 0, 36)
		return append(a, 0, 0, 0, 8, 0, 0, 0, 14)
	})
	silent := answering(func([]byte) []byte { return nil })
	probe(t, control, Suspect{Network: "udp", Addr: ike, Client: [][]byte{make([]byte, 100)}}).want(t, Unmasked, "ike", true)
	probe(t, control, Suspect{Network: "udp", Addr: silent}).want(t, Undecided, "", false)
	probe(t, silent, Suspect{Network: "udp", Addr: answering(func([]byte) []byte { return nil })}).want(t, Cleared, "", true)
}

// nginxSite is a website whose TLS is OpenSSL's.
func nginxSite(t *testing.T, nginx string) netip.AddrPort {
	t.Helper()
	dir := t.TempDir()
	cert := selfSigned(t)
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	ok(t, err)
	addr := freePort(t)
	write := func(name string, b []byte) { t.Helper(); ok(t, os.WriteFile(filepath.Join(dir, name), b, 0o600)) }
	write("cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}))
	write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	write("index.html", []byte("<title>the page</title>"))
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;" // it would drop to one that may not exist here, and cannot read the directory
	}
	write("nginx.conf", fmt.Appendf(nil, `daemon off; master_process off; pid %[1]s/pid; error_log stderr; %[3]s
events {}
http {
	access_log off; client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c;
	uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
	server { listen %[2]s ssl http2; ssl_certificate %[1]s/cert.pem; ssl_certificate_key %[1]s/key.pem; root %[1]s;
		ssl_protocols TLSv1.2 TLSv1.3; }
}
`, dir, addr, user))
	start(t, addr, exec.Command(nginx, "-p", dir, "-e", "stderr", "-c", filepath.Join(dir, "nginx.conf")))
	return addr
}

// program finds a program, or skips the test and names the Debian package.
func program(t *testing.T, name, pkg string) string {
	t.Helper()
	for _, dir := range []string{"", "/usr/sbin/", "/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path
		}
	}
	t.Skipf("there is no %s: apt install %s", name, pkg)
	return ""
}

func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String())
}

// start starts a program that lives as long as the test, and waits until it listens.
func start(t *testing.T, listens netip.AddrPort, cmd *exec.Cmd) {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 5 * time.Second
	ok(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("%s said last: %s", cmd.Path, out.Bytes()[max(0, out.Len()-2000):])
		}
	})
	if !listens.IsValid() {
		return
	}
	for began := time.Now(); time.Since(began) < 20*time.Second; time.Sleep(50 * time.Millisecond) {
		if c, err := net.Dial("tcp", listens.String()); err == nil {
			c.Close()
			return
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%s ended: %v: %s", cmd.Path, err, &out)
		default:
		}
	}
	t.Fatalf("%s does not listen", cmd.Path)
}
