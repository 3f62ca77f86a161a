package e2e

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/client"
	"github.com/godwit-vpn/godwit/internal/gatewaydir"
)

// One gateway, several places: an access key may name any of them, alone or behind one where nobody answers.
func TestWays(t *testing.T) {
	needNamespaces(t) // nobody else has these ports there
	places := []string{"127.0.0.1:443", "127.0.0.1:8443", "127.0.0.2:443"}
	if l, err := net.Listen("tcp", "[::1]:443"); err == nil {
		l.Close()
		places = append(places, "[::1]:443", "[::1]:2053")
	}
	log := slog.New(slog.DiscardHandler)
	dir, _, err := gatewaydir.Init(t.Context(), t.TempDir(), []string{"127.0.0.1:443"}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	dir.Settings.Listen = places
	dir.Settings.Egress.Allow = []string{"127.0.0.0/8"}
	k, err := dir.Control.KeyByName(t.Context(), gatewaydir.FirstKey)
	if err != nil {
		t.Fatal(err)
	}
	key, err := dir.AccessKey(k)
	if err != nil {
		t.Fatal(err)
	}
	g, err := dir.Service(log)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1) // the gateway must not wait for us
	go func() { served <- g.Run(ctx) }()
	defer func() { cancel(); <-served }()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "here") }))
	defer s.Close()

	state := t.TempDir()
	visit := func(name string, endpoints ...accesskey.Endpoint) {
		key.Endpoints = endpoints
		parsed, err := accesskey.Parse(key.Text())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		c, err := client.New(client.Config{Key: parsed, StateDir: filepath.Join(state, "device"), Logger: log})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		ended := make(chan error, 1) // read below
		go func() { ended <- c.Run(ctx) }()
		h := &http.Client{Transport: &http.Transport{DialContext: c.Dial, DisableKeepAlives: true}, Timeout: time.Minute}
		if err := c.Ready(ctx); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if resp, err := h.Get(s.URL); err != nil {
			t.Errorf("%s: %v", name, err)
		} else {
			b, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || string(b) != "here" {
				t.Errorf("%s: %q, %v", name, b, err)
			}
		}
		cancel()
		<-ended
	}
	for _, place := range places {
		a := netip.MustParseAddrPort(place)
		e := accesskey.Endpoint{Host: a.Addr().String(), Port: a.Port()}
		visit(place, e)
		e.Name = "site.test"
		visit(place+" with a name", e)
		visit(place+" behind one where nobody is", accesskey.Endpoint{Host: "127.0.0.9", Port: 443}, e)
	}
}
