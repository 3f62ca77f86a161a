package client_test

import (
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/client"
)

// A client heeds what was found: the way that was found blocked is not dialled while another one works.
func TestSteer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run(t)
	bad, dials := hole(t, func(c net.Conn) { c.Close() })
	key := w.key
	key.Endpoints = []accesskey.Endpoint{bad, key.Endpoints[0]}
	c, err := client.New(client.Config{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	found := client.Finding{Blocked: true}
	found.Transport, found.Addr = "https", bad.Addr()
	s, err := c.Steer([]client.Finding{found})
	if err != nil && s.Ways == nil {
		t.Skip("this machine has only itself to talk to: ", err)
	}
	if s.First.Endpoint != 2 || s.Ways[0].Found != "blocked" || s.Ways[1].Found != "" {
		t.Fatalf("it makes of it %+v", s)
	}
	run(t, c)
	ready(t, c)
	for deadline := time.Now().Add(20 * time.Second); len(c.Status().Links) < 2; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no second link: %+v", c.Status())
		}
	}
	if n := dials.Load(); n > 0 {
		t.Errorf("what was found blocked was dialled %d times", n)
	}
	// It is told while it runs, too.
	found.Blocked = false
	if s, err := c.Steer([]client.Finding{found}); err != nil || s.Ways[0].Found != "" {
		t.Errorf("told again, it makes of it %+v, %v", s, err)
	}
}

// An error of a Config's says which field it is about.
func TestCheck(t *testing.T) {
	t.Parallel()
	for field, cfg := range map[string]client.Config{
		"": {}, "Links": {Links: 4}, "Browser": {Browser: "lynx"}, "Fragment": {Fragment: "dust"}, "Shape": {Shape: "loud"},
		"Resolvers": {Resolvers: []string{"://"}}, "Transports": {Transports: []string{"pigeon"}, StateDir: filepath.Join(t.TempDir(), "x")},
	} {
		err := cfg.Check()
		var got *client.FieldError
		if errors.As(err, &got) != (field != "") || got != nil && got.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}
