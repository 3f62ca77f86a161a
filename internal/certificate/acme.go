package certificate

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

// LetsEncrypt is the directory of the CA that is asked by default.
const LetsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// CA is whom mode acme asks, and how. That it is set means that its terms are agreed to.
type CA struct {
	// Directory is the CA's ACME directory; empty is LetsEncrypt.
	Directory string
	// Roots are whom to trust for the directory's own certificate; nil are the system's.
	Roots *x509.CertPool
	// Email is told to the CA, who may write when something is wrong; empty tells it none.
	Email string
	// Account is the key of the account at the CA.
	Account crypto.Signer
	// DNS answers by records of the names' zone; nil answers on ports 80 and 443. Addresses are always validated there.
	DNS *RFC2136
}

const (
	// obtainTimeout bounds one attempt.
	obtainTimeout = 10 * time.Minute
	// retryFirst and retryMost bound the time to the next attempt: it doubles, and the first few stay below what Let's
	// Encrypt allows to fail (5 validations per name and hour).
	retryFirst = 15 * time.Minute
	retryMost  = 12 * time.Hour
	// ariInterval is how often the CA is asked when to renew, unless it says otherwise.
	ariInterval = 12 * time.Hour
	// addressProfile is the kind of certificate that Let's Encrypt gives to addresses: of six days.
	addressProfile = "shortlived"
)

// renewAt is when to renew: at the time of the CA's choice if it has one, but not too late, else with a third left.
func renewAt(leaf *x509.Certificate, ari time.Time) time.Time {
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	if latest := leaf.NotAfter.Add(-life / 4); !ari.IsZero() {
		if ari.After(latest) {
			return latest
		}
		return ari
	}
	return leaf.NotAfter.Add(-life / 3)
}

// retryAfter is how long to wait after so many failures in a row.
func retryAfter(failures int) time.Duration {
	d := retryFirst << min(failures-1, 10)
	d = min(d, retryMost)
	return d - d/8 + jitter(d/4)
}

func jitter(d time.Duration) time.Duration { return time.Duration(rand.Int64N(int64(d) + 1)) }

// obtain asks the CA for a slot's certificate, and notes how that went.
func (m *Manager) obtain(ctx context.Context, s *slot) {
	c, err := m.ask(ctx, s)
	if ctx.Err() != nil && err != nil {
		return // not the CA's fault
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		s.failures++
		s.lastError = short(explain(err))
		s.next = time.Now().Add(retryAfter(s.failures))
		m.cfg.Log.Warn("the CA gave no certificate; 'godwit gateway status' says why", "problem", kind(err),
			"again_in", time.Until(s.next).Round(time.Minute))
		return
	}
	s.real, s.failures, s.lastError, s.ari = c, 0, "", time.Time{}
	s.next = renewAt(c.Leaf, s.ari)
	s.askARI = time.Now().Add(jitter(ariInterval))
	m.cfg.Log.Info("the CA gave a certificate", "expires", c.Leaf.NotAfter)
}

// ask goes through one order: the certificate is kept on disk when it returns.
func (m *Manager) ask(ctx context.Context, s *slot) (*tls.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, obtainTimeout)
	defer cancel()
	client, done := m.client(s.names[0])
	defer done()
	directory, err := client.GetDirectory(ctx)
	if err != nil {
		return nil, err
	}
	// An account that is there already is found by its key (RFC 8555 §7.3).
	account := acme.Account{TermsOfServiceAgreed: true, PrivateKey: m.cfg.CA.Account}
	if m.cfg.CA.Email != "" {
		account.Contact = []string{"mailto:" + m.cfg.CA.Email}
	}
	if account, err = client.NewAccount(ctx, account); err != nil {
		return nil, err
	}
	csr, err := acmez.NewCSR(m.cfg.Key, s.names)
	if err != nil {
		return nil, err
	}
	order, err := acmez.OrderParametersFromCSR(account, csr)
	if err != nil {
		return nil, err
	}
	if isAddr(s.names[0]) && directory.Meta != nil && directory.Meta.Profiles[addressProfile] != "" {
		order.Profile = addressProfile
	}
	if s.real != nil && !s.ari.IsZero() { // this CA knows about replacing, and lets it past its limits
		order.Replaces = s.real.Leaf
	}
	chains, err := client.ObtainCertificate(ctx, order)
	if err != nil {
		return nil, err
	}
	if len(chains) == 0 {
		return nil, errors.New("the CA's answer holds no certificate")
	}
	c, err := parseChain(chains[0].ChainPEM, m.cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("the CA's answer: %w", err)
	}
	if err := writeChain(m.acmeFile(s.names[0]), c.Certificate); err != nil {
		return nil, fmt.Errorf("keeping the certificate: %w", err)
	}
	return c, nil
}

// client makes a client of the CA for one name; done ends its connections.
func (m *Manager) client(name string) (c *acmez.Client, done func()) {
	ca := m.cfg.CA
	if ca.Directory == "" {
		ca.Directory = LetsEncrypt
	}
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: 30 * time.Second,
		TLSClientConfig:     &tls.Config{RootCAs: ca.Roots, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:   true,
	}
	solvers := map[string]acmez.Solver{}
	if ca.DNS != nil && !isAddr(name) {
		solvers[acme.ChallengeTypeDNS01] = dnsSolver{ca.DNS}
	} else {
		solvers[acme.ChallengeTypeTLSALPN01] = alpnSolver{&m.challenges}
		if m.httpWired.Load() {
			solvers[acme.ChallengeTypeHTTP01] = httpSolver{&m.challenges}
		}
	}
	return &acmez.Client{
		Client: &acme.Client{Directory: ca.Directory,
			HTTPClient: &http.Client{Transport: transport, Timeout: time.Minute}},
		ChallengeSolvers: solvers,
	}, transport.CloseIdleConnections
}

// askRenewalTime asks the CA when it wants a certificate renewed, if it is time to ask. A CA that does not know, or does
// not answer, changes nothing.
func (m *Manager) askRenewalTime(ctx context.Context, s *slot) {
	if s.real == nil || s.failures > 0 || time.Now().Before(s.askARI) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	client, done := m.client(s.names[0])
	defer done()
	info, err := client.GetRenewalInfo(ctx, s.real.Leaf)
	m.mu.Lock()
	defer m.mu.Unlock()
	s.askARI = time.Now().Add(ariInterval - ariInterval/8 + jitter(ariInterval/4))
	if err != nil || !info.HasWindow() {
		return
	}
	if s.ari.Before(info.SuggestedWindow.Start) || s.ari.After(info.SuggestedWindow.End) { // else what was chosen stays
		s.ari = info.SelectedTime
	}
	s.next = renewAt(s.real.Leaf, s.ari)
	if t := info.RetryAfter; t != nil && time.Until(*t) > time.Hour && t.Before(s.askARI) {
		s.askARI = *t
	}
}

func isAddr(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil
}

// explain is an error without what an operator cannot use.
func explain(err error) error {
	var p acme.Problem
	if !errors.As(err, &p) || p.Detail == "" {
		return err
	}
	details := []string{p.Detail}
	for _, sub := range p.Subproblems {
		if !slices.Contains(details, sub.Detail) {
			details = append(details, sub.Detail)
		}
	}
	return fmt.Errorf("the CA says: %s (%s)", strings.Join(details, "; "), kind(err))
}

// kind is an error without names and addresses, for the log.
func kind(err error) string {
	var p acme.Problem
	var n net.Error
	switch {
	case errors.As(err, &p):
		_, k, _ := strings.Cut(p.Type, "urn:ietf:params:acme:error:")
		return plain(k)
	case errors.As(err, &n), errors.Is(err, context.DeadlineExceeded):
		return "no answer"
	}
	return "other"
}
