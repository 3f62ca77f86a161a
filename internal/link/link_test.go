package link

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/device"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/wire"
)

// conn is a pipe that pretends to be one TLS connection: both ends export the same, and other connections other bytes.
type conn struct {
	net.Conn
	secret    [32]byte
	serverKey [32]byte
	knock     []byte
}

func (c *conn) Knock() []byte { return c.knock }

func (c *conn) Export(label string, _ []byte, n int) ([]byte, error) {
	h := sha256.Sum256(append(c.secret[:], label...))
	return h[:n], nil
}

func (c *conn) ServerKey() [32]byte { return c.serverKey }

func connect(t *testing.T) (client, gateway *conn) {
	a, b := net.Pipe()
	client, gateway = &conn{Conn: a}, &conn{Conn: b}
	rand.Read(client.secret[:])
	rand.Read(client.serverKey[:])
	gateway.secret, gateway.serverKey = client.secret, client.serverKey
	t.Cleanup(func() { a.Close(); b.Close() })
	b.SetDeadline(time.Now().Add(5 * time.Second))
	return client, gateway
}

type signer struct{ key ed25519.PrivateKey }

func (s signer) Public() ed25519.PublicKey  { return s.key.Public().(ed25519.PublicKey) }
func (s signer) Sign(message []byte) []byte { return ed25519.Sign(s.key, message) }

func newKnock(t *testing.T) Knock {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return Knock{Transport: "https", KeyID: [8]byte{1, 2, 3}, Secret: secretOf([8]byte{1, 2, 3}), Device: signer{key},
		Cert: []byte("certificate"), Session: wire.SessionID{9}, Flags: wire.HelloNew, Next: 42}
}

func secretOf(id [8]byte) (s [16]byte) {
	h := sha256.Sum256(append([]byte("network's door key"), id[:]...))
	copy(s[:], h[:])
	return s
}

var door = Door{Secret: secretOf}

func mustKnock(t *testing.T, c transport.Conn, k Knock) []byte {
	t.Helper()
	b, err := k.Knock(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOpenAccept(t *testing.T) {
	client, gateway := connect(t)
	k := newKnock(t)
	k.Cert = make([]byte, device.CertificateSize)
	knock := mustKnock(t, client, k)
	if len(knock) > transport.MaxKnock {
		t.Errorf("a knock of %d bytes, %d are allowed", len(knock), transport.MaxKnock)
	}
	gateway.knock = append(knock, "what the transport added"...)
	if !door.Opens(gateway, gateway.knock) {
		t.Fatal("the door does not open")
	}
	v, err := Accept(gateway, "https")
	if err != nil || !v.Proven || v.KeyID != k.KeyID || v.Hello.Session != k.Session || v.Hello.Next != 42 {
		t.Fatalf("got %+v, %v", v, err)
	}
}

// Every bit of what a client shows matters: with one of them changed it is a stranger, or unproven, or malformed.
func TestEveryBitMatters(t *testing.T) {
	k := newKnock(t)
	client, gateway := connect(t)
	knock := mustKnock(t, client, k)
	for i := range len(knock) * 8 {
		gateway.knock = append([]byte(nil), knock...)
		gateway.knock[i/8] ^= 1 << (i % 8)
		if opens := door.Opens(gateway, gateway.knock); opens != (i >= DoorLen*8) {
			t.Fatalf("bit %d of the door changed: it opens: %v", i, opens)
		}
		if v, err := Accept(gateway, "https"); i >= DoorLen*8 && err == nil && v.Proven {
			t.Fatalf("bit %d of %d changed and nobody noticed", i, len(knock)*8)
		}
	}
	for n := range DoorLen {
		if door.Opens(gateway, knock[:n]) {
			t.Fatalf("%d bytes of a knock open the door", n)
		}
	}
}

func TestContextIsBound(t *testing.T) {
	k := newKnock(t)
	client, _ := connect(t)
	knock := mustKnock(t, client, k)
	tests := map[string]struct {
		conn      conn
		transport string
		stranger  bool
	}{
		"another connection": {conn{secret: [32]byte{1}, serverKey: client.serverKey}, "https", true},
		"another gateway":    {conn{secret: client.secret, serverKey: [32]byte{1}}, "https", false},
		"another transport":  {conn{secret: client.secret, serverKey: client.serverKey}, "quic", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.conn.knock = knock
			if door.Opens(&test.conn, knock) == test.stranger {
				t.Error("the door is wrong about it")
			}
			if v, err := Accept(&test.conn, test.transport); err == nil && v.Proven {
				t.Errorf("a knock recorded elsewhere proves %+v", v)
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	client, gateway := connect(t)
	go Refuse(gateway, wire.CauseTooManyDevices, time.Minute)
	b := make([]byte, 100)
	n, err := client.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	typ, _, _ := wire.ParseHeader(b)
	_, err = ParseAnswer(typ, b[wire.HeaderLen:n])
	var r *Refusal
	if !errors.As(err, &r) || r.Cause != wire.CauseTooManyDevices || r.Retry != 60 {
		t.Fatalf("a refusal was read as %v", err)
	}
	if skew := r.ClockSkew(time.Now().Add(time.Hour)); skew < 59*time.Minute || skew > 61*time.Minute {
		t.Errorf("a clock an hour ahead is said to be %v ahead", skew)
	}
	if _, err := ParseAnswer(wire.TypeData, nil); !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("an answer that is none gave %v", err)
	}
	for c := wire.CauseVersion; c <= wire.CauseQuota; c++ {
		if causes[c] == "" {
			t.Errorf("cause %d has no text", c)
		}
	}
}

func FuzzAccept(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add(make([]byte, DoorLen+300))
	f.Fuzz(func(t *testing.T, b []byte) {
		g := &conn{knock: b}
		// With the MAC right, so that the fuzzer gets past the door.
		if len(b) >= DoorLen {
			mac, _ := doorMAC(g, secretOf([8]byte(b)))
			copy(b[8:], mac)
			if !door.Opens(g, b) {
				t.Error("the door does not open")
			}
		}
		if v, err := Accept(g, "https"); err == nil && v.Proven {
			t.Error("a made-up HELLO was taken for proven")
		}
	})
}
