package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
	"github.com/godwit-vpn/godwit/tests/visitors"
)

const (
	firefoxFile     = "../internal/transports/https/chrome/firefox.json"
	updateFirefox   = "update internal/transports/https/chrome with: go test ./tests -run '^TestFirefox$' -count 1 -update"
	firefoxHellos   = 4  // which takes 3 s each
	firefoxUpdating = 12 // to have met both AEADs of encrypted_client_hello
)

// TestFirefox compares what our client sends that looks like Firefox with what Debian's sends, on loopback, on a first visit,
// on one with cookies, and as it comes back. When it fails, Firefox has changed: see docs/chrome.md.
func TestFirefox(t *testing.T) {
	needNamespaces(t)
	need(t, "firefox-esr", "certutil")
	h := newHost(t, "firefox")
	dir := t.TempDir()
	cert := issued(t, filepath.Join(dir, "ca.pem"), recorderName)
	hosts := filepath.Join(dir, "hosts")
	if err := os.WriteFile(hosts, []byte("127.0.0.1 localhost "+recorderName+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	h.files["/etc/hosts"] = hosts
	data := newFirefox(t, h, dir)
	visit := func() error { return runFirefox(t.Context(), h, data) }
	hellos := firefoxHellos
	if *update {
		hellos = firefoxUpdating
	}
	browser := visitRecorder(t, h, cert, "Firefox", hellos, func(int) error { return visit() })
	back := comeBack(t, h, cert, "Firefox", visit)
	version := strings.TrimSpace(h.run(t, "", "firefox-esr", "--version"))
	t.Logf("%s, %d hellos, JA4 %s; %d as it comes back, JA4 %s", version, len(browser.Hellos), browser.Hellos[0].JA4(),
		len(back.Hellos), back.Hellos[0].JA4())
	if *update {
		writeProfile(t, firefoxFile, chrome.Profile{Family: chrome.FamilyFirefox, Browser: version + ", as on Windows",
			HTTP2: chrome.HTTP2{HPACK: chrome.HPACKFirefox}}, browser, back)
		return
	}
	cache := &oneTicket{browser: chrome.BuiltIn(chrome.FamilyFirefox)}
	ours := visitRecorder(t, h, cert, "ours", hellos, func(i int) error {
		cookie := ""
		if i == 1 {
			cookie = strings.Join(recorderCookies, "; ")
		}
		return visitAs(h, cache.browser, cache.browser.Client, recorderName, cookie)
	})
	oursBack := comeBack(t, h, cert, "ours", func() error {
		for range returns + 1 {
			if err := visitAs(h, cache.browser, cache.client, recorderName, strings.Join(recorderCookies, "; ")); err != nil {
				return err
			}
		}
		return nil
	})
	profile := profileOf(t, firefoxFile)
	t.Logf("the profile is of %s, measured %s", profile.Browser, profile.Measured)
	differences := compareHellos(browser, ours, profile)
	differences = append(differences, visitors.CompareRequests(t, "first visit", browser.First, ours.First)...)
	differences = append(differences, visitors.CompareRequests(t, "second visit", browser.Again, ours.Again)...)
	differences = append(differences, compareHellos(back, oursBack, profile)...)
	differences = append(differences, visitors.CompareRequests(t, "return visit", back.First, oursBack.First)...)
	if differences != nil {
		t.Errorf("our client does not look like %s:\n%s\n%s", version, strings.Join(differences, "\n"), updateFirefox)
	}
}

// newFirefox makes a fresh Firefox that trusts the CA in dir and asks nobody for anything.
func newFirefox(t *testing.T, h *host, dir string) (data string) {
	t.Helper()
	data = filepath.Join(dir, "firefox")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	var prefs strings.Builder
	for _, off := range []string{"browser.shell.checkDefaultBrowser", "datareporting.policy.dataSubmissionEnabled",
		"network.captive-portal-service.enabled", "network.connectivity-service.enabled", "app.update.enabled",
		"app.normandy.enabled", "browser.safebrowsing.malware.enabled", "browser.safebrowsing.phishing.enabled"} {
		fmt.Fprintf(&prefs, "user_pref(%q, false);\n", off)
	}
	if err := os.WriteFile(filepath.Join(data, "user.js"), []byte(prefs.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	h.run(t, "", "certutil", "-N", "-d", "sql:"+data, "--empty-password")
	h.run(t, "", "certutil", "-A", "-n", "ca", "-t", "C,,", "-i", filepath.Join(dir, "ca.pem"), "-d", "sql:"+data)
	return data
}

func runFirefox(ctx context.Context, h *host, data string) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	picture := filepath.Join(data, "page.png")
	_ = os.Remove(picture)
	out, complaint, err := output(ctx, h.command("firefox-esr", "--headless", "--profile", data, "--screenshot", picture,
		"https://"+recorderName+"/"))
	if _, lost := os.Stat(picture); err == nil && lost != nil {
		err = errors.New("the page did not load")
	}
	if err != nil {
		return fmt.Errorf("%w\n%s\n%s", err, out, complaint)
	}
	return nil
}

// issued makes a certificate for a name, and the CA that it is of: Firefox takes none that is its own.
func issued(t *testing.T, caFile, name string) tls.Certificate {
	t.Helper()
	var keys [2]*ecdsa.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	begin, end := time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a test's CA"}, NotBefore: begin, NotAfter: end,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, keys[0].Public(), keys[0])
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: begin, NotAfter: end,
		DNSNames: []string{name}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, keys[1].Public(), keys[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}), 0o644); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: keys[1]}
}
