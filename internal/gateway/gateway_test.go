package gateway_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/device"
	"github.com/godwit-vpn/godwit/internal/device/secretfile"
	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/gateway"
	"github.com/godwit-vpn/godwit/internal/gatewaydir"
	"github.com/godwit-vpn/godwit/internal/link"
	"github.com/godwit-vpn/godwit/internal/packet"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/https"
	"github.com/godwit-vpn/godwit/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, goleak.IgnoreCurrent()) }

// world is a running gateway and an access key for it.
type world struct {
	dir  *gatewaydir.Dir
	g    *gateway.Gateway
	key  accesskey.Key
	stop func()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir, _, err := gatewaydir.Init(t.Context(), filepath.Join(t.TempDir(), "state"), []string{"gateway.example:443"},
		slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	dir.Settings.Listen = []string{"127.0.0.1:0"}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().(*net.TCPAddr)
	l.Close()
	dir.Settings.Listen = []string{addr.String()}
	dir.Settings.Egress.Allow = []string{"127.0.0.0/8"}
	g, err := dir.Service(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	k, err := dir.Control.KeyByName(t.Context(), gatewaydir.FirstKey)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{dir: dir, g: g.Gateway}
	if w.key, err = dir.AccessKey(k); err != nil {
		t.Fatal(err)
	}
	w.key.Endpoints = []accesskey.Endpoint{{Host: "127.0.0.1", Port: uint16(addr.Port)}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1) // the gateway does not wait for us
	go func() { done <- g.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the gateway ended with %v", err)
		}
		g.Close()
		dir.Close()
	})
	t.Cleanup(w.stop)
	return w
}

// visitor is one device that opens links by hand.
type visitor struct {
	w    *world
	dev  *device.Key
	cert []byte
}

func (w *world) visitor(t *testing.T) *visitor {
	dev, err := device.New(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &visitor{w: w, dev: dev}
}

func (v *visitor) knock(session wire.SessionID, flags uint16) link.Knock {
	if v.cert == nil {
		flags |= wire.HelloEnrol
	}
	return link.Knock{Transport: https.Name, KeyID: v.w.key.ID, Secret: v.w.key.Secret.Reveal(), Device: v.dev, Cert: v.cert,
		Session: session, Flags: flags}
}

// open opens a link and returns the gateway's answer.
func (v *visitor) open(t *testing.T, k link.Knock) (net.Conn, wire.Welcome, error) {
	t.Helper()
	conn, err := (&https.Dialer{}).Dial(t.Context(), transport.Endpoint{Addr: v.w.key.Endpoints[0].Addr(), Pins: v.w.key.Pins(),
		Opener: k})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	typ, body, err := wire.ReadFrame(conn, wire.MaxFrame)
	if err != nil {
		return conn, wire.Welcome{}, err
	}
	w, err := link.ParseAnswer(typ, body)
	if err == nil && w.Cert != nil {
		v.cert = w.Cert
	}
	return conn, w, err
}

func cause(err error) wire.Cause {
	var r *link.Refusal
	if errors.As(err, &r) {
		return r.Cause
	}
	return 0
}

// A session shapes as much as its client asked for when it began.
func TestShape(t *testing.T) {
	w := newWorld(t)
	v := w.visitor(t)
	for _, c := range []struct{ asked, flags, want uint64 }{
		{0, wire.HelloNew, 0}, {1, wire.HelloNew, 1}, {2, wire.HelloNew, 2}, {3, wire.HelloNew, 2}, {1<<40 | 1, wire.HelloNew, 1},
	} {
		id := wire.SessionID{byte(c.asked), byte(c.asked >> 40)}
		for range 2 { // the second time it is there already
			k := v.knock(id, uint16(c.flags))
			k.Features = c.asked
			if _, got, err := v.open(t, k); err != nil || got.Features != c.want {
				t.Errorf("asked for %#x, got %#x, %v", c.asked, got.Features, err)
			}
		}
	}
}

func TestSessions(t *testing.T) {
	w := newWorld(t)
	v := w.visitor(t)
	one := wire.SessionID{1}
	_, first, err := v.open(t, v.knock(one, wire.HelloNew))
	if err != nil || first.Flags&wire.WelcomeResumed != 0 || v.cert == nil {
		t.Fatalf("a new session: %+v, %v", first, err)
	}
	_, again, err := v.open(t, v.knock(one, 0))
	if err != nil || again.Flags&wire.WelcomeResumed == 0 || again.Addr4 != first.Addr4 {
		t.Errorf("a second link of the session: %+v, %v", again, err)
	}
	if _, _, err := v.open(t, v.knock(wire.SessionID{2}, 0)); cause(err) != wire.CauseSessionUnknown {
		t.Errorf("a session nobody knows: %v", err)
	}
	// A session id alone opens nothing: to another device it is not there.
	other := w.visitor(t)
	if _, _, err := other.open(t, other.knock(one, 0)); cause(err) != wire.CauseSessionUnknown {
		t.Errorf("another device asking for the session: %v", err)
	}
	if st := w.g.Status(); st.Sessions != 1 || st.Links != 2 {
		t.Errorf("status %+v", st)
	}
}

// A device keeps its addresses when it begins anew, unless they are still taken.
func TestAddresses(t *testing.T) {
	w := newWorld(t)
	v := w.visitor(t)
	conn, first, err := v.open(t, v.knock(wire.SessionID{1}, wire.HelloNew))
	if err != nil || first.Flags&wire.WelcomeForward != 0 {
		t.Fatalf("a gateway with sockets: %+v, %v", first, err)
	}
	for w.g.Status().Attached == 0 { // its WELCOME comes a moment before it is attached
		time.Sleep(time.Millisecond)
	}
	conn2, second, err := v.open(t, v.knock(wire.SessionID{2}, wire.HelloNew))
	if err != nil || second.Addr4 == first.Addr4 || second.Addr6 == first.Addr6 {
		t.Fatalf("a second session while the first lives: %+v, %v", second, err)
	}
	conn.Close()
	conn2.Close()
	for deadline := time.Now().Add(10 * time.Second); w.g.Status().Links > 0 || w.g.Status().Attached > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the links do not end")
		}
	}
	_, third, err := v.open(t, v.knock(wire.SessionID{3}, wire.HelloNew))
	if err != nil || third.Addr4 != first.Addr4 || third.Addr6 != first.Addr6 {
		t.Errorf("a session after them has %v, %v, not %v, %v: %v", third.Addr4, third.Addr6, first.Addr4, first.Addr6, err)
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	v := w.visitor(t)
	if _, _, err := v.open(t, v.knock(wire.SessionID{1}, wire.HelloNew)); err != nil {
		t.Fatal(err)
	}
	t.Run("another device's certificate", func(t *testing.T) {
		thief := w.visitor(t)
		thief.cert = v.cert
		if _, _, err := thief.open(t, thief.knock(wire.SessionID{1}, 0)); cause(err) != wire.CauseProof {
			t.Errorf("got %v", err)
		}
	})
	t.Run("another access key's door", func(t *testing.T) {
		k, err := w.dir.Control.AddKey(t.Context(), control.AccessKey{Name: "other", MaxDevices: 1})
		if err != nil {
			t.Fatal(err)
		}
		knock := v.knock(wire.SessionID{1}, 0)
		knock.KeyID, knock.Secret = k.ID, w.dir.Secrets.DoorSecret(k.ID)
		if _, _, err := v.open(t, knock); cause(err) != wire.CauseProof {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a key nobody made", func(t *testing.T) {
		stranger := w.visitor(t)
		knock := stranger.knock(wire.SessionID{1}, wire.HelloNew)
		knock.KeyID = [8]byte{9, 9}
		knock.Secret = w.dir.Secrets.DoorSecret(knock.KeyID)
		if _, _, err := stranger.open(t, knock); cause(err) != wire.CauseKeyUnknown {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no device", func(t *testing.T) {
		for name, want := range map[string]wire.Cause{"good": wire.CauseProof, "revoked": wire.CauseKeyRevoked} {
			k, err := w.dir.Control.AddKey(t.Context(), control.AccessKey{Name: name, MaxDevices: 1})
			if err != nil {
				t.Fatal(err)
			}
			if name == "revoked" {
				if err := w.dir.Control.RevokeKey(t.Context(), name); err != nil {
					t.Fatal(err)
				}
			}
			stranger := w.visitor(t)
			knock := stranger.knock(wire.SessionID{1}, 0)
			knock.KeyID, knock.Secret, knock.Flags = k.ID, w.dir.Secrets.DoorSecret(k.ID), wire.HelloNew
			if _, _, err := stranger.open(t, knock); cause(err) != want {
				t.Errorf("%s: got %v", name, err)
			}
			if n, err := w.dir.Control.Devices(t.Context(), control.DeviceFilter{KeyID: k.ID}); err != nil || len(n) != 0 {
				t.Errorf("%s: it took a place: %v, %v", name, n, err)
			}
		}
	})
	t.Run("a wrong door secret", func(t *testing.T) {
		stranger := w.visitor(t)
		knock := stranger.knock(wire.SessionID{1}, wire.HelloNew)
		knock.Secret[0] ^= 1
		if _, _, err := stranger.open(t, knock); err == nil || cause(err) != 0 {
			t.Errorf("got %v: a stranger must be told nothing", err)
		}
	})
	t.Run("a revoked key", func(t *testing.T) {
		if err := w.dir.Control.RevokeKey(t.Context(), gatewaydir.FirstKey); err != nil {
			t.Fatal(err)
		}
		if _, _, err := v.open(t, v.knock(wire.SessionID{1}, 0)); cause(err) != wire.CauseKeyRevoked {
			t.Errorf("got %v", err)
		}
		// CLOSE waits a second for an acknowledgement that this visitor never sends: a busy machine may add to that.
		for deadline := time.Now().Add(10 * time.Second); w.g.Status().Sessions > 0; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("long after the revocation: %+v", w.g.Status())
			}
		}
	})
}

func TestRenew(t *testing.T) {
	w := newWorld(t)
	v := w.visitor(t)
	if _, _, err := v.open(t, v.knock(wire.SessionID{1}, wire.HelloNew)); err != nil {
		t.Fatal(err)
	}
	_, welcome, err := v.open(t, v.knock(wire.SessionID{1}, wire.HelloRenew))
	if err != nil || len(welcome.Cert) != device.CertificateSize {
		t.Errorf("renewing: %d bytes of certificate, %v", len(welcome.Cert), err)
	}
}

// A client that was killed leaves nothing behind once it is back.
func TestLostSessionsEnd(t *testing.T) {
	w := newWorld(t)
	v := w.visitor(t)
	conn, first, err := v.open(t, v.knock(wire.SessionID{1}, wire.HelloNew))
	if err != nil {
		t.Fatal(err)
	}
	for w.g.Status().Attached == 0 { // its WELCOME comes a moment before it is attached
		time.Sleep(time.Millisecond)
	}
	conn.Close()
	for w.g.Status().Attached > 0 {
		time.Sleep(time.Millisecond)
	}
	_, second, err := v.open(t, v.knock(wire.SessionID{2}, wire.HelloNew))
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); w.g.Status().Sessions > 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the killed client's session is still there: %+v", w.g.Status())
		}
	}
	if first.Addr4 != second.Addr4 {
		t.Errorf("the device has the address %v, and had %v", second.Addr4, first.Addr4)
	}
}

// Packets in another's name go nowhere; one's own are carried.
func TestPacketSource(t *testing.T) {
	w := newWorld(t)
	echo, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	to := netip.MustParseAddrPort(echo.LocalAddr().String())
	v := w.visitor(t)
	conn, welcome, err := v.open(t, v.knock(wire.SessionID{1}, wire.HelloNew))
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []netip.Addr{welcome.Addr4.Next(), netip.MustParseAddr("127.0.0.1"), welcome.Addr4} {
		p, err := packet.AppendUDP(nil, netip.AddrPortFrom(from, 1000), to, []byte(from.String()))
		if err != nil {
			t.Fatal(err)
		}
		conn.Write(wire.AppendPacket(nil, p))
	}
	echo.SetReadDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 100)
	n, _, err := echo.ReadFrom(b)
	if err != nil || string(b[:n]) != welcome.Addr4.String() {
		t.Errorf("the first packet through was %q, %v", b[:n], err)
	}
}

// A gateway that stops says so and lets nobody in.
func TestStops(t *testing.T) {
	w := newWorld(t)
	v := w.visitor(t)
	conn, _, err := v.open(t, v.knock(wire.SessionID{1}, wire.HelloNew))
	if err != nil {
		t.Fatal(err)
	}
	for w.g.Status().Links == 0 { // its WELCOME comes a moment before it is attached
		time.Sleep(time.Millisecond)
	}
	go w.stop()
	seen := map[wire.Type]bool{}
	for {
		typ, body, err := wire.ReadFrame(conn, wire.MaxFrame)
		if err != nil {
			break
		}
		seen[typ] = true
		if typ == wire.TypeClose {
			seq, rest, _ := wire.ParseSeq(body)
			if code, err := wire.ParseClose(rest); err != nil || code != flow.CodeSessionLost {
				t.Errorf("CLOSE with code %v, %v", code, err)
			}
			conn.Write(wire.AppendAck(nil, wire.Ack{Next: seq + 1}))
		}
	}
	if !seen[wire.TypeGoAway] || !seen[wire.TypeClose] {
		t.Errorf("the gateway stopped saying only %v", seen)
	}
	w.stop()
}

// Whoever sends nonsense behind the door loses the link and nothing else.
func TestNonsense(t *testing.T) {
	w := newWorld(t)
	v := w.visitor(t)
	for name, b := range map[string][]byte{
		"a frame too long":         {byte(wire.TypeData), 0xff, 0xff, 0xff},
		"an ACK of nothing sent":   wire.AppendAck(nil, wire.Ack{Next: 1 << 40}),
		"an odd stream":            wire.AppendOpen(nil, wire.Open{Stream: 1, Target: flow.Target{Host: "x.example", Port: 1}}),
		"HELLO again":              wire.AppendHello(nil, wire.Hello{}),
		"a number far away":        func() []byte { b := wire.AppendVoid(nil); wire.PutSeq(b, 1<<40); return b }(),
		"an answer to no question": wire.AppendWelcome(nil, wire.Welcome{Addr4: netip.IPv4Unspecified(), Addr6: netip.IPv6Unspecified()}),
	} {
		t.Run(name, func(t *testing.T) {
			conn, _, err := v.open(t, v.knock(wire.SessionID{1}, wire.HelloNew))
			if err != nil {
				t.Fatal(err)
			}
			conn.Write(b)
			if _, err := io.Copy(io.Discard, conn); err != nil && errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the link goes on: %v", err)
			}
		})
	}
	if _, _, err := v.open(t, v.knock(wire.SessionID{1}, wire.HelloNew)); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A device whose certificate is of tomorrow hears that a clock is wrong, and what the gateway's says.
func TestWrongClock(t *testing.T) {
	w := newWorld(t)
	seed, err := secretfile.Read(filepath.Join(w.dir.Path, "keys", "control.key"), "godwit control key v1", ed25519.SeedSize)
	if err != nil {
		t.Fatal(err)
	}
	v := w.visitor(t)
	tomorrow := time.Now().Add(24 * time.Hour)
	c := device.Certificate{Network: w.dir.Secrets.Network(), AccessKey: w.key.ID, Device: [32]byte(v.dev.Public()),
		Issued: tomorrow, NotBefore: tomorrow.Add(-time.Hour), NotAfter: tomorrow.Add(device.Lifetime)}
	if v.cert, err = c.Sign(ed25519.NewKeyFromSeed(seed)); err != nil {
		t.Fatal(err)
	}
	_, _, err = v.open(t, v.knock(wire.SessionID{1}, wire.HelloNew))
	var r *link.Refusal
	if !errors.As(err, &r) || r.Cause != wire.CauseClock {
		t.Fatalf("got %v", err)
	}
	if skew := r.ClockSkew(tomorrow); skew < 23*time.Hour || skew > 25*time.Hour {
		t.Errorf("a clock a day ahead is said to be %v ahead", skew)
	}
}
