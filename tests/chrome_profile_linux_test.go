package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/clienthello"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
	"github.com/godwit-vpn/godwit/tests/visitors"
)

// profileOf is a profile that is built in.
func profileOf(t *testing.T, file string) *chrome.Profile {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	profile, err := chrome.ParseProfile(text)
	if err != nil {
		t.Fatal(err)
	}
	return profile
}

// writeProfile writes the profile that imitates what was measured, when it can be imitated. p has what is not measured, and
// returning is the browser as it comes back, where that changes more than pre_shared_key.
func writeProfile(t *testing.T, file string, p chrome.Profile, browser, returning *visitors.Visitor) {
	t.Helper()
	again, err := visitors.ReadOpening(browser.Again)
	if err != nil {
		t.Fatal(err)
	}
	again.AsMost()
	hello := browser.Hellos[0]
	order := hello.Order()
	p.Measured = time.Now().UTC().Format(time.DateOnly)
	p.TLS = chrome.TLS{
		Ciphers:             codes(hello.Ciphers),
		Groups:              codes(hello.List(clienthello.SupportedGroups)),
		Versions:            codes(hello.List(clienthello.SupportedVersions)),
		SignatureAlgorithms: codes(hello.List(clienthello.SignatureAlgorithms)),
		ALPN:                hello.Protocols(clienthello.ALPN), ApplicationSettings: hello.Protocols(clienthello.ALPS),
		CertificateCompression: codes(hello.List(clienthello.CompressCertificate)),
		Shuffled:               len(browser.Orders()) > 1,
		GREASEEnds:             order[0] == clienthello.GREASE && order[len(order)-1] == clienthello.GREASE,
		OneX25519:              slices.Contains(hello.Fields(), clienthello.Field{Name: "the hybrid share repeats the X25519 share", Value: "true"}),
	}
	p.HTTP2 = chrome.HTTP2{WindowUpdate: again.Window, Stream: again.Stream[0], StreamWindow: again.Stream[1], HPACK: p.HTTP2.HPACK,
		Priority: chrome.Priority{
			DependsOn: again.Priority.StreamDep, Exclusive: again.Priority.Exclusive, Weight: int(again.Priority.Weight) + 1,
		}}
	for _, s := range hello.KeyShares() {
		p.TLS.KeyShares = append(p.TLS.KeyShares, clienthello.Plain(s.Group))
	}
	for _, hello := range browser.Hellos {
		ech := hello.ECH()
		if ech == nil {
			t.Fatal("a hello has no encrypted_client_hello: chrome.TLS knows none without")
		}
		p.TLS.ECHGREASE.KDF = ech.KDF
		if !slices.Contains(p.TLS.ECHGREASE.AEADs, ech.AEAD) {
			p.TLS.ECHGREASE.AEADs = append(p.TLS.ECHGREASE.AEADs, ech.AEAD)
		}
		if size := len(ech.Payload); !slices.Contains(p.TLS.ECHGREASE.Payloads, size) {
			p.TLS.ECHGREASE.Payloads = append(p.TLS.ECHGREASE.Payloads, size)
		}
	}
	slices.Sort(p.TLS.ECHGREASE.AEADs)
	slices.Sort(p.TLS.ECHGREASE.Payloads)
	if returning != nil {
		for _, hello := range returning.Hellos {
			if size := len(hello.ECH().Payload); !slices.Contains(p.TLS.ECHGREASE.ReturnPayloads, size) {
				p.TLS.ECHGREASE.ReturnPayloads = append(p.TLS.ECHGREASE.ReturnPayloads, size)
			}
		}
		slices.Sort(p.TLS.ECHGREASE.ReturnPayloads)
		for _, number := range order {
			if _, sent := returning.Hellos[0].Extension(number); !sent && number != clienthello.GREASE {
				p.TLS.NotReturning = append(p.TLS.NotReturning, number)
			}
		}
	}
	for _, e := range hello.Extensions {
		if clienthello.IsGREASE(e.Type) {
			continue
		}
		ext := chrome.Extension{Type: chrome.Code(e.Type), Name: clienthello.NameOf(e.Type)}
		if !chrome.Makes(ext.Type) {
			ext.Body = e.Body
		}
		p.TLS.Extensions = append(p.TLS.Extensions, ext)
	}
	if p.TLS.Shuffled {
		slices.SortFunc(p.TLS.Extensions, func(a, b chrome.Extension) int { return int(a.Type) - int(b.Type) })
	}
	for _, s := range again.Values {
		p.HTTP2.Settings = append(p.HTTP2.Settings, chrome.Setting{ID: uint16(s.ID), Value: s.Val})
	}
	for i, f := range again.Fields {
		if f.Name == ":authority" || f.Name == "cookie" {
			f.Value = ""
		}
		if i == 0 || f.Name != again.Fields[i-1].Name {
			p.HTTP2.Headers = append(p.HTTP2.Headers, strings.TrimSuffix(f.Name+": "+f.Value, " "))
		}
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "\t")
	if err := enc.Encode(p); err != nil {
		t.Fatal(err)
	}
	if _, err := chrome.ParseProfile(text.Bytes()); err != nil {
		t.Fatalf("what the browser sends now needs code, not only data: %v\n%s", err, &text)
	}
	if err := os.WriteFile(file, text.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("wrote %s: look at what changed, then run the test without -update", file)
}

// codes writes every GREASE value as the profile's one.
func codes(values []uint16) chrome.Codes {
	var all chrome.Codes
	for _, v := range values {
		all = append(all, clienthello.Plain(v))
	}
	return all
}
