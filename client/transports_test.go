package client_test

import (
	"net"
	"slices"
	"testing"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/client"
)

// A gateway as its settings make it is reached by each of its transports.
func TestEachTransport(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	plain := l.Addr().String()
	l.Close()
	w.dir.Settings.Website.Redirect = &[]string{plain}
	w.run(t)
	content := make([]byte, 2<<20)
	for i := range content {
		content[i] = byte(i * i >> 8)
	}
	url := site(t, content).URL
	own := w.key.Endpoints[0]
	for name, ep := range map[string]accesskey.Endpoint{
		"https":     own,
		"websocket": {Transport: "websocket", Host: own.Host, Port: own.Port},
		"http":      {Transport: "http", Host: own.Host, Port: parsePort(t, port(t, addr(plain)))},
	} {
		t.Run(name, func(t *testing.T) {
			key := w.key
			key.Endpoints = slices.Clone(key.Endpoints)
			if name != "https" {
				key.Endpoints = append(key.Endpoints, ep)
			}
			c, _ := start(t, client.Config{Key: key, Transports: []string{name}})
			ready(t, c)
			fetch(t, c, url, content)
			st := c.Status()
			if len(st.Links) == 0 || st.Links[0].Transport != name || st.Ways[0].Transport != name {
				t.Errorf("links %+v by ways %+v", st.Links, st.Ways)
			}
		})
	}
}

type addr string

func (addr) Network() string  { return "tcp" }
func (a addr) String() string { return string(a) }
