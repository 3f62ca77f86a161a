package gatewaydir

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/godwit-vpn/godwit/internal/certificate"
	"github.com/godwit-vpn/godwit/internal/flow"
)

// CertificateSettings say where certificates come from.
type CertificateSettings struct {
	// Mode is "self", "acme" or "files"; empty is "self".
	Mode string `toml:"mode,omitempty"`
	// Chain is the operator's own PEM file, in mode files.
	Chain string `toml:"chain,omitempty"`

	// The others are for mode acme. Email is told to the CA; empty tells it none.
	Email string `toml:"email,omitempty"`
	// CA is the URL of the CA's directory; empty is Let's Encrypt's.
	CA string `toml:"ca,omitempty"`
	// CARoot is a PEM file with whom to trust for that URL; empty are the system's roots.
	CARoot string `toml:"ca_root,omitempty"`
	// Address asks for certificates for the endpoints' addresses too, not only their names.
	Address bool `toml:"address,omitempty"`
	// DNS is "rfc2136" to be validated by records in the names' zone; empty is on ports 80 and 443.
	DNS string `toml:"dns,omitempty"`
	// DNSServer is the zone's primary server, host:port; DNSKeyName and DNSKey (base64) sign updates to it.
	DNSServer  string `toml:"dns_server,omitempty"`
	DNSKeyName string `toml:"dns_key_name,omitempty"`
	DNSKey     string `toml:"dns_key,omitempty"`
	// DNSWaitSeconds is how long the zone's other servers may take to hear of an update; 0 means 60.
	DNSWaitSeconds int `toml:"dns_wait_seconds,omitempty"`
}

const dnsUpdates = "rfc2136" // the one value of CertificateSettings.DNS

// validateCertificate is Validate for the table certificate.
func (s Settings) validateCertificate(fail func(field, format string, args ...any)) {
	c := s.Certificate
	for _, n := range s.hosts() {
		if !certificate.ValidName(n) {
			fail("endpoints", "%q cannot stand in a certificate: write names in ASCII (xn--…)", n)
		}
	}
	for field, path := range map[string]string{"certificate.chain": c.Chain, "certificate.ca_root": c.CARoot} {
		if path != "" && !filepath.IsAbs(path) {
			fail(field, "%q is not a whole path: begin with the root", path)
		}
	}
	if c.Chain != "" && c.Mode != certificate.Files {
		fail("certificate.chain", "is for certificate.mode = \"files\" alone")
	}
	switch c.Mode {
	case "", certificate.Self:
	case certificate.Files:
		if c.Chain == "" {
			fail("certificate.chain", "is empty: give the file of the chain, which 'godwit gateway csr' helps you to")
		}
	case certificate.ACME:
		s.validateACME(fail)
	default:
		fail("certificate.mode", "%q is none: choose \"self\", \"acme\" or \"files\"", c.Mode)
	}
}

func (s Settings) validateACME(fail func(field, format string, args ...any)) {
	c := s.Certificate
	names := s.certificateNames()
	if len(names) == 0 {
		fail("certificate.mode", "\"acme\" is for names, and endpoints has none: add one, or choose \"self\"; "+
			"certificate.address = true asks for the address")
	}
	if c.CA != "" {
		if u, err := url.Parse(c.CA); err != nil || u.Scheme != "https" || u.Host == "" {
			fail("certificate.ca", "%q is not the https:// URL of an ACME directory", c.CA)
		}
	}
	if c.Email != "" && (strings.Count(c.Email, "@") != 1 || strings.ContainsAny(c.Email, " \t\r\n,?")) {
		fail("certificate.email", "%q is not an e-mail address", c.Email)
	}
	if c.DNSWaitSeconds < 0 || c.DNSWaitSeconds > 300 {
		fail("certificate.dns_wait_seconds", "%d is not from 0 to 300", c.DNSWaitSeconds)
	}
	switch c.DNS {
	case "":
	case dnsUpdates:
		if _, port, err := net.SplitHostPort(c.DNSServer); err != nil || !isPort(port) {
			fail("certificate.dns_server", "%q is not host:port", c.DNSServer)
		}
		if err := c.dns().Check(); err != nil { // which does not quote the key
			fail("certificate.dns_key", "%v", err)
		}
	default:
		fail("certificate.dns", "%q is not known: \"rfc2136\" is, or leave it out", c.DNS)
	}
}

func (c CertificateSettings) dns() *certificate.RFC2136 {
	if c.DNS != dnsUpdates {
		return nil
	}
	return &certificate.RFC2136{Server: c.DNSServer, KeyName: c.DNSKeyName, Key: c.DNSKey,
		Wait: time.Duration(c.DNSWaitSeconds) * time.Second}
}

// hosts are the endpoints' names and addresses, each once.
func (s Settings) hosts() (all []string) {
	for _, e := range s.Endpoints {
		if t, err := flow.ParseTarget(e); err == nil && !slices.Contains(all, t.Host) {
			all = append(all, t.Host)
		}
	}
	return all
}

// certificateNames are what certificates are for. A CA is asked for addresses only if the settings say so.
func (s Settings) certificateNames() []string {
	all := s.hosts()
	if s.Certificate.Mode == certificate.ACME && !s.Certificate.Address {
		all = slices.DeleteFunc(all, isAddr)
	}
	return all
}

func isAddr(host string) bool {
	_, is := flow.Target{Host: host}.Addr()
	return is
}

// publicWebServer reports whether a CA would validate an endpoint: a name that the world can know, on port 443.
func (s Settings) publicWebServer() bool {
	on443 := func(hostport string) bool {
		_, port, err := net.SplitHostPort(hostport)
		return err == nil && port == "443"
	}
	return slices.ContainsFunc(s.Listen, on443) && slices.ContainsFunc(s.Endpoints, func(e string) bool {
		t, err := flow.ParseTarget(e)
		return err == nil && on443(e) && publicName(t.Host)
	})
}

// privateZones hold no names of the public DNS (RFC 2606, 6761, 6762, 7686, 8375, and ICANN for "internal").
var privateZones = []string{"example", "test", "invalid", "localhost", "local", "onion", "internal", "home.arpa"}

func publicName(host string) bool {
	return !isAddr(host) && strings.Contains(host, ".") && !slices.ContainsFunc(privateZones, func(zone string) bool {
		return strings.HasSuffix(host, "."+zone)
	})
}

const (
	acmeFile = "acme.key"
	acmeKind = "godwit ACME account key v1"
)

// Certificates makes what has the gateway's certificate for every handshake, and keeps it fresh while its Run runs.
func (d *Dir) Certificates(log *slog.Logger) (*certificate.Manager, error) {
	if err := d.Settings.Validate(); err != nil {
		return nil, err
	}
	s := d.Settings.Certificate
	cfg := certificate.Config{Mode: s.Mode, Key: d.TLS.key, Names: d.Settings.certificateNames(), Dir: d.Path,
		Chain: s.Chain, Log: log}
	if s.Mode == certificate.ACME {
		if err := makeKey(d.Path, acmeFile, acmeKind); err != nil {
			return nil, err
		}
		account, err := loadKey(keyPath(d.Path, acmeFile), acmeKind)
		if err != nil {
			return nil, fmt.Errorf("the key of the account at the CA: %w", err)
		}
		cfg.CA = certificate.CA{Directory: s.CA, Email: s.Email, Account: account, DNS: s.dns()}
		if s.CARoot != "" {
			b, err := os.ReadFile(s.CARoot)
			if err == nil {
				if cfg.CA.Roots = x509.NewCertPool(); !cfg.CA.Roots.AppendCertsFromPEM(b) {
					err = errors.New("it holds no certificate in PEM")
				}
			}
			if err != nil {
				return nil, fmt.Errorf("%w: field certificate.ca_root: %w", ErrSettings, err)
			}
		}
	}
	return certificate.New(cfg)
}

// CertificateRequest is a request in PEM for a certificate for the gateway's TLS key, or for the next one.
func (d *Dir) CertificateRequest(next bool) ([]byte, error) {
	key := d.TLS.key
	if next {
		key = d.TLS.nextKey
	}
	return certificate.Request(key, d.Settings.hosts())
}
