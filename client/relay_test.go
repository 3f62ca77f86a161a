package client_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/client"
	"github.com/godwit-vpn/godwit/internal/gatewaydir"
)

// relayOf makes a relay of a world's gateway and runs it until the test ends.
func relayOf(t *testing.T, w *world) *gatewaydir.Service {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	token, err := w.dir.AddRelay("inside", addr)
	if err != nil {
		t.Fatal(err)
	}
	dir, made, err := gatewaydir.Paths{State: t.TempDir()}.Init(t.Context(), gatewaydir.Wishes{Endpoints: []string{addr}, Relay: &token}, logger(t))
	if err != nil || !made {
		t.Fatalf("making a relay: %v, made %v", err, made)
	}
	t.Cleanup(func() { dir.Close() })
	dir.Settings.Listen = []string{addr}
	s, err := dir.Service(logger(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the relay ended with %v", err)
		}
		s.Close()
	})
	return s
}

// Where the gateway's own address is blocked, a session goes on through a relay, and the relay keeps nothing of it.
func TestRelay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run(t)
	relay := relayOf(t, w)
	k, err := w.dir.Control.KeyByName(t.Context(), gatewaydir.FirstKey)
	if err != nil {
		t.Fatal(err)
	}
	key, err := w.dir.AccessKey(k)
	if err != nil {
		t.Fatal(err)
	}
	last := key.Endpoints[len(key.Endpoints)-1]
	if last.Relay == nil {
		t.Fatalf("endpoints %+v", key.Endpoints)
	}
	at, _ := hole(t, swallow)
	key.Endpoints = []accesskey.Endpoint{key.Endpoints[0], last}
	key.Endpoints[0].Port = at.Port
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c, err := client.New(client.Config{Key: key, Logger: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	ready(t, c)
	content := make([]byte, 3<<20)
	for i := range content {
		content[i] = byte(i * i >> 8)
	}
	fetch(t, c, site(t, content).URL, content)
	if st := relay.Relay.Status(); st.Pipes == 0 || st.Users != 1 || st.Forwarded < int64(len(content)) {
		t.Errorf("the relay: %+v", st)
	}
	if _, idle := relay.Idle(); idle {
		t.Error("a relay that forwards calls itself idle")
	}
	if ways := c.Status().Ways; ways[1].Transport != "relay" || ways[1].State != "works" {
		t.Errorf("the ways: %+v", ways)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		_, idle := relay.Idle()
		if st := relay.Relay.Status(); st.Pipes == 0 && st.Users == 0 && idle {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("after the client's end: %+v, idle %v", st, idle)
		}
	}
}
