// Package certificate gives the gateway's TLS key its certificates: from a CA by ACME (RFC 8555), from a file of the
// operator's, or signed by itself. The key is never changed or copied here, because clients go by the hash of it
// whatever a certificate says; so the worst that can happen is that strangers see a self-signed one, with an alarm.
//
//	self     signed by the key itself, kept on disk, made again before it ends
//	acme     self-signed until the CA has answered; then the CA's, renewed when a third of its life is left or when the
//	         CA says so (RFC 9773)
//	files    the operator's chain, read again when the file changes; self-signed while it cannot be used
//
// Nothing but mode acme speaks to the network, and it names to the CA only what Names holds.
//
//	DIR/acme/NAME.pem          a chain of the CA's, one per name: names of one gateway are not tied together in public logs
//	DIR/self-signed/NAME.pem   one for all names, or one per name in mode acme
package certificate

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The modes.
const (
	Self  = "self"
	ACME  = "acme"
	Files = "files"
)

// Config is what a Manager needs.
type Config struct {
	// Mode is one of the modes; empty is Self.
	Mode string
	// Key is the key that every certificate is for.
	Key crypto.Signer
	// Names are DNS names and IP addresses, the best first. There must be one.
	Names []string
	// Dir is where certificates are kept.
	Dir string
	// Chain is the operator's file in mode files: PEM, the certificate for Key first.
	Chain string
	// CA is whom to ask in mode acme.
	CA CA
	// Log is told of what goes wrong, without names or addresses: Status has those.
	Log *slog.Logger
}

// Manager has the certificate for every TLS handshake. All methods may be called at any time, also before Run and after.
type Manager struct {
	cfg        Config
	challenges challenges
	httpWired  atomic.Bool // HTTPHandler has been called

	mu    sync.RWMutex
	slots []*slot // never empty; the list does not change, the slots do
}

// A slot is one certificate that is served, under the names that it is for.
type slot struct {
	names []string // in mode acme one

	// Guarded by Manager.mu; written by New and Run alone.
	self      *tls.Certificate // never nil
	real      *tls.Certificate // the CA's or the operator's; nil if there is none for our key
	lastError string
	failures  int
	next      time.Time // when to ask the CA again
	ari       time.Time // when the CA wants it renewed; zero if it did not say
	askARI    time.Time // when to ask for that
	changed   time.Time // the operator's file, when it was read
}

func (s *slot) served() *tls.Certificate {
	if s.real != nil {
		return s.real
	}
	return s.self
}

// New reads the certificates that are there, and makes the self-signed ones that are not.
func New(cfg Config) (*Manager, error) {
	if cfg.Mode == "" {
		cfg.Mode = Self
	}
	if len(cfg.Names) == 0 {
		return nil, errors.New("a certificate needs at least one name")
	}
	for _, n := range cfg.Names {
		if !ValidName(n) {
			return nil, fmt.Errorf("certificate: %q is neither a name in ASCII and lower case (xn--…) nor an address", n)
		}
	}
	m := &Manager{cfg: cfg}
	sets := [][]string{cfg.Names}
	switch cfg.Mode {
	case Self, Files:
	case ACME:
		sets = nil
		for _, n := range cfg.Names {
			sets = append(sets, []string{n})
		}
		if err := os.MkdirAll(filepath.Join(cfg.Dir, "acme"), 0o700); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("certificate: %q is no mode: it is %s, %s or %s", cfg.Mode, Self, ACME, Files)
	}
	if err := os.MkdirAll(filepath.Join(cfg.Dir, "self-signed"), 0o700); err != nil {
		return nil, err
	}
	now := time.Now()
	for _, names := range sets {
		s := &slot{names: names}
		var err error
		if s.self, err = m.selfSigned(names, now); err != nil {
			return nil, err
		}
		switch cfg.Mode {
		case ACME:
			s.real, err = readChain(m.acmeFile(names[0]), cfg.Key)
			if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, ErrOtherKey) {
				cfg.Log.Warn("a certificate that was kept cannot be read: asking for another")
			}
			s.next = now
			if s.real != nil {
				s.next = renewAt(s.real.Leaf, time.Time{})
				s.askARI = now.Add(jitter(ariInterval)) // a restart shows at the CA no more than it has to
			}
		case Files:
			m.reload(s)
		}
		m.slots = append(m.slots, s)
	}
	return m, nil
}

// ValidName reports whether a name can stand in a certificate, and be a file's name.
func ValidName(n string) bool {
	if a, err := netip.ParseAddr(n); err == nil {
		return a.Zone() == ""
	}
	return n != "" && n[0] != '.' && !strings.ContainsFunc(n, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_')
	})
}

// fileName is a name as a file's: the colons of an address are not for every system.
func fileName(n string) string { return strings.ReplaceAll(n, ":", "_") + ".pem" }

func (m *Manager) acmeFile(n string) string { return filepath.Join(m.cfg.Dir, "acme", fileName(n)) }

// GetCertificate is for tls.Config: the certificate for the name that the client asks for, else for the address that it
// came to, else the first, as web servers do.
func (m *Manager) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := m.challenges.certificate(hello); c != nil {
		return c, nil
	}
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	if name == "" && hello.Conn != nil {
		if a, ok := hello.Conn.LocalAddr().(*net.TCPAddr); ok {
			name = a.AddrPort().Addr().Unmap().WithZone("").String()
		}
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, s := range m.slots {
		if slices.Contains(s.names, name) {
			return s.served(), nil
		}
	}
	return m.slots[0].served(), nil
}

const (
	// look is how often Run looks whether something is due: a machine may sleep, and clocks are set.
	look = time.Hour
	// lookAtFile is that for the operator's file, which is looked at and not read.
	lookAtFile = time.Minute
)

// Run keeps the certificates fresh until ctx ends, whose error it returns. In mode acme the challenges must be answered
// by then: GetCertificate and ConfigForChallenge on port 443, HTTPHandler on port 80, or one of them.
func (m *Manager) Run(ctx context.Context) error {
	for {
		wait := m.work(ctx)
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
	}
}

// work does all that is due, and says when to look again.
func (m *Manager) work(ctx context.Context) time.Duration {
	wait := look
	for _, s := range m.slots {
		if ctx.Err() != nil {
			break
		}
		m.refreshSelf(s)
		switch m.cfg.Mode {
		case ACME:
			m.askRenewalTime(ctx, s)
			if !time.Now().Before(s.next) { // Run alone writes it
				m.obtain(ctx, s)
			}
			wait = min(wait, time.Until(s.next))
		case Files:
			m.reload(s)
			wait = min(wait, lookAtFile)
		}
	}
	return max(wait, time.Second)
}

// refreshSelf makes a self-signed certificate again when it comes to its end.
func (m *Manager) refreshSelf(s *slot) {
	if time.Until(s.self.Leaf.NotAfter) > selfRenew { // Run alone writes it
		return
	}
	c, err := m.selfSigned(s.names, time.Now())
	if err != nil {
		m.cfg.Log.Warn("the self-signed certificate cannot be renewed", "error", err)
		return
	}
	m.mu.Lock()
	s.self = c
	m.mu.Unlock()
}

// reload reads the operator's file if it has changed. One that cannot be used does not take the place of one that can.
func (m *Manager) reload(s *slot) {
	var c *tls.Certificate
	info, err := os.Stat(m.cfg.Chain)
	if err == nil {
		if info.ModTime().Equal(s.changed) {
			return
		}
		c, err = readChain(m.cfg.Chain, m.cfg.Key)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		if text := short(err); text != s.lastError {
			s.lastError = text
			m.cfg.Log.Warn("the certificate's file cannot be used", "error", err)
		}
		return
	}
	s.real, s.lastError, s.changed = c, "", info.ModTime()
}

// Status says what is served, and what is wrong.
type Status struct {
	Mode         string   `json:"mode"`
	Certificates []Served `json:"certificates"`
	// Alarm is what the operator has to look at; empty if nothing.
	Alarm string `json:"alarm,omitempty"`
}

// Served is one certificate that is served.
type Served struct {
	Names      []string  `json:"names"`
	Issuer     string    `json:"issuer"`
	SelfSigned bool      `json:"self_signed"`
	NotAfter   time.Time `json:"not_after"`
	// LastError is why the last attempt to get another one failed; empty if it did not.
	LastError string `json:"last_error,omitempty"`
	// NextAttempt is when the CA is asked again; zero outside mode acme.
	NextAttempt time.Time `json:"next_attempt,omitzero"`
}

// Status is how things are now.
func (m *Manager) Status() Status {
	m.mu.RLock()
	defer m.mu.RUnlock()
	now := time.Now()
	st := Status{Mode: m.cfg.Mode}
	var alarms []string
	for _, s := range m.slots {
		leaf := s.served().Leaf
		issuer := leaf.Issuer.CommonName
		if len(leaf.Issuer.Organization) > 0 {
			issuer = strings.TrimSpace(leaf.Issuer.Organization[0] + " " + issuer)
		}
		st.Certificates = append(st.Certificates, Served{Names: s.names, Issuer: plain(issuer), SelfSigned: s.real == nil,
			NotAfter: leaf.NotAfter, LastError: s.lastError, NextAttempt: s.next})
		if a := m.alarm(s, now); a != "" {
			alarms = append(alarms, s.names[0]+": "+a)
		}
	}
	st.Alarm = strings.Join(alarms, "; ")
	return st
}

// alarm is what is wrong with one certificate. Users are not cut off by any of it: they go by the key.
func (m *Manager) alarm(s *slot, now time.Time) string {
	leaf := s.served().Leaf
	left, life := leaf.NotAfter.Sub(now), leaf.NotAfter.Sub(leaf.NotBefore)
	why := ""
	if s.lastError != "" {
		why = ": " + s.lastError
	}
	switch {
	case left <= 0:
		return "the certificate has expired" + why
	case m.cfg.Mode == Self:
		if left < life/20 { // renewed well before
			return "the self-signed certificate could not be renewed and expires soon"
		}
	case s.real == nil && s.lastError != "":
		return "strangers see a self-signed certificate" + why
	case s.real == nil:
	case m.cfg.Mode == Files && left < life/3:
		return fmt.Sprintf("the certificate in %s expires on %s: renew it", m.cfg.Chain, leaf.NotAfter.Format(time.DateOnly))
	case m.cfg.Mode == Files && s.lastError != "":
		return "the new certificate cannot be used" + why
	// A third is when it is renewed; so that is no alarm unless it fails, or did not happen.
	case left < life/3 && s.lastError != "", left < life/4:
		return fmt.Sprintf("the certificate expires on %s and is not renewed%s", leaf.NotAfter.Format(time.DateOnly), why)
	}
	return ""
}

// short is an error for one line of a status: what others wrote into it must not run away with the terminal.
func short(err error) string {
	const most = 300
	text := plain(err.Error())
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// plain is text without what terminals obey.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, text)
}
