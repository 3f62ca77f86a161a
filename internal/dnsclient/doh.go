package dnsclient

//lint:file-ignore SA1019 net/http's own HTTP/2 cannot be given a connection whose TLS is a browser's

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	utls "github.com/refraction-networking/utls"
	"golang.org/x/net/http2"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
)

// https asks by POST, which nobody caches.
type https struct {
	url       string
	transport *http2.Transport
}

func overHTTPS(s Sockets, r Resolver) *https {
	h := &https{url: r.url}
	h.transport = &http2.Transport{
		DisableCompression: true, // and so no Accept-Encoding
		ReadIdleTimeout:    30 * time.Second,
		DialTLSContext: func(ctx context.Context, network, addr string, _ *tls.Config) (net.Conn, error) {
			c, err := s.dial(ctx, network, r.addr)
			if err != nil {
				return nil, err
			}
			t, err := chrome.Client(c, &utls.Config{ServerName: r.host, RootCAs: s.Roots})
			if err == nil {
				err = t.HandshakeContext(ctx)
			}
			if err == nil && t.ConnectionState().NegotiatedProtocol != http2.NextProtoTLS {
				err = transport.Reason("the resolver does not speak HTTP/2")
			}
			if err != nil {
				c.Close()
				return nil, err
			}
			return t, nil
		},
	}
	return h
}

// Close implements Exchanger.
func (h *https) Close() { h.transport.CloseIdleConnections() }

const dnsMessage = "application/dns-message"

// Exchange implements Exchanger.
func (h *https) Exchange(ctx context.Context, query []byte, take func([]byte) Taken) error {
	query = append([]byte{0, 0}, query[2:]...) // RFC 8484, section 4.1
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(query))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", dnsMessage)
	r.Header.Set("Accept", dnsMessage)
	r.Header.Set("User-Agent", "Chrome") // what Chrome says to resolvers, to all the same
	r.Header.Set("Accept-Language", "*")
	response, err := h.transport.RoundTrip(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 1<<16))
	switch {
	case err != nil:
		return err
	case response.StatusCode != http.StatusOK:
		return errors.Join(ErrNoAnswer, transport.Reason(http.StatusText(response.StatusCode)))
	}
	switch take(answer) {
	case Ours:
		return nil
	case Truncated:
		return ErrTruncated
	}
	return ErrNoAnswer
}
