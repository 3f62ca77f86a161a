package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	utls "github.com/refraction-networking/utls"
	"golang.org/x/net/http2"

	"github.com/godwit-vpn/godwit/internal/clienthello"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
	"github.com/godwit-vpn/godwit/tests/visitors"
)

var update = flag.Bool("update", false, "write what is seen into the browsers' profiles and docs/fidelity.md instead of comparing with them")

const (
	profileFile = "../internal/transports/https/chrome/chrome.json"
	howToUpdate = "update internal/transports/https/chrome with: go test ./tests -run '^TestChrome$' -count 1 -update"

	recorderAddr = "127.0.0.1:443"
	recorderName = "site.test"

	enoughHellos  = 8
	updatedHellos = 40 // to have met every size of encrypted_client_hello
)

// recorderCookies are what the recorder sets: one as long as a gateway's, and one more to see how two are sent.
var recorderCookies = []string{"id=" + strings.Repeat("abcdEFGH0123-_", 34), "seen=1"}

// TestChrome compares what our client sends with what Debian's Chromium sends, on loopback: a firewall that knows
// today's Chrome must find nothing in ours that Chrome does not do. When it fails, Chrome has changed: see docs/chrome.md.
func TestChrome(t *testing.T) {
	needNamespaces(t)
	need(t, "chromium")
	h := newHost(t, "browser")
	dir := t.TempDir()
	cert := (&site{ca: filepath.Join(dir, "ca.pem")}).certificate(t)
	hellos := enoughHellos
	if *update {
		hellos = updatedHellos
	}
	browser := visitRecorder(t, h, cert, "Chromium", hellos, func(i int) error {
		data := filepath.Join(dir, "chromium"+strconv.Itoa(max(1, i))) // the second visit finds the first one's cookies
		return runChromium(t.Context(), h, data, recorderName)
	})
	version := strings.TrimSpace(h.run(t, "", "chromium", "--version"))
	t.Logf("%s, %d hellos, JA4 %s", version, len(browser.Hellos), browser.Hellos[0].JA4())
	if *update {
		writeProfile(t, profileFile, chrome.Profile{Family: chrome.FamilyChrome, Browser: version + ", as Google Chrome on Windows",
			HTTP2: chrome.HTTP2{HPACK: chrome.HPACKShortest}}, browser, nil)
		return
	}
	ours := visitRecorder(t, h, cert, "ours", hellos, func(i int) error {
		cookie := ""
		if i == 1 {
			cookie = strings.Join(recorderCookies, "; ")
		}
		return visitWith(h, chrome.Client, recorderName, cookie)
	})
	stale := visitRecorder(t, h, cert, "a stale Chrome", 2, func(int) error { return visitWith(h, staleClient, recorderName, "") })
	profile := profileOf(t, profileFile)
	t.Logf("the profile is of %s, measured %s", profile.Browser, profile.Measured)
	differences := compareHellos(browser, ours, profile)
	differences = append(differences, visitors.CompareRequests(t, "first visit", browser.First, ours.First)...)
	differences = append(differences, visitors.CompareRequests(t, "second visit", browser.Again, ours.Again)...)
	if differences != nil {
		t.Errorf("our client does not look like %s:\n%s\n%s", version, strings.Join(differences, "\n"), howToUpdate)
	}
	if compareHellos(browser, stale, profile) == nil {
		t.Errorf("a Chrome of years ago looks like %s, so this test sees nothing", version)
	}
}

// staleClient is what ours would be without a profile of our own: the engine's newest.
func staleClient(c net.Conn, cfg *utls.Config) (*utls.UConn, error) {
	return utls.UClient(c, cfg, utls.HelloChrome_133), nil
}

// visitRecorder has a visitor visit recorders until that many hellos are seen: the second time as someone who returns,
// otherwise as someone new.
func visitRecorder(t *testing.T, h *host, cert tls.Certificate, name string, hellos int,
	visit func(i int) error) *visitors.Visitor {
	t.Helper()
	v := &visitors.Visitor{Name: name}
	for i := 0; len(v.Hellos) < hellos || i < 2; i++ {
		if i > hellos {
			t.Fatalf("%s came %d times and sent %d hellos", name, i, len(v.Hellos))
		}
		var cookies []string
		for _, c := range recorderCookies {
			cookies = append(cookies, c+"; Max-Age=86400; Path=/; Secure; HttpOnly")
		}
		r := visitors.NewRecorder(t, h.listen(t, recorderAddr), cert, cookies...)
		if err := visit(i); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		conns := r.Finish()
		var ends []string
		for _, c := range conns {
			if c.Hello == nil {
				continue
			}
			hello, err := clienthello.ParseHello(c.Hello)
			if err != nil {
				t.Fatalf("%s: %v: %x", name, err, c.Hello)
			}
			v.Hellos = append(v.Hellos, hello)
			use := fmt.Sprintf("%d requests", c.Requests())
			ends = append(ends, fmt.Sprintf("%s, then %s after %d records", use, c.End, len(c.Records)))
			switch {
			case c.Requests() == 0:
			case i == 0 && v.First == nil:
				v.First = c
			case i == 1 && v.Again == nil:
				v.Again = c
			}
		}
		if i < 2 { // what they are is for people: who imitates a browser need not imitate its second connection
			t.Logf("%s, visit %d: %d connections: %s", name, i+1, len(ends), strings.Join(ends, "; "))
		}
	}
	if v.First == nil || v.Again == nil {
		t.Fatalf("%s sent no request", name)
	}
	return v
}

func runChromium(ctx context.Context, h *host, data, site string) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	// Of these only --ignore-certificate-errors and --host-resolver-rules concern the connection; neither changes it.
	dom, complaint, err := output(ctx, h.command("chromium", "--headless=new", "--no-sandbox", "--disable-gpu",
		"--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "--disable-component-update",
		"--disable-sync", "--ignore-certificate-errors", "--host-resolver-rules=MAP "+recorderName+" 127.0.0.1",
		"--user-data-dir="+data, "--dump-dom", "https://"+site+"/"))
	if err == nil && !strings.Contains(dom, "recorded") {
		err = errors.New("the page did not load")
	}
	if err != nil {
		return fmt.Errorf("%w\n%s\n%s", err, dom, complaint)
	}
	return nil
}

// visitWith does what a client of ours does first, that looks like Chrome.
func visitWith(h *host, client func(net.Conn, *utls.Config) (*utls.UConn, error), name, cookie string) error {
	return visitAs(h, chrome.BuiltIn(chrome.FamilyChrome), client, name, cookie)
}

func visitAs(h *host, b *chrome.Browser, client func(net.Conn, *utls.Config) (*utls.UConn, error), name, cookie string) error {
	var c net.Conn
	if err := h.do(func() (err error) {
		c, err = net.Dial("tcp", recorderAddr)
		return err
	}); err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	u, err := client(c, &utls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		return err
	}
	if err := u.Handshake(); err != nil {
		return err
	}
	for _, record := range b.Opening(name, cookie) {
		if _, err := u.Write(record); err != nil {
			return err
		}
	}
	framer := http2.NewFramer(u, u)
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			return err
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if err := framer.WriteSettingsAck(); err != nil {
				return err
			}
		case *http2.DataFrame:
			if f.StreamEnded() {
				return nil
			}
		case *http2.HeadersFrame:
			if f.StreamEnded() { // sent away
				return nil
			}
		}
	}
}
