package certificate

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
	"github.com/miekg/dns"
)

// challenges are the answers that a CA comes for. There are some only while a certificate is being asked for; at any
// other time, and to anyone who does not ask for exactly these, the gateway is as if there were no ACME.
type challenges struct {
	mu   sync.Mutex
	http map[string]answer           // by path
	alpn map[string]*tls.Certificate // by server name
}

type answer struct{ host, text string }

func (c *challenges) certificate(hello *tls.ClientHelloInfo) *tls.Certificate {
	if len(hello.SupportedProtos) != 1 || hello.SupportedProtos[0] != acmez.ACMETLS1Protocol {
		return nil // RFC 8737 §3: this protocol alone
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.alpn[strings.ToLower(hello.ServerName)]
}

// ConfigForChallenge returns the configuration for a handshake in which a CA validates a name, or nil if this is
// anything else. It is for tls.Config.GetConfigForClient, so that the listener itself never offers "acme-tls/1":
//
//	GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) { return m.ConfigForChallenge(h), nil },
//
// The handshake is all there is to it: a connection whose negotiated protocol is "acme-tls/1" is closed after it.
func (m *Manager) ConfigForChallenge(hello *tls.ClientHelloInfo) *tls.Config {
	c := m.challenges.certificate(hello)
	if c == nil {
		return nil
	}
	return &tls.Config{Certificates: []tls.Certificate{*c}, NextProtos: []string{acmez.ACMETLS1Protocol},
		MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true}
}

// HTTPHandler answers the challenges that wait for an answer, and leaves everything else to next. HTTP-01 is offered to
// the CA only if it has been called.
func (m *Manager) HTTPHandler(next http.Handler) http.Handler {
	m.httpWired.Store(true)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if text, ok := m.challenges.answer(r); ok {
			w.Header().Set("Content-Type", "text/plain")
			w.Write([]byte(text))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (c *challenges) answer(r *http.Request) (string, bool) {
	if r.Method != http.MethodGet {
		return "", false
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.http[r.URL.Path]
	return a.text, ok && strings.EqualFold(a.host, host)
}

// httpSolver and alpnSolver are acmez.Solvers. They hand in answers; the gateway's own listeners give them.
type (
	httpSolver struct{ *challenges }
	alpnSolver struct{ *challenges }
)

func (s httpSolver) Present(_ context.Context, c acme.Challenge) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http == nil {
		s.http = map[string]answer{}
	}
	s.http[c.HTTP01ResourcePath()] = answer{c.Identifier.Value, c.KeyAuthorization}
	return nil
}

func (s httpSolver) CleanUp(_ context.Context, c acme.Challenge) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.http, c.HTTP01ResourcePath())
	return nil
}

// alpnName is the server name that the CA sends; for an address that of its reverse look-up (RFC 8738 §6).
func alpnName(c acme.Challenge) string {
	if name, err := dns.ReverseAddr(c.Identifier.Value); err == nil {
		return strings.TrimSuffix(name, ".")
	}
	return c.Identifier.Value
}

func (s alpnSolver) Present(_ context.Context, c acme.Challenge) error {
	cert, err := acmez.TLSALPN01ChallengeCert(c)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.alpn == nil {
		s.alpn = map[string]*tls.Certificate{}
	}
	s.alpn[alpnName(c)] = cert
	return nil
}

func (s alpnSolver) CleanUp(_ context.Context, c acme.Challenge) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.alpn, alpnName(c))
	return nil
}
