package https_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/godwit-vpn/godwit/internal/decoy"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transport/transporttest"
)

// browse opens a connection to the website by the protocol.
func browse(t *testing.T, w transporttest.World, proto string) *tls.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", w.Endpoint.Addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{proto},
		ServerName: w.Endpoint.Name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

// export is what a knock on c would be.
func export(t *testing.T, w transporttest.World, c *tls.Conn) []byte {
	t.Helper()
	state := c.ConnectionState()
	b, err := transporttest.Key{}.Knock(exporter(state.ExportKeyingMaterial))
	if err != nil {
		t.Fatal(err)
	}
	return pad(w, b)
}

// pad makes a knock as long as the cookie that hides it.
func pad(w transporttest.World, knock []byte) []byte {
	return append(knock, make([]byte, knockLen(w)-len(knock))...)
}

func knockLen(w transporttest.World) int {
	_, n := decoy.CookieFor(w.Endpoint.Pins[0])
	return base64.RawURLEncoding.DecodedLen(n)
}

func text(knock []byte) string { return base64.RawURLEncoding.EncodeToString(knock) }

type exporter func(string, []byte, int) ([]byte, error)

func (e exporter) Export(label string, context []byte, n int) ([]byte, error) {
	return e(label, context, n)
}
func (exporter) ServerKey() [32]byte { return [32]byte{} }

// TestStrangers knock in every wrong way, and get the page.
func TestStrangers(t *testing.T) {
	w := start(t)
	accepted := make(chan transport.Conn, 1) // one too many fails the test
	go func() {
		for {
			c, err := w.Listener.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	earlier := export(t, w, browse(t, w, "h2"))
	for name, knock := range map[string]func(own []byte) []byte{
		"wrong":     func(own []byte) []byte { own[0] ^= 1; return own },
		"replayed":  func([]byte) []byte { return earlier },
		"truncated": func(own []byte) []byte { return own[:len(own)-1] },
		"prolonged": func(own []byte) []byte { return append(own, 0) },
		"empty":     func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			c := browse(t, w, "h2")
			get(t, http2Client(t, c), knock(export(t, w, c)))
		})
	}
	t.Run("late", func(t *testing.T) {
		c := browse(t, w, "h2")
		h := http2Client(t, c)
		get(t, h, nil)
		get(t, h, export(t, w, c))
	})
	t.Run("over HTTP/1.1", func(t *testing.T) {
		c := browse(t, w, "http/1.1")
		get(t, http1Client(c), export(t, w, c))
	})
	select {
	case <-accepted:
		t.Error("one of them was let in")
	default:
	}
}

// The same bytes in the right place open it: the tests above fail for the reasons they name.
func TestDoorOpensByHand(t *testing.T) {
	w := start(t)
	accepted := make(chan transport.Conn, 1) // the handshake goes on while nobody looks
	go func() {
		c, err := w.Listener.Accept()
		if err == nil {
			accepted <- c
		}
	}()
	c := browse(t, w, "h2")
	r := request("https://site.example/", export(t, w, c))
	go http2Client(t, c).RoundTrip(r) // it will not like the marker
	select {
	case link := <-accepted:
		link.Close()
	case <-time.After(10 * time.Second):
		t.Fatal("nobody was let in")
	}
}

func http2Client(t *testing.T, c net.Conn) http.RoundTripper {
	t.Helper()
	//lint:ignore SA1019 another HTTP/2 than the server's
	h, err := new(http2.Transport).NewClientConn(c)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func http1Client(c net.Conn) http.RoundTripper {
	return &http.Transport{DisableKeepAlives: true, DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
		return c, nil
	}}
}

func request(url string, knock []byte) *http.Request {
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		panic(err)
	}
	if knock != nil {
		r.AddCookie(&http.Cookie{Name: "session", Value: text(knock)})
	}
	return r
}

func get(t *testing.T, h http.RoundTripper, knock []byte) {
	t.Helper()
	resp, err := h.RoundTrip(request("https://site.example/", knock))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(b), "A site") {
		t.Errorf("got %s, %d bytes, %v", resp.Status, len(b), err)
	}
}
