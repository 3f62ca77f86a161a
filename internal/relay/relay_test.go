package relay_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/godwit-vpn/godwit/internal/link"
	"github.com/godwit-vpn/godwit/internal/relay"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transport/transporttest"
	"github.com/godwit-vpn/godwit/internal/transports/https"
	through "github.com/godwit-vpn/godwit/internal/transports/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var keyID = [8]byte{7}

// website serves with a key and a door until the test ends.
func website(t *testing.T, key *ecdsa.PrivateKey, door transport.Door) (l transport.Listener, pin [32]byte) {
	t.Helper()
	cert := transporttest.Certificate(t, key)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l = https.Listen(tcp, https.ListenConfig{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil },
		Key:            transport.KeyHash(cert.Leaf),
		Door:           door,
		Website:        http.NotFoundHandler(),
	})
	t.Cleanup(func() { l.Close() })
	return l, transport.KeyHash(cert.Leaf)
}

// startWith runs a gateway and a relay of it.
func startWith(t *testing.T, cfg relay.Config) (transporttest.World, *relay.Relay) {
	t.Helper()
	homeKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	home, pin := website(t, homeKey, transporttest.Lock{})
	cfg.Key = relay.Key{1, 2, 3}
	if cfg.Homes == nil {
		cfg.Homes = []string{home.Addr().String()}
	}
	r := relay.New(cfg)
	t.Cleanup(r.Close)
	l, relayPin := website(t, cfg.Key.TLSKey(), r.Door(transporttest.Lock{}))
	if relayPin != cfg.Key.Pin() {
		t.Fatal("the relay's certificate has another pin than its key says")
	}
	entered := r.Listener(l)
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			c, err := entered.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-accepting })
	return transporttest.World{
		Dialer:   new(through.Dialer),
		Listener: home,
		Endpoint: transport.Endpoint{Addr: home.Addr().String(), Name: "site.example", Pins: [][32]byte{pin}, Opener: transporttest.Key{},
			Via: &transport.Endpoint{Addr: l.Addr().String(), Name: "relay.example", Pins: [][32]byte{relayPin},
				Opener: link.Pass{KeyID: keyID, Secret: cfg.Key.DoorSecret(keyID)}}},
	}, r
}

func TestConformance(t *testing.T) {
	transporttest.Run(t, func(t *testing.T) transporttest.World {
		w, _ := startWith(t, relay.Config{})
		return w
	})
}

// And for a client that keeps the tickets of both.
func TestConformanceWithTickets(t *testing.T) {
	transporttest.Run(t, func(t *testing.T) transporttest.World {
		w, _ := startWith(t, relay.Config{})
		w.Endpoint.Network, w.Endpoint.Via.Network = "home", "home"
		return w
	})
}

// open makes a connection through the relay and says something, both ways.
func open(t *testing.T, w transporttest.World) transport.Conn {
	t.Helper()
	accepted := make(chan transport.Conn, 1)
	go func() {
		c, err := w.Listener.Accept()
		if err != nil {
			c = nil
		}
		accepted <- c
	}()
	c, err := w.Dialer.Dial(t.Context(), w.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	server := <-accepted
	if server == nil {
		t.Fatal("nobody came")
	}
	t.Cleanup(func() { server.Close() })
	return c
}

func TestLimits(t *testing.T) {
	w, r := startWith(t, relay.Config{PipesPerKey: 2, Pipes: 3})
	first := open(t, w)
	open(t, w)
	refused := func(what string, w transporttest.World) {
		t.Helper()
		c, err := w.Dialer.Dial(t.Context(), w.Endpoint)
		if err == nil {
			c.Close()
			t.Errorf("%s: let in", what)
		}
		var de *transport.DialError
		if !errors.As(err, &de) || de.Transport != through.Name {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("a third of one access key", w)
	other := w
	via := *w.Endpoint.Via
	id := [8]byte{8}
	via.Opener = link.Pass{KeyID: id, Secret: relay.Key{1, 2, 3}.DoorSecret(id)}
	other.Endpoint.Via = &via
	open(t, other)
	third := w
	another := via
	id = [8]byte{9}
	another.Opener = link.Pass{KeyID: id, Secret: relay.Key{1, 2, 3}.DoorSecret(id)}
	third.Endpoint.Via = &another
	refused("a fourth of all", third)
	if st := r.Status(); st.Pipes != 3 || st.Users != 2 || st.Refused != 2 {
		t.Errorf("%+v", st)
	}
	first.Close()
	for deadline := time.Now().Add(10 * time.Second); r.Status().Pipes > 2; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a pipe does not end with its client")
		}
	}
	open(t, w)
}

// Whoever has no key of the relay is a stranger there, whatever else they have.
func TestStrangers(t *testing.T) {
	w, r := startWith(t, relay.Config{})
	via := *w.Endpoint.Via
	via.Opener = link.Pass{KeyID: keyID, Secret: [16]byte{1}}
	w.Endpoint.Via = &via
	if _, err := w.Dialer.Dial(t.Context(), w.Endpoint); err == nil {
		t.Error("a wrong secret opens the relay's door")
	}
	if st := r.Status(); st.Pipes != 0 || st.Refused != 0 {
		t.Errorf("%+v", st)
	}
}

// The second home serves when the first does not answer.
func TestHomes(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	w, _ := startWith(t, relay.Config{Homes: []string{gone.Addr().String()}})
	if _, err := w.Dialer.Dial(t.Context(), w.Endpoint); err == nil {
		t.Error("a dial through a relay whose gateway is gone succeeds")
	}
	homeKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	home, pin := website(t, homeKey, transporttest.Lock{})
	w, _ = startWith(t, relay.Config{Homes: []string{gone.Addr().String(), home.Addr().String()}})
	w.Listener, w.Endpoint.Pins = home, [][32]byte{pin}
	open(t, w)
}

// A rate bounds what one access key gets, and nothing is lost of it.
func TestRate(t *testing.T) {
	const per = 4 << 20 // bytes a second
	w, _ := startWith(t, relay.Config{Rate: per})
	accepted := make(chan transport.Conn, 1)
	go func() {
		c, _ := w.Listener.Accept()
		accepted <- c
	}()
	c, err := w.Dialer.Dial(t.Context(), w.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	server := <-accepted
	defer server.Close()
	sent := bytes.Repeat([]byte("relayed "), 3*per/16)
	began := time.Now()
	go c.Write(sent)
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(server, got); err != nil || !bytes.HasSuffix(got, []byte("relayed ")) {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 250*time.Millisecond { // 1.5 times a second's worth, of which a MiB may come at once
		t.Errorf("%d bytes in %v", len(sent), took)
	}
}
