package client_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/client"
)

// An endpoint that swallows everything is overtaken by the next one, and known for it.
func TestWays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run(t)
	at, _ := hole(t, swallow)
	key := w.key
	good := key.Endpoints[0]
	key.Endpoints = []accesskey.Endpoint{at, {Transport: "pigeon", Host: "127.0.0.1", Port: 1}, good}
	began := time.Now()
	c, _ := start(t, client.Config{Key: key})
	ready(t, c)
	st := c.Status()
	t.Logf("ready in %v, %+v", time.Since(began).Round(time.Millisecond), st.Ways)
	if len(st.Ways) != 2 || st.Ways[0].Endpoint != 1 || st.Ways[1].Endpoint != 3 {
		t.Fatalf("the ways are %+v", st.Ways)
	}
	for deadline := time.Now().Add(10 * time.Second); st.Ways[1].State != "works" || st.Ways[1].Links == 0; st = c.Status() {
		if time.Now().After(deadline) { // it is ready a moment before that is noticed
			t.Fatalf("the way that works: %+v", st.Ways[1])
		}
		time.Sleep(10 * time.Millisecond)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		st = c.Status()
		if st.Ways[0].State == "failed" && st.Ways[0].Error != "" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the way that swallows: %+v", st.Ways[0])
		}
	}
	// The second link then comes by the way that works.
	for deadline := time.Now().Add(30 * time.Second); c.Status().Ways[1].Links < 2; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no second link: %+v", c.Status())
		}
	}
}

func port(t *testing.T, a net.Addr) string {
	_, p, err := net.SplitHostPort(a.String())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTransports(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct{ transports, says string }{
		{"https", ""},
		{"pigeon", `field Transports: there is no "pigeon"; there are https`},
	} {
		_, err := client.New(client.Config{Key: w.key, Transports: []string{c.transports}})
		if c.says == "" != (err == nil) || err != nil && !strings.HasPrefix(err.Error(), c.says) {
			t.Errorf("%s: %v", c.transports, err)
		}
	}
}
