package client_test

import (
	"net"
	"slices"
	"testing"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/client"
	"github.com/godwit-vpn/godwit/internal/gatewaydir"
)

// A gateway as its settings make it is reached by each of its transports.
func TestEachTransport(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plain, names := freeAddr(t), freeAddr(t)
	w.dir.Settings.Website.Redirect = &[]string{plain}
	w.dir.Settings.DNS = gatewaydir.DNSSettings{Zone: "t.example", Listen: []string{names}}
	w.run(t)
	content := make([]byte, 1<<20)
	for i := range content {
		content[i] = byte(i * i >> 8)
	}
	own := w.key.Endpoints[0]
	for name, ep := range map[string]accesskey.Endpoint{
		"https":     own,
		"quic":      {Transport: "quic", Host: own.Host, Port: own.Port},
		"websocket": {Transport: "websocket", Host: own.Host, Port: own.Port},
		"dns":       {Transport: "dns", Host: "t.example"},
		"http":      {Transport: "http", Host: own.Host, Port: parsePort(t, port(t, addr(plain)))},
	} {
		t.Run(name, func(t *testing.T) {
			want := content
			if name == "dns" {
				want = content[:30<<10] // it carries little
			}
			key := w.key
			key.Endpoints = slices.Clone(key.Endpoints)
			if name != "https" {
				key.Endpoints = append(key.Endpoints, ep)
			}
			c, _ := start(t, client.Config{Key: key, Transports: []string{name}, Resolvers: []string{names}})
			ready(t, c)
			fetch(t, c, site(t, want).URL, want)
			st := c.Status()
			if len(st.Links) == 0 || st.Links[0].Transport != name || st.Ways[0].Transport != name {
				t.Errorf("links %+v by ways %+v", st.Links, st.Ways)
			}
		})
	}
}

// freeAddr is an address that nobody listens at.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

type addr string

func (addr) Network() string  { return "tcp" }
func (a addr) String() string { return string(a) }
