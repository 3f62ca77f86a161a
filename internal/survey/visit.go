package survey

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/https"
)

// TLS is the handshake that a stranger has.
type TLS struct {
	Version     string       `json:"version,omitempty"`
	Group       string       `json:"group,omitempty"`
	PostQuantum bool         `json:"post_quantum"`
	Protocol    string       `json:"alpn,omitempty"`
	Took        milliseconds `json:"ms"`
	Error       string       `json:"error,omitempty"`
}

// Which pin a certificate's key has.
const (
	pinCurrent = "current"
	pinNext    = "next"
	pinOther   = "other" // not the gateway's
)

// Certificate is what the server shows.
type Certificate struct {
	Names      []string  `json:"names"`
	Issuer     string    `json:"issuer"`
	NotBefore  time.Time `json:"not_before"`
	NotAfter   time.Time `json:"not_after"`
	SelfSigned bool      `json:"self_signed"`
	// Trusted says that this system's CAs vouch for it, for the name or address that is asked for; Distrust why not.
	Trusted  bool   `json:"publicly_trusted"`
	Distrust string `json:"distrust,omitempty"`
	Pin      string `json:"pin"`
}

// Website is an answer to GET /.
type Website struct {
	Status   int          `json:"status"`
	Title    string       `json:"title,omitempty"`
	Server   string       `json:"server,omitempty"`
	Protocol string       `json:"protocol"`
	Location string       `json:"location,omitempty"`
	Bytes    int          `json:"bytes"` // as many as were looked at
	Took     milliseconds `json:"ms"`
	Error    string       `json:"error,omitempty"`
}

// visit is a stranger's: TLS, the certificate, the first page. It reports whether TLS came about.
func (s *surveyor) visit(ctx context.Context, tcp net.Conn, ep accesskey.Endpoint, e *Endpoint) bool {
	s.doing("visiting the website, as a browser would")
	v, err := https.Look(ctx, tcp, transport.Endpoint{Addr: ep.Addr(), Name: ep.Name})
	if v == nil {
		e.TLS = &TLS{Error: why(err)}
		s.check(ctx, e, Check{"TLS", Failed, why(err), handshakeNext(err)})
		return false
	}
	e.TLS = &TLS{Version: "1.3", Group: v.Group, PostQuantum: v.PostQuantum, Protocol: v.Protocol,
		Took: ms(v.Handshake)}
	c := Check{"TLS", Good, fmt.Sprintf("1.3, %s, %s, after %s", v.Group, firstOf(v.Protocol, "no ALPN"),
		took(v.Handshake)), ""}
	if !v.PostQuantum || v.Protocol != "h2" {
		c.Outcome, c.Next = Failed, "a gateway has X25519MLKEM768 and h2: another server answers, or something in "+
			"between that ends TLS itself"
	}
	s.check(ctx, e, c)
	s.certificate(ctx, v.Certificates, ep, e)
	s.website(ctx, v, err, e)
	return true
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// handshakeNext says what a handshake that did not come about can mean.
func handshakeNext(err error) string {
	var reason transport.Reason
	switch {
	case errors.As(err, &reason):
		return "another server answers there, not a gateway: is the address still the gateway's?"
	case timedOut(err), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return "the connection was made, and then cut or swallowed: a firewall on the way looks at the server name or the " +
			"address; try from another network, and ask for a key with another name"
	}
	return "try from another network"
}

// certificate looks at what the server showed.
func (s *surveyor) certificate(ctx context.Context, chain []*x509.Certificate, ep accesskey.Endpoint, e *Endpoint) {
	leaf := chain[0] // without one there is no handshake
	d := &Certificate{Names: []string{}, Issuer: clean(firstOf(leaf.Issuer.CommonName, leaf.Issuer.String()), 80),
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Pin: pinOther,
		SelfSigned: leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature) == nil}
	e.Certificate = d
	for _, name := range leaf.DNSNames {
		d.Names = append(d.Names, clean(name, 80))
	}
	for _, ip := range leaf.IPAddresses {
		d.Names = append(d.Names, ip.String())
	}
	pins := s.Key.Pins()
	switch slices.Index(pins, transport.KeyHash(leaf)) {
	case 0:
		d.Pin = pinCurrent
		s.check(ctx, e, Check{"pin", Good, "the gateway's own key, as the access key says", ""})
	case 1:
		d.Pin = pinNext
		s.check(ctx, e, Check{"pin", Good, "the gateway's next key, as the access key says", ""})
	default:
		s.check(ctx, e, Check{"pin", Failed, "whoever answers holds another key than the gateway",
			"the gateway was set up anew (then ask for a new access key), the address belongs to somebody else now, or " +
				"somebody sits in between; nothing of the access key was sent"})
	}

	host := firstOf(ep.Name, ep.Host)
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: s.Roots, Intermediates: between})
	d.Trusted = err == nil
	if err != nil {
		d.Distrust = distrust(err, host)
	}
	c := Check{Name: "certificate", Outcome: Good}
	by := "by " + d.Issuer + ", publicly trusted"
	left := time.Until(leaf.NotAfter)
	const look = "on the gateway, 'godwit gateway status' tells what became of renewing it"
	switch {
	case left < 0:
		c.Outcome, c.Next = Warning, look
	case d.SelfSigned:
		by, c.Outcome, c.Next = "self-signed", Warning, "users do not mind, but few websites are: docs/certificates.md "+
			"says how a gateway with a name gets one from a CA"
	case err != nil:
		by, c.Outcome, c.Next = "by "+d.Issuer+", not trusted here: "+d.Distrust, Warning,
			"users do not mind, but a browser warns its visitors"
	case left < leaf.NotAfter.Sub(leaf.NotBefore)/10:
		c.Outcome, c.Next = Warning, look
	}
	until := "until " + leaf.NotAfter.UTC().Format(time.DateOnly)
	if left < 0 {
		until = "ended on " + leaf.NotAfter.UTC().Format(time.DateOnly)
	}
	c.Detail = fmt.Sprintf("%s, %s, %s", firstOf(listed(d.Names), "for no name"), by, until)
	s.check(ctx, e, c)
}

// distrust says in few words why a certificate is not trusted.
func distrust(err error, host string) string {
	var name x509.HostnameError
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &name):
		return "it is not for " + host
	case errors.As(err, &unknown):
		return "no CA of this system's vouches for it"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "it has ended, or is not valid yet"
	}
	return clean(err.Error(), 120)
}

// listed are the first few of several.
func listed(all []string) string {
	const most = 3
	if len(all) > most {
		return strings.Join(all[:most], ", ") + fmt.Sprintf(" and %d more", len(all)-most)
	}
	return strings.Join(all, ", ")
}

// website looks at the first page.
func (s *surveyor) website(ctx context.Context, v *https.Visit, err error, e *Endpoint) {
	const name = "website"
	if v.Page == nil {
		e.Website = &Website{Protocol: v.Protocol, Error: why(err)}
		s.check(ctx, e, Check{name, Warning, "a stranger gets no answer: " + why(err),
			"few servers are silent: on the gateway, see docs/website.md"})
		return
	}
	protocol := "HTTP/2"
	if v.Protocol != "h2" {
		protocol = "HTTP/1.1"
	}
	e.Website = describe(v.Page, protocol, v.Answer)
	c := Check{name, Good, e.Website.text(), ""}
	if e.Website.Status >= 400 {
		c.Outcome, c.Next = Warning, "a website that has a first page is less remarkable: see docs/website.md"
	}
	s.check(ctx, e, c)
}

func describe(p *https.Page, protocol string, d time.Duration) *Website {
	return &Website{Status: p.Status, Title: title(p), Server: clean(p.Header.Get("Server"), 60), Protocol: protocol,
		Location: clean(p.Header.Get("Location"), 200), Bytes: len(p.Body), Took: ms(d)}
}

func (w *Website) text() string {
	all := []string{fmt.Sprintf("%d %s", w.Status, http.StatusText(w.Status))}
	if w.Location != "" {
		all[0] += " to " + w.Location
	}
	if w.Title != "" {
		all[0] += fmt.Sprintf(" “%s”", w.Title)
	}
	all = append(all, w.Protocol, amount(float64(w.Bytes), "B"))
	if w.Server != "" {
		all = append(all, "server: "+w.Server)
	} else {
		all = append(all, "no server header")
	}
	return strings.Join(all, ", ")
}

var titleText = regexp.MustCompile(`(?is)<title[^>]*>(.*?)</title>`)

// title is a page's, if it can be read.
func title(p *https.Page) string {
	body := p.Body
	switch p.Header.Get("Content-Encoding") {
	case "":
	case "gzip":
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return ""
		}
		body, _ = io.ReadAll(io.LimitReader(z, 1<<20)) // its beginning will do
	default:
		return ""
	}
	m := titleText.FindSubmatch(body)
	if m == nil {
		return ""
	}
	return clean(html.UnescapeString(string(m[1])), 60)
}

// redirect looks at what answers without TLS.
func (s *surveyor) redirect(ctx context.Context, ep accesskey.Endpoint, addr string, e *Endpoint) {
	port := s.PlainPort
	if port == 0 {
		if _, p, _ := net.SplitHostPort(addr); p != "443" {
			return
		}
		port = 80
	}
	name := fmt.Sprintf("port %d", port)
	s.doing("asking " + name + ", as a browser would")
	const next = "websites on port 443 answer on port 80, as a rule with a redirect: see docs/website.md"
	began := time.Now()
	page, err := s.plain(ctx, ep, hostPort(addr, port))
	if err != nil {
		e.Redirect = &Website{Error: why(err)}
		s.check(ctx, e, Check{name, Warning, why(err), next})
		return
	}
	e.Redirect = describe(page, "HTTP/1.1", time.Since(began))
	c := Check{name, Good, e.Redirect.text(), ""}
	if to, err := url.Parse(page.Header.Get("Location")); err != nil || to.Scheme != "https" {
		c.Outcome, c.Next = Warning, next
	}
	s.check(ctx, e, c)
}

func (s *surveyor) plain(ctx context.Context, ep accesskey.Endpoint, addr string) (*https.Page, error) {
	tcp, _, err := s.connect(ctx, addr, connectTimeout/2)
	if err != nil {
		return nil, err
	}
	host := firstOf(ep.Name, ep.Host)
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if _, port, _ := net.SplitHostPort(addr); port != "80" {
		host += ":" + port
	}
	return https.LookPlain(ctx, tcp, host)
}
