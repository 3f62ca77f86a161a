package https_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/clienthello"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transport/transporttest"
	"github.com/godwit-vpn/godwit/internal/transports/https"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
)

// The whole suite holds for a client that keeps tickets.
func TestTransportWithTickets(t *testing.T) {
	transporttest.Run(t, func(t *testing.T) transporttest.World {
		w := start(t)
		w.Endpoint.Network = "home"
		return w
	})
}

// And for one that looks like Firefox, and comes back.
func TestTransportAsFirefox(t *testing.T) {
	transporttest.Run(t, func(t *testing.T) transporttest.World {
		w := start(t)
		w.Endpoint.Network = "home"
		w.Dialer.(*https.Dialer).LookLike(chrome.BuiltIn(chrome.FamilyFirefox))
		return w
	})
}

// hellos keeps the ClientHellos that a listener's clients send, each in one record.
type hellos struct {
	net.Listener
	mu  sync.Mutex
	all []*clienthello.Hello
}

func (h *hellos) Accept() (net.Conn, error) {
	c, err := h.Listener.Accept()
	return &helloConn{Conn: c, of: h}, err
}

type helloConn struct {
	net.Conn
	of   *hellos
	seen []byte
	done bool
}

func (c *helloConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if !c.done {
		c.seen = append(c.seen, b[:n]...)
		if len(c.seen) >= 5 && len(c.seen) >= 5+int(binary.BigEndian.Uint16(c.seen[3:])) {
			c.done = true
			if h, err := clienthello.ParseHello(c.seen); err == nil {
				c.of.mu.Lock()
				c.of.all = append(c.of.all, h)
				c.of.mu.Unlock()
			}
		}
	}
	return n, err
}

// ticket is what the newest hello has to resume a session with.
func (h *hellos) ticket() (ticket []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	psk := h.all[len(h.all)-1].PSK()
	if psk == nil {
		return nil
	}
	return psk.Identities[0]
}

// A client comes back with a ticket that it uses once, and never on another network nor at another place; whose key the
// gateway has is known all the same, and so is what both ends export.
func TestReturn(t *testing.T) {
	for _, family := range []chrome.Family{chrome.FamilyChrome, chrome.FamilyFirefox} {
		t.Run(string(family), func(t *testing.T) { testReturn(t, chrome.BuiltIn(family)) })
	}
}

func testReturn(t *testing.T, browser *chrome.Browser) {
	cert, leaf := certificate(t)
	pin := transport.KeyHash(leaf)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	seen := &hellos{Listener: tcp}
	cfg := https.ListenConfig{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil },
		Key:            pin, Door: transporttest.Lock{}, Website: website, Tickets: [32]byte{1},
	}
	l := https.Listen(seen, cfg)
	t.Cleanup(func() { l.Close() })
	dialer := new(https.Dialer)
	dialer.LookLike(browser)
	visit := func(ep transport.Endpoint) error {
		t.Helper()
		accepted := make(chan transport.Conn, 1) // it is read below
		go func() {
			c, _ := l.Accept()
			accepted <- c
		}()
		c, err := dialer.Dial(t.Context(), ep)
		if err != nil {
			l.Close()
			<-accepted
			return err
		}
		far := <-accepted
		defer far.Close()
		defer c.Close()
		a, err := c.Export("EXPORTER-test", nil, 32)
		b, err2 := far.Export("EXPORTER-test", nil, 32)
		if err != nil || err2 != nil || !bytes.Equal(a, b) {
			t.Errorf("the ends export %x (%v) and %x (%v)", a, err, b, err2)
		}
		if c.ServerKey() != pin || far.ServerKey() != pin {
			t.Error("the ends do not agree on the gateway's key")
		}
		go far.Write([]byte("hello")) // with which the ticket is read
		c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
			t.Error(err)
		}
		return nil
	}
	home := transport.Endpoint{Addr: tcp.Addr().String(), Name: "site.example", Pins: [][32]byte{pin}, Opener: transporttest.Key{}}
	nowhere := home
	home.Network = "home"
	cafe, unnamed := home, home
	cafe.Network, unnamed.Name = "cafe", ""
	used := map[string]bool{}
	for i, c := range []struct {
		name    string
		ep      transport.Endpoint
		returns bool
	}{
		{"first", home, false}, {"second", home, true}, {"third", home, true},
		{"on another network", cafe, false}, {"on that network again", cafe, true},
		{"without the name", unnamed, false}, {"on no network", nowhere, false}, {"on none again", nowhere, false},
		{"back home", home, true},
	} {
		if err := visit(c.ep); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		ticket := seen.ticket()
		if (ticket != nil) != c.returns {
			t.Errorf("visit %d, %s: a ticket %v, want %v", i, c.name, ticket != nil, c.returns)
		}
		if ticket != nil && used[string(ticket)] {
			t.Errorf("%s: the ticket was used before", c.name)
		}
		if ticket != nil && len(ticket) != 105 {
			t.Errorf("a ticket of %d bytes: Firefox's profile is for those of 105", len(ticket))
		}
		used[string(ticket)] = true
	}
	// When the network changes, what was kept on the one that was is of no use.
	dialer.Forget()
	if err := visit(home); err != nil || seen.ticket() != nil {
		t.Errorf("after the tickets were forgotten: %v, a ticket %v", err, seen.ticket() != nil)
	}
	// A gateway that has other keys for tickets refuses one: its key is shown and checked as on a first visit, on the same
	// connection.
	l.Close()
	restart := func(secret [32]byte) {
		t.Helper()
		tcp, err := net.Listen("tcp", home.Addr)
		if err != nil {
			t.Fatal(err)
		}
		seen = &hellos{Listener: tcp}
		cfg.Tickets = secret
		l = https.Listen(seen, cfg)
		t.Cleanup(func() { l.Close() })
	}
	restart([32]byte{2})
	if err := visit(home); err != nil || seen.ticket() == nil || len(seen.all) != 1 {
		t.Errorf("a ticket that the gateway refuses: %v, after %d hellos, a ticket %v", err, len(seen.all), seen.ticket() != nil)
	}
	if err := visit(home); err != nil || seen.ticket() == nil {
		t.Errorf("and back: %v, a ticket %v", err, seen.ticket() != nil)
	}
	// Another key is the only good one now: a ticket got under the old one is not shown.
	other := home
	other.Pins = [][32]byte{{1}}
	if err := visit(other); !errors.Is(err, transport.ErrPin) || seen.ticket() != nil {
		t.Errorf("where another key is pinned: %v, a ticket %v", err, seen.ticket() != nil)
	}
	// And whoever has taken the gateway's place, with a key of their own, gets a ticket that they cannot read, and no more.
	cert, _ = certificate(t)
	restart([32]byte{3})
	if err := visit(home); !errors.Is(err, transport.ErrPin) || seen.ticket() == nil || len(seen.all) != 1 {
		t.Errorf("somebody else in the gateway's place: %v, after %d hellos, a ticket %v", err, len(seen.all), seen.ticket() != nil)
	}
}
