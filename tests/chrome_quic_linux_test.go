package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	quicgo "github.com/sagernet/quic-go"
	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/internal/clienthello"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transport/transporttest"
	"github.com/godwit-vpn/godwit/internal/transports/quic"
	"github.com/godwit-vpn/godwit/lab/firewall/look"
	"github.com/godwit-vpn/godwit/tests/visitors"
)

// quicConn is how one QUIC connection began, as a firewall sees it.
type quicConn struct {
	sizes    []int  // of the first datagrams
	ecn      string // what IP's header says in them of ECN
	initials []*look.Initial
	hello    *clienthello.Hello
}

// TestChromeQUIC compares how our client's QUIC connections begin with how those of Debian's Chromium do, on loopback.
// When it fails, Chrome has changed: see docs/chrome.md.
func TestChromeQUIC(t *testing.T) {
	needNamespaces(t)
	need(t, "chromium")
	h := newHost(t, "browser")
	dir := t.TempDir()
	cert := (&site{ca: filepath.Join(dir, "ca.pem")}).certificate(t)
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	rec := recordQUIC(t, h, cert, leaf)
	for i := range 4 {
		if err := visitByQUIC(t.Context(), h, leaf, filepath.Join(dir, "chromium"+strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
	}
	browser := rec.take(t)
	for range 8 {
		var c transport.Conn
		if err := h.do(func() (err error) {
			c, err = (&quic.Dialer{}).Dial(t.Context(), transport.Endpoint{Addr: recorderAddr, Name: recorderName,
				Pins: [][32]byte{transport.KeyHash(leaf)}, Opener: transporttest.Key{}})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	ours := rec.take(t)
	t.Logf("Chromium: %d connections, JA4 %s; ours: %d", len(browser), browser[0].ja4(), len(ours))
	want := browser[0].fields(t)
	for who, conns := range map[string][]*quicConn{"Chromium": browser, "ours": ours} {
		for _, c := range conns {
			for _, d := range visitors.FieldDifferences(want, c.fields(t), "Chromium", who) {
				t.Error(d)
			}
		}
	}
	// A connection with the hello that the library has for Chrome, which is older, shows that this test sees something.
	if err := h.do(func() error {
		udp, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer udp.Close()
		to, err := net.ResolveUDPAddr("udp", recorderAddr)
		if err != nil {
			return err
		}
		tr := &quicgo.Transport{Conn: udp, ConnectionIDGenerator: quicgo.ZeroLengthConnectionIDGenerator{}}
		defer tr.Close()
		c, err := tr.Dial(t.Context(), to, &tls.Config{ServerName: recorderName, InsecureSkipVerify: true, NextProtos: []string{"h3"}},
			&quicgo.Config{ChromeParrot: true})
		if err != nil {
			return err
		}
		return c.CloseWithError(0x100, "")
	}); err != nil {
		t.Fatal(err)
	}
	if visitors.FieldDifferences(want, rec.take(t)[0].fields(t), "", "") == nil {
		t.Error("the library's own Chrome looks like Chromium, so this test sees nothing, or ours is needed no more")
	}
	// What differs from one connection to the next must do so within what the other's does.
	frames := func(conns []*quicConn, of func(*quicConn) int) (least, most int) {
		least = 1 << 30
		for _, c := range conns {
			least, most = min(least, of(c)), max(most, of(c))
		}
		return least, most
	}
	for name, of := range map[string]func(*quicConn) int{
		"CRYPTO frames": func(c *quicConn) int { return c.count(6) },
		"PING frames":   func(c *quicConn) int { return c.count(1) },
		"PADDING runs":  func(c *quicConn) int { return c.count(0) },
	} {
		bl, bm := frames(browser, of)
		ol, om := frames(ours, of)
		t.Logf("%s in the first two Initials: Chromium %d to %d, ours %d to %d", name, bl, bm, ol, om)
		if om < bl || ol > bm {
			t.Errorf("%s: Chromium sends %d to %d, we %d to %d", name, bl, bm, ol, om)
		}
	}
}

// count counts the frames of a type in the Initials with the hello.
func (c *quicConn) count(kind byte) (n int) {
	for _, i := range c.initials {
		for _, f := range i.Frames {
			if f == kind {
				n++
			}
		}
	}
	return n
}

// ja4 is the hello's, as over QUIC.
func (c *quicConn) ja4() string { return "q" + c.hello.JA4()[1:] }

// fields is what all connections of a browser have in common.
func (c *quicConn) fields(t *testing.T) []clienthello.Field {
	t.Helper()
	all := c.hello.Fields()
	// The transport parameters are in another order every time, and one of them means nothing. So are the extensions, with
	// no GREASE at the ends as there is over TCP.
	parameters, ok := c.hello.Extension(57)
	if !ok {
		t.Fatal("a hello without transport parameters")
	}
	all = slices.DeleteFunc(all, func(f clienthello.Field) bool {
		return f.Name == "first extension" || f.Name == "last extension" || strings.Contains(f.Name, "0039") ||
			strings.Contains(f.Name, "quic_transport_parameters")
	})
	add := func(name, format string, args ...any) {
		all = append(all, clienthello.Field{Name: name, Value: fmt.Sprintf(format, args...)})
	}
	var lines []string
	for len(parameters) > 0 {
		id, n := varint(parameters)
		length, m := varint(parameters[n:])
		value := parameters[n+m:][:length]
		parameters = parameters[n+m+int(length):]
		switch {
		case id%31 == 27:
			lines = append(lines, "GREASE of "+strconv.Itoa(n)+" bytes")
		case id == 0x11: // versions: the chosen one, and those that are known, of which one means nothing
			known := 0
			for at := 4; at+4 <= len(value); at += 4 {
				if value[at]&0xf != 0xa {
					known++
				}
			}
			lines = append(lines, fmt.Sprintf("11: chose %x of %d, %d of them known", value[:4], len(value)/4-1, known))
		default:
			lines = append(lines, fmt.Sprintf("%x: %x", id, value))
		}
	}
	slices.Sort(lines)
	add("transport parameters", "%s", strings.Join(lines, "; "))
	first := c.initials[0]
	add("ECN marks", "%s", slices.Compact(slices.Sorted(slices.Values([]byte(c.ecn)))))
	add("QUIC version", "%x", first.Version)
	add("first datagrams", "%v", c.sizes[:len(c.initials)])
	add("connection ids", "destination %d bytes, source %d", len(first.DestID), len(first.SourceID))
	add("packet number", "%d bytes", first.PacketNumber)
	add("JA4", "%s", c.ja4())
	return all
}

func varint(b []byte) (v uint64, n int) {
	n = 1 << (b[0] >> 6)
	v = uint64(b[0] & 0x3f)
	for _, c := range b[1:n] {
		v = v<<8 | uint64(c)
	}
	return v, n
}

// quicRecorder stands before a gateway and keeps how connections begin.
type quicRecorder struct {
	mu    sync.Mutex
	conns map[string][][]byte // a client's first datagrams
	ecn   map[string]string   // what IP's header said, a digit for each
	taken map[string]bool     // clients whose last words may still come
}

// recordQUIC runs a gateway's website with a door, on UDP, behind a recorder at recorderAddr.
func recordQUIC(t *testing.T, h *host, cert tls.Certificate, leaf *x509.Certificate) *quicRecorder {
	t.Helper()
	var inner net.PacketConn
	var front *net.UDPConn
	if err := h.do(func() (err error) {
		if inner, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			return err
		}
		lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) (err error) {
			return errors.Join(rc.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVTOS, 1) }), err)
		}}
		c, err := lc.ListenPacket(t.Context(), "udp4", recorderAddr)
		if err == nil {
			front = c.(*net.UDPConn)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	l, err := quic.Listen(inner, quic.ListenConfig{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil },
		Key:            transport.KeyHash(leaf), Door: transporttest.Lock{},
		Website: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<!doctype html><title>recorded</title>recorded")
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &quicRecorder{conns: map[string][][]byte{}, ecn: map[string]string{}, taken: map[string]bool{}}
	var wg sync.WaitGroup
	backs := map[string]net.PacketConn{}
	wg.Go(func() {
		for {
			if c, err := l.Accept(); err != nil {
				return
			} else {
				c.Close()
			}
		}
	})
	wg.Go(func() {
		b, oob := make([]byte, 2048), make([]byte, 128)
		for {
			n, m, _, from, err := front.ReadMsgUDP(b, oob)
			if err != nil {
				break
			}
			who := from.String()
			r.mu.Lock()
			if len(r.conns[who]) < 12 && !r.taken[who] {
				r.conns[who] = append(r.conns[who], bytes.Clone(b[:n]))
				if messages, err := unix.ParseSocketControlMessage(oob[:m]); err == nil && len(messages) == 1 {
					r.ecn[who] += strconv.Itoa(int(messages[0].Data[0] & 3))
				}
			}
			r.mu.Unlock()
			back := backs[who]
			if back == nil {
				if h.do(func() (err error) { back, err = net.ListenPacket("udp", "127.0.0.1:0"); return err }) != nil {
					continue
				}
				backs[who] = back
				wg.Go(func() {
					b := make([]byte, 2048)
					for {
						n, _, err := back.ReadFrom(b)
						if err != nil {
							return
						}
						front.WriteTo(b[:n], from)
					}
				})
			}
			back.WriteTo(b[:n], inner.LocalAddr())
		}
		for _, back := range backs {
			back.Close()
		}
	})
	t.Cleanup(func() { l.Close(); front.Close(); wg.Wait() })
	return r
}

// take returns the connections that have begun.
func (r *quicRecorder) take(t *testing.T) (all []*quicConn) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for who, datagrams := range r.conns {
		r.taken[who] = true
		c := &quicConn{ecn: r.ecn[who]}
		var pieces []look.Piece
		for _, d := range datagrams {
			c.sizes = append(c.sizes, len(d))
			i, err := look.QUICInitial(d)
			if err != nil || len(i.Crypto) == 0 || c.hello != nil {
				continue
			}
			c.initials = append(c.initials, i)
			pieces = append(pieces, i.Crypto...)
			if hello, err := look.CryptoHello(look.Join(pieces)); err == nil {
				c.hello = hello
			}
		}
		if c.hello == nil {
			t.Errorf("a connection began with datagrams of %v bytes and no hello", c.sizes)
			continue
		}
		all = append(all, c)
	}
	clear(r.conns)
	clear(r.ecn)
	if len(all) == 0 {
		t.Fatal("nobody came")
	}
	return all
}

// visitByQUIC has Chromium load the recorder's page over QUIC.
func visitByQUIC(ctx context.Context, h *host, leaf *x509.Certificate, data string) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo) // over QUIC it minds a certificate that it was told not to
	dom, complaint, err := output(ctx, h.command("chromium", "--headless=new", "--no-sandbox", "--disable-gpu",
		"--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "--disable-component-update",
		"--disable-sync", "--ignore-certificate-errors-spki-list="+base64.StdEncoding.EncodeToString(sum[:]),
		"--enable-quic", "--origin-to-force-quic-on="+recorderName+":443", "--host-resolver-rules=MAP "+recorderName+" 127.0.0.1",
		"--user-data-dir="+data, "--dump-dom", "https://"+recorderName+"/"))
	if err == nil && !strings.Contains(dom, "recorded") {
		err = errors.New("the page did not load")
	}
	if err != nil {
		return fmt.Errorf("%w\n%s\n%s", err, dom, complaint)
	}
	return nil
}
