package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	utls "github.com/refraction-networking/utls"

	"github.com/godwit-vpn/godwit/internal/clienthello"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
	"github.com/godwit-vpn/godwit/tests/visitors"
)

// returns is how often a visitor comes back. Chromium follows twenty redirections.
const returns = 12

// TestChromeReturns compares a client that comes back with a ticket with Chromium that does: on loopback, each time on a
// connection of its own. When it fails, Chrome has changed: see docs/chrome.md.
func TestChromeReturns(t *testing.T) {
	needNamespaces(t)
	need(t, "chromium")
	h := newHost(t, "browser")
	dir := t.TempDir()
	cert := (&site{ca: filepath.Join(dir, "ca.pem")}).certificate(t)
	browser := comeBack(t, h, cert, "Chromium", func() error {
		return runChromium(t.Context(), h, filepath.Join(dir, "chromium"), recorderName)
	})
	cache := &oneTicket{browser: chrome.BuiltIn(chrome.FamilyChrome)}
	ours := comeBack(t, h, cert, "ours", func() error {
		for range returns + 1 { // the last of which is not sent away
			if err := visitWith(h, cache.client, recorderName, ""); err != nil {
				return err
			}
		}
		return nil
	})
	t.Logf("%d and %d hellos, of %d and %d bytes, JA4 %s", len(browser.Hellos), len(ours.Hellos), browser.Hellos[0].Length,
		ours.Hellos[0].Length, browser.Hellos[0].JA4())
	differences := compareHellos(browser, ours, profileOf(t, profileFile))
	for _, d := range visitors.CompareRequests(t, "return visit", browser.First, ours.First) {
		if !strings.Contains(d, "order of fields:") { // which Chromium changes when it follows a redirection
			differences = append(differences, d)
		}
	}
	if differences != nil {
		t.Errorf("our client does not return as Chromium does:\n%s", strings.Join(differences, "\n"))
	}
}

// comeBack has a visitor visit a recorder that sends it away again and again, and returns what was seen of its coming back.
func comeBack(t *testing.T, h *host, cert tls.Certificate, name string, visit func() error) *visitors.Visitor {
	t.Helper()
	v := &visitors.Visitor{Name: name}
	r := visitors.NewRecorder(t, h.listen(t, recorderAddr), cert)
	r.SendAway(returns)
	if err := visit(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	tickets := map[string]bool{}
	for _, c := range r.Finish() {
		if c.Hello == nil {
			continue
		}
		hello, err := clienthello.ParseHello(c.Hello)
		if err != nil {
			t.Fatalf("%s: %v: %x", name, err, c.Hello)
		}
		psk := hello.PSK()
		if psk == nil {
			continue // a first visit
		}
		if ticket := string(psk.Identities[0]); tickets[ticket] {
			t.Errorf("%s used a ticket twice", name)
		} else {
			tickets[ticket] = true
		}
		v.Hellos = append(v.Hellos, hello)
		if _, err := visitors.ReadOpening(c); err == nil { // those who are sent away do not come so far
			v.First = c
		}
	}
	if len(v.Hellos) < returns/2 || v.First == nil {
		t.Fatalf("%s came back %d times", name, len(v.Hellos))
	}
	return v
}

// oneTicket is the newest session's ticket, until it is used.
type oneTicket struct {
	browser *chrome.Browser
	session *utls.ClientSessionState
}

func (o *oneTicket) Put(_ string, s *utls.ClientSessionState) {
	if s != nil {
		o.session = s
	}
}

func (o *oneTicket) Get(string) (*utls.ClientSessionState, bool) {
	s := o.session
	o.session = nil
	return s, s != nil
}

func (o *oneTicket) client(c net.Conn, cfg *utls.Config) (*utls.UConn, error) {
	cfg.ClientSessionCache = o
	return o.browser.Client(c, cfg)
}

// TestChromeWithoutName compares a client that is given no name with Chromium that goes to an address.
func TestChromeWithoutName(t *testing.T) {
	needNamespaces(t)
	need(t, "chromium")
	h := newHost(t, "browser")
	dir := t.TempDir()
	cert := (&site{ca: filepath.Join(dir, "ca.pem")}).certificate(t)
	host, _, _ := net.SplitHostPort(recorderAddr)
	browser := visitRecorder(t, h, cert, "Chromium", enoughHellos, func(i int) error {
		return runChromium(t.Context(), h, filepath.Join(dir, fmt.Sprint("chromium", max(1, i))), host)
	})
	ours := visitRecorder(t, h, cert, "ours", enoughHellos, func(i int) error {
		cookie := ""
		if i == 1 {
			cookie = strings.Join(recorderCookies, "; ")
		}
		return visitWith(h, chrome.Client, host, cookie)
	})
	if _, named := browser.Hellos[0].Extension(clienthello.ServerName); named {
		t.Error("Chromium sends a name where it has an address")
	}
	differences := compareHellos(browser, ours, profileOf(t, profileFile))
	differences = append(differences, visitors.CompareRequests(t, "first visit", browser.First, ours.First)...)
	differences = append(differences, visitors.CompareRequests(t, "second visit", browser.Again, ours.Again)...)
	if differences != nil {
		t.Errorf("our client does not look like Chromium that goes to an address:\n%s", strings.Join(differences, "\n"))
	}
}
