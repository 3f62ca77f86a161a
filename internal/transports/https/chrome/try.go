package chrome

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"time"

	utls "github.com/refraction-networking/utls"
	"golang.org/x/net/http2"
)

// tryTime bounds a handshake in memory.
const tryTime = 10 * time.Second

// Try has the browser shake hands with a server like a gateway's, in memory. A profile may be well-formed and signed, and
// still lead nowhere, if it leaves out what every gateway needs: nobody should find that out on the network.
func (b *Browser) Try() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	deadline := time.Now().Add(tryTime)
	near.SetDeadline(deadline)
	far.SetDeadline(deadline)
	server := tls.Server(far, &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}},
		MinVersion:   tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519MLKEM768},
		NextProtos: []string{http2.NextProtoTLS}, SessionTicketsDisabled: true, // nobody would read them
	})
	ended := make(chan error, 1) // the client's error may be the one that is told
	go func() {
		err := server.Handshake()
		if err != nil {
			far.Close()
		}
		ended <- err
	}()
	client, err := b.Client(near, &utls.Config{ServerName: "gateway.example", InsecureSkipVerify: true})
	if err == nil {
		err = client.Handshake()
	}
	near.Close()
	serverErr := <-ended
	switch {
	case err != nil:
		return fmt.Errorf("profile: no handshake with a gateway comes about: %w", err)
	case serverErr != nil:
		return fmt.Errorf("profile: no handshake with a gateway comes about: %w", serverErr)
	case client.ConnectionState().NegotiatedProtocol != http2.NextProtoTLS:
		return fmt.Errorf("profile: its handshake with a gateway chooses no %s", http2.NextProtoTLS)
	}
	return nil
}
