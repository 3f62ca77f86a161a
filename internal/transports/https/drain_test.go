package https_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/transport"
)

// A listener that is drained takes nobody new, answers who is there, and is done when they have gone.
func TestDrain(t *testing.T) {
	w := start(t)
	there, err := tls.Dial("tcp", w.Endpoint.Addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	drained := make(chan struct{})
	go func() {
		w.Listener.(transport.Drainer).Drain(t.Context())
		close(drained)
	}()
	for ; ; time.Sleep(5 * time.Millisecond) { // a flood would push out who is there
		c, err := net.Dial("tcp", w.Endpoint.Addr)
		if errors.Is(err, syscall.ECONNREFUSED) {
			break
		} else if err == nil {
			c.Close()
		}
	}
	select {
	case <-drained:
		t.Error("it was done while somebody was there")
	case <-time.After(50 * time.Millisecond):
	}
	tr := &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return there, nil }}
	resp, err := (&http.Client{Transport: tr}).Get("https://site.example/")
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("who was there got %v, %v", resp, err)
	}
	resp.Body.Close()
	tr.CloseIdleConnections()
	<-drained
	if err := w.Listener.Close(); err != nil {
		t.Error(err)
	}
}
