package quic_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/qpack"
	quicgo "github.com/sagernet/quic-go"
	"github.com/sagernet/quic-go/http3"
	"github.com/sagernet/quic-go/quicvarint"

	"github.com/godwit-vpn/godwit/internal/decoy"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transport/transporttest"
	"github.com/godwit-vpn/godwit/internal/transports/quic"
)

// stock is the library's server with the same website and certificate, and without a door.
func stock(t *testing.T, cert tls.Certificate) (addr string) {
	t.Helper()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http3.Server{Handler: website, Logger: slog.New(slog.DiscardHandler),
		TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: []tls.Certificate{cert}}), QUICConfig: &quicgo.Config{}}
	served := make(chan struct{})
	go func() { defer close(served); s.Serve(udp) }()
	t.Cleanup(func() { s.Close(); <-served; udp.Close() })
	return udp.LocalAddr().String()
}

// connectQUIC makes a connection of a stranger's.
func connectQUIC(t *testing.T, addr string, groups ...tls.CurveID) *quicgo.Conn {
	t.Helper()
	c, err := quicgo.DialAddr(t.Context(), addr, &tls.Config{InsecureSkipVerify: true, ServerName: name, NextProtos: []string{"h3"},
		CurvePreferences: groups}, &quicgo.Config{EnableDatagrams: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.CloseWithError(0x100, "") })
	return c
}

// headers is a request for the first page with more fields.
func headers(fields ...string) []byte {
	var b bytes.Buffer
	enc := qpack.NewEncoder(&b)
	for _, f := range append([]string{":method GET", ":scheme https", ":authority " + name, ":path /"}, fields...) {
		k, v, _ := strings.Cut(f, " ")
		enc.WriteField(qpack.HeaderField{Name: k, Value: v})
	}
	return frame(1, b.Bytes())
}

func frame(kind uint64, b []byte) []byte {
	return append(quicvarint.Append(quicvarint.Append(nil, kind), uint64(len(b))), b...)
}

// outcome is what became of a stream on which b was said, and of its connection.
func outcome(t *testing.T, c *quicgo.Conn, b []byte, end string) string {
	t.Helper()
	s, err := c.OpenStream()
	if err != nil {
		return "no stream: " + err.Error()
	}
	s.Write(b)
	switch end {
	case "FIN":
		s.Close()
	case "reset":
		time.Sleep(50 * time.Millisecond) // what was said is to come first
		s.CancelWrite(7)
	}
	s.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	got, err := io.ReadAll(s)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		err = errors.New("it waits")
	}
	return fmt.Sprintf("%s, %v", answer(got), err)
}

// answer describes an answer: the date's length is not always the same.
func answer(b []byte) (s string) {
	for len(b) > 0 {
		kind, n, err := quicvarint.Parse(b)
		if err != nil {
			return fmt.Sprintf("%s%x", s, b)
		}
		length, m, err := quicvarint.Parse(b[n:])
		if err != nil || len(b) < n+m+int(length) {
			return fmt.Sprintf("%s%x", s, b)
		}
		body := b[n+m:][:length]
		b = b[n+m+int(length):]
		if kind != 1 {
			s += fmt.Sprintf("frame %d of %d; ", kind, length)
			continue
		}
		var fields []string // the library writes them in an order that is another one every time
		next := qpack.NewDecoder().Decode(body)
		for f, err := next(); err == nil; f, err = next() {
			if f.Name != "date" {
				fields = append(fields, f.Name+": "+f.Value)
			}
		}
		slices.Sort(fields)
		s += strings.Join(fields, "; ") + "; "
	}
	return s
}

// Whatever a stranger says first, the gateway answers as the library's own server does.
func TestStrangersMeetTheWebsite(t *testing.T) {
	w := start(t)
	cert := certificate(t)
	plain := stock(t, cert)
	cookie, length := decoy.CookieFor(w.Endpoint.Pins[0])
	value := strings.Repeat("A", length)
	random := make([]byte, 300)
	rand.Read(random)
	whole := headers("cookie " + cookie + "=" + value)
	long := func(n int) []byte { return headers("cookie x=" + strings.Repeat("y", n)) }
	for probe, b := range map[string][]byte{
		"a request":                        headers(),
		"a cookie like a knock":            whole,
		"such a cookie among others":       headers("cookie a=b; "+cookie+"="+value, "cookie c=d"),
		"a cookie that is no base64":       headers("cookie " + cookie + "=" + strings.Repeat("!", length)),
		"a long request":                   long(1900),
		"a longer request":                 long(5000),
		"a request that is too long":       long(2 << 20),
		"the beginning of a request":       whole[:len(whole)/2],
		"the beginning: a type":            {1},
		"the beginning: half a length":     {1, 0x44},
		"DATA":                             frame(0, []byte("data")),
		"SETTINGS":                         frame(4, nil),
		"a reserved frame, then a request": append(frame(0x21, []byte("x")), headers()...),
		"the type in eight bytes":          append([]byte{0xc0, 0, 0, 0, 0, 0, 0}, whole...),
		"HEADERS without fields":           frame(1, nil),
		"HEADERS of garbage":               frame(1, random),
		"HEADERS of the static table":      frame(1, append([]byte{0, 0}, bytes.Repeat([]byte{0xc0 | 29}, 1000)...)),
		"garbage":                          random,
		"nothing":                          nil,
	} {
		for _, end := range []string{"FIN", "reset", ""} {
			if end == "" && b == nil {
				continue // no stream is there until something is said
			}
			if end == "reset" && !strings.HasPrefix(probe, "the beginning") {
				continue // whether the server has answered by then is chance
			}
			t.Run(probe+" "+end, func(t *testing.T) {
				t.Parallel()
				if got, want := outcome(t, connectQUIC(t, w.Endpoint.Addr), b, end), outcome(t, connectQUIC(t, plain), b, end); got != want {
					t.Errorf("the gateway: %s\nthe library's server: %s", got, want)
				}
			})
		}
	}
}

// What the handshake shows of the gateway is what the library's server shows.
func TestHandshakeIsTheLibrarys(t *testing.T) {
	w := start(t)
	ours, theirs := connectQUIC(t, w.Endpoint.Addr).ConnectionState(), connectQUIC(t, stock(t, certificate(t))).ConnectionState()
	describe := func(s quicgo.ConnectionState) string {
		return fmt.Sprint(s.Version, s.TLS.CipherSuite, s.TLS.CurveID, s.TLS.NegotiatedProtocol, s.SupportsDatagrams, s.SupportsStreamResetPartialDelivery)
	}
	if describe(ours) != describe(theirs) {
		t.Errorf("the gateway: %s\nthe library's server: %s", describe(ours), describe(theirs))
	}
}

// knockOn knocks on a connection that is not of our client's making, as somebody who knows how.
func knockOn(t *testing.T, w transporttest.World, c *quicgo.Conn, on int) (opened bool) {
	t.Helper()
	state := c.ConnectionState()
	k, err := transporttest.Key{}.Knock(secured{state.TLS, w.Endpoint.Pins[0]})
	if err != nil {
		t.Fatal(err)
	}
	cookie, length := decoy.CookieFor(w.Endpoint.Pins[0])
	value := base64.RawURLEncoding.EncodeToString(append(k, make([]byte, base64.RawURLEncoding.DecodedLen(length)-len(k))...))
	accepted := make(chan bool, 1) // nobody may look
	go func() {
		_, err := w.Listener.Accept()
		accepted <- err == nil
	}()
	for n := range on {
		s, err := c.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		if n < on-1 {
			s.Write(headers())
			s.Close()
			io.ReadAll(s)
			continue
		}
		s.Write(headers("cookie " + cookie + "=" + value))
	}
	select {
	case opened = <-accepted:
	case <-time.After(300 * time.Millisecond):
	}
	return opened
}

type secured struct {
	state tls.ConnectionState
	key   [32]byte
}

func (s secured) Export(label string, context []byte, n int) ([]byte, error) {
	return s.state.ExportKeyingMaterial(label, context, n)
}
func (s secured) ServerKey() [32]byte { return s.key }

// The door opens to the first request of a connection whose keys are post-quantum, and to no other.
func TestWhereTheDoorIs(t *testing.T) {
	w := start(t)
	if !knockOn(t, w, connectQUIC(t, w.Endpoint.Addr), 1) {
		t.Fatal("the door does not open to who knocks") // and so the rest shows nothing
	}
	w = start(t)
	if knockOn(t, w, connectQUIC(t, w.Endpoint.Addr, tls.X25519), 1) {
		t.Error("it opened to keys of X25519 alone")
	}
	w = start(t)
	if knockOn(t, w, connectQUIC(t, w.Endpoint.Addr), 2) {
		t.Error("it opened to the second request")
	}
}

// Who is too many is sent away, and those elsewhere are not kept out. A link is no visitor.
func TestRoom(t *testing.T) {
	w := start(t)
	client, server := connectLink(t, w)
	var conns []*quicgo.Conn
	for range 100 { // more than there is room for of one prefix, which is at most 79
		conns = append(conns, connectQUIC(t, w.Endpoint.Addr))
	}
	deadline := time.Now().Add(5 * time.Second)
	for slices.IndexFunc(conns[:20], func(c *quicgo.Conn) bool { return c.Context().Err() == nil }) >= 0 {
		if time.Now().After(deadline) {
			t.Fatal("the first of a hundred visitors are still there")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if conns[99].Context().Err() != nil {
		t.Error("the last visitor was sent away")
	}
	pingPong(t, client, server)
}

// Those who have come go on when the listener takes nobody new.
func TestDrain(t *testing.T) {
	w := start(t)
	client, server := connectLink(t, w)
	drained := make(chan struct{})
	go func() {
		w.Listener.(transport.Drainer).Drain(t.Context())
		close(drained)
	}()
	<-drained // there are no visitors
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if c, err := w.Dialer.Dial(ctx, w.Endpoint); err == nil {
		c.Close()
		t.Error("somebody came in")
	}
	pingPong(t, client, server)
	w.Listener.Close()
	client.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.Copy(io.Discard, client); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the client was not told that the gateway has gone: %v", err)
	}
}

// A successor has the same socket, and waits until the process before it has left it: links go on, and then others come.
func TestSuccessor(t *testing.T) {
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	cert := certificate(t)
	key := transport.KeyHash(cert.Leaf)
	begin := make(chan struct{})
	config := quic.ListenConfig{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil },
		Key:            key, Door: transporttest.Lock{}, Website: website, Tickets: [32]byte{1},
	}
	file, err := udp.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	inherited, err := net.FilePacketConn(file)
	if err != nil {
		t.Fatal(err)
	}
	old, err := quic.Listen(udp, config)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	config.Begin = begin
	young, err := quic.Listen(inherited, config)
	if err != nil {
		t.Fatal(err)
	}
	defer young.Close()
	w := transporttest.World{Dialer: &quic.Dialer{}, Listener: old, Endpoint: transport.Endpoint{Addr: udp.LocalAddr().String(),
		Name: name, Pins: [][32]byte{key}, Opener: transporttest.Key{}}}
	client, server := connectLink(t, w)
	old.Drain(t.Context())
	for range 20 { // a process that read along would take some of it away
		pingPong(t, client, server)
	}
	old.Close()
	close(begin)
	w.Listener = young
	client, server = connectLink(t, w)
	pingPong(t, client, server)
}

// connectLink makes a link.
func connectLink(t *testing.T, w transporttest.World) (client, server transport.Conn) {
	t.Helper()
	accepted := make(chan transport.Conn, 1) // the test may have ended
	go func() {
		c, err := w.Listener.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	client, err := w.Dialer.Dial(t.Context(), w.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	server = <-accepted
	t.Cleanup(func() { client.Close(); server.Close() })
	server.Write([]byte{0}) // the marker goes ahead of it, and filler behind
	if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return client, server
}

// pingPong shows that bytes go up.
func pingPong(t *testing.T, client, server transport.Conn) {
	t.Helper()
	client.Write([]byte("still there"))
	b := make([]byte, 11)
	server.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(server, b); err != nil || string(b) != "still there" {
		t.Fatalf("the gateway reads %q, %v", b, err)
	}
}
