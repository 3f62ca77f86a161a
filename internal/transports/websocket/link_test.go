package websocket

import (
	"crypto/ed25519"
	"crypto/tls"
	"net"
	"testing"

	"github.com/godwit-vpn/godwit/internal/link"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/doorstep"
	"github.com/godwit-vpn/godwit/internal/transports/https"
	"github.com/godwit-vpn/godwit/internal/transports/pipe"
)

type device struct{ ed25519.PrivateKey }

func (d device) Public() ed25519.PublicKey {
	return d.PrivateKey.Public().(ed25519.PublicKey)
}
func (d device) Sign(message []byte) []byte { return ed25519.Sign(d.PrivateKey, message) }

// The door and the proofs that Godwit has, instead of the suite's.
func TestRealDoor(t *testing.T) {
	key, cert, leaf := identity(t)
	directory := [32]byte{3}
	door := link.Door{Secret: func(id [8]byte) [16]byte { return [16]byte{id[0]} }, Directory: directory}
	l, err := pipe.Listen(pipe.ListenConfig{Key: key, Door: door})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	site := https.Listen(tcp, https.ListenConfig{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil },
		Key:            transport.KeyHash(leaf), Door: door,
		Website: Handler(website, doorstep.New(doorstep.Config{Door: door, Pin: transport.KeyHash(leaf)}), l),
	})
	defer site.Close()
	k := link.Knock{Transport: Name, KeyID: [8]byte{7}, Secret: [16]byte{7}, Directory: directory,
		Device: device{ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))}}
	visitor := make(chan *link.Visitor, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		v, _ := link.Accept(c, Name)
		visitor <- v
		c.Close()
	}()
	d := &Dialer{}
	ep := transport.Endpoint{Addr: tcp.Addr().String(), Name: "site.example", Pins: [][32]byte{transport.KeyHash(leaf)}, Opener: k}
	c, err := d.Dial(t.Context(), ep)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if v := <-visitor; v == nil || !v.Proven || v.KeyID != k.KeyID {
		t.Errorf("the visitor is %+v", v)
	}
	k.Secret[0]++
	ep.Opener = k
	if _, err := d.Dial(t.Context(), ep); err == nil {
		t.Error("a wrong secret opens")
	}
	k.Directory = [32]byte{}
	ep.Opener = k
	if _, err := d.Dial(t.Context(), ep); err == nil {
		t.Error("it opens without the directory's key")
	}
}
