package rules

import (
	"crypto/tls"
	"strings"
	"testing"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

func TestSSTP(t *testing.T) {
	t.Parallel()
	// Crafted after [MS-SSTP], sections 2.2.9, 2.2.10 and 3.2.4.1, inside of real TLS.
	request := "SSTP_DUPLEX_POST /sra_{BA195980-CD49-458b-9E23-C84EE0ADCD75}/ HTTP/1.1\r\nHost: vpn.example\r\n" +
		"Content-Length: 18446744073709551615\r\nSSTPCORRELATIONID: {00000000-0000-0000-0000-000000000000}\r\n\r\n"
	response := "HTTP/1.1 200\r\nContent-Length: 18446744073709551615\r\nServer: Microsoft-HTTPAPI/2.0\r\nDate: Wed, 25 Nov 2026 00:00:00 GMT\r\n\r\n"
	connect := "\x10\x01\x00\x0e\x00\x01\x00\x01\x00\x01\x00\x06\x00\x01"
	acknowledge := "\x10\x01\x00\x30\x00\x02\x00\x01\x00\x04\x00\x28\x00\x00\x00\x03" + string(make([]byte, 32))
	sstp := []string{">" + request, "<" + response, ">" + connect, "<" + acknowledge}
	page := []string{">GET / HTTP/1.1\r\nHost: a.example\r\n" + strings.Repeat("x", 100), "<" + response, ">" + strings.Repeat("x", 100), "<" + acknowledge}
	set := func(r SSTP) func() Set {
		return func() Set {
			r.Then = cut
			return Set{SSTP: []*SSTP{&r}}
		}
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, c := range []struct {
			name  string
			rule  SSTP
			texts []string
			alpn  []string
			hit   bool
		}{
			{"SSTP", SSTP{}, sstp, nil, true},
			{"a page", SSTP{}, page, nil, false},
			{"with ALPN", SSTP{}, sstp, []string{"http/1.1"}, false},
			{"ALPN and all", SSTP{ALPN: true}, sstp, []string{"http/1.1"}, true},
			{"another's print", SSTP{JA3: []string{"0149f47eabf9a20d0893e2a44e5a6323"}}, sstp, nil, false},
		} {
			frames := firewalltest.Conn(t, firewall.TCP, "192.0.2.10:40000", "203.0.113.20:443", 0, firewalltest.InTLS(t, version, c.alpn, c.texts)...)
			if got := fired(t, set(c.rule)(), frames); (len(got) > 0) != c.hit {
				t.Errorf("%s in %s: fired %q", c.name, tls.VersionName(version), got)
			}
		}
	}
	spares(t, set(SSTP{ALPN: true, Aim: Aim{Ports: []int{443, 22, 80, 53}}}))
}
