package firewalltest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"sync"
	"testing"
)

// InTLS is what a conversation looks like inside of TLS, as Conn wants it.
func InTLS(t testing.TB, version uint16, alpn, texts []string) (wire []string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{}, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	note := func(from string) func([]byte) {
		return func(b []byte) {
			mu.Lock()
			defer mu.Unlock()
			wire = append(wire, from+string(b))
		}
	}
	a, b := net.Pipe()
	client := tls.Client(&noted{a, note(">")}, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, NextProtos: alpn})
	server := tls.Server(&noted{b, note("<")}, &tls.Config{MinVersion: version, MaxVersion: version, NextProtos: alpn,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, SessionTicketsDisabled: true})
	defer a.Close()
	defer b.Close()
	done := make(chan error, 1) // the server's handshake ends alone
	go func() { done <- server.Handshake() }()
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, text := range texts {
		from, to := client, server
		if text[0] == '<' {
			from, to = server, client
		}
		go func() {
			_, err := from.Write([]byte(text[1:]))
			done <- err
		}()
		if _, err := to.Read(make([]byte, 4096)); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	return wire
}

// noted tells what is written to a connection.
type noted struct {
	net.Conn
	note func([]byte)
}

func (n *noted) Write(b []byte) (int, error) {
	n.note(b)
	return n.Conn.Write(b)
}
