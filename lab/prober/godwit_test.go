package prober

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/client"
	"github.com/godwit-vpn/godwit/internal/gatewaydir"
	godwithttp "github.com/godwit-vpn/godwit/internal/transports/http"
	"github.com/godwit-vpn/godwit/internal/transports/https"
)

// A gateway that is in use is cleared beside net/http with the same pages and certificate, its user's own first flight
// replayed and flooded: on the website's port, and on that of plain HTTP.
func TestGodwit(t *testing.T) {
	for _, name := range []string{https.Name, godwithttp.Name} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			godwit(t, name)
		})
	}
}

func godwit(t *testing.T, name string) {
	log := slog.New(slog.DiscardHandler)
	at, bareAt := freePort(t), freePort(t)
	used := at
	if name == godwithttp.Name {
		used = bareAt
	}
	rec := tap(t, used.String())
	dir, _, err := gatewaydir.Init(t.Context(), t.TempDir(), []string{at.String()}, log)
	ok(t, err)
	defer dir.Close()
	dir.Settings.Listen = []string{at.String()}
	dir.Settings.Website.Redirect = &[]string{bareAt.String()}
	dir.Settings.Egress.Allow = []string{"127.0.0.0/8", "::1/128"}
	g, err := dir.Service(log)
	ok(t, err)
	defer g.Close()
	run := func(f func(context.Context) error) (stop func()) {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- f(ctx) }()
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	defer run(g.Run)()

	// The user fetches a page and stays.
	key, err := dir.Control.KeyByName(t.Context(), gatewaydir.FirstKey)
	ok(t, err)
	access, err := dir.AccessKey(key)
	ok(t, err)
	tapped := accesskey.Endpoint{Host: rec.addr.Addr().String(), Port: rec.addr.Port()}
	if access.Endpoints = []accesskey.Endpoint{tapped}; name != https.Name { // the first is of https in all
		tapped.Transport = name
		access.Endpoints = append(access.Endpoints, tapped)
	}
	user, err := client.New(client.Config{Key: access, Links: 1, Transports: []string{name}})
	ok(t, err)
	defer run(user.Run)()
	ok(t, user.Ready(t.Context()))
	site := httptest.NewServer(pages("through the tunnel"))
	defer site.Close()
	visitor := &http.Client{Transport: &http.Transport{DialContext: user.Dial}}
	resp, err := visitor.Get(site.URL)
	ok(t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	ok(t, err)
	resp.Body.Close()
	visitor.CloseIdleConnections()

	pages, bare, err := dir.Face()
	ok(t, err)
	control := website(t, &tls.Config{GetCertificate: g.Certificates.GetCertificate}, pages)
	if name == godwithttp.Name {
		control = website(t, nil, bare)
	}
	suspect := rec.suspect(t, used)
	if name == https.Name && hello(suspect.Client) == nil || len(suspect.Client) < 2 {
		t.Fatalf("recorded %d packets of the user's", len(suspect.Client))
	}
	r := probe(t, control, suspect)
	r.want(t, Cleared, "", true)
	for _, res := range r.Results {
		if res.Suspect.End == NotSent && name == https.Name { // without TLS some have nothing to replay
			t.Errorf("%s was not sent: %s", res.Probe, res.Suspect.What)
		}
		if !res.Same {
			t.Errorf("%s\n\tthe gateway: %s\n\tthe website: %s", res.Probe, res.Suspect, res.Control)
		}
	}

	// Were the client's own proxy to be seen from outside, it would not be cleared.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	defer run(func(ctx context.Context) error {
		if err := user.ServeProxy(ctx, l); ctx.Err() == nil {
			return err
		}
		return nil
	})()
	probe(t, control, Suspect{Addr: netip.MustParseAddrPort(l.Addr().String())}).want(t, Unmasked, "proxy", true)
	if s := user.Status(); len(s.Links) == 0 {
		t.Error("the user has lost the link meanwhile")
	}
}
