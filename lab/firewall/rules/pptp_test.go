package rules

import (
	"strings"
	"testing"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

// Start-Control-Connection-Request, crafted after RFC 2637, section 2.1.
var pptpStart = "\x00\x9c\x00\x01\x1a\x2b\x3c\x4d\x00\x01\x00\x00" + "\x01\x00\x00\x00" + strings.Repeat("\x00", 156-16)

func TestPPTP(t *testing.T) {
	t.Parallel()
	set := func() Set { return Set{PPTP: []*PPTP{{Then: cut}}} }
	for _, c := range []struct {
		name, server, text string
		hit                bool
	}{
		{"a start", "203.0.113.20:1723", ">" + pptpStart, true},
		{"at another port", "203.0.113.20:1724", ">" + pptpStart, false},
		{"said by the server", "203.0.113.20:1723", "<" + pptpStart, false},
		{"another length", "203.0.113.20:1723", ">" + pptpStart + "x", false},
		{"TLS at the port", "203.0.113.20:1723", ">" + hello(t, "allowed.example"), false},
	} {
		if got := fired(t, set(), firewalltest.Conn(t, firewall.TCP, "192.0.2.10:40000", c.server, 0, c.text)); (len(got) > 0) != c.hit {
			t.Errorf("%s: fired %q", c.name, got)
		}
	}
	spares(t, set)
}

func TestL2TP(t *testing.T) {
	t.Parallel()
	set := func() Set { return Set{L2TP: []*L2TP{{Then: Then{Drop: true, Block: scope(firewall.Endpoint)}}}} }
	// Crafted after RFC 2661, sections 3.1 and 4.4.1: SCCRQ with its message type, protocol version and a host's name.
	body := "\x80\x08\x00\x00\x00\x00\x00\x01" + "\x80\x08\x00\x00\x00\x02\x01\x00" + "\x80\x0c\x00\x00\x00\x07client"
	start := "\xc8\x02\x00" + string(rune(12+len(body))) + "\x00\x00\x00\x00\x00\x00\x00\x00" + body
	for _, c := range []struct {
		name, server, text string
		hit                bool
	}{
		{"a start", "203.0.113.20:1701", start, true},
		{"at another port", "203.0.113.20:1702", start, false},
		{"another length", "203.0.113.20:1701", start + "x", false},
		{"data", "203.0.113.20:1701", "\x00\x02\x00\x01\x00\x01\xff\x03\xc0\x21\x01\x01\x00\x04", false},
		{"version 3", "203.0.113.20:1701", "\xc8\x03" + start[2:], false},
	} {
		if got := fired(t, set(), firewalltest.Conn(t, firewall.UDP, "192.0.2.10:1701", c.server, 0, ">"+c.text)); (len(got) > 0) != c.hit {
			t.Errorf("%s: fired %q", c.name, got)
		}
	}
	spares(t, set)
}
