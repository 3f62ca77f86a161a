package rules

import (
	"testing"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

func TestDTLSFingerprint(t *testing.T) {
	t.Parallel()
	pion, openssl := replayed(t, "dtls-pion"), own(t, "dtls-openssl")
	for _, c := range []struct {
		name          string
		rule          DTLSFingerprint
		pion, openssl bool
	}{
		// As Wireshark gives it.
		{"JA3", DTLSFingerprint{JA3: []string{"644e04da8b16fde8ff910bb0042b4922"}}, true, false},
		{"JA3 of OpenSSL", DTLSFingerprint{JA3: []string{"f1bce39cbcf6d731907f687af766e975"}}, false, true},
		{"JA4", DTLSFingerprint{JA4: []string{"dd2i060600_*"}}, true, false},
		{"groups", DTLSFingerprint{Groups: []string{"001d 0017 0018"}}, true, false},
		{"suites", DTLSFingerprint{Ciphers: []string{"c02b c02f"}}, true, false},
		{"a HelloVerifyRequest", DTLSFingerprint{HelloVerify: true}, true, true},
		{"groups in the ServerHello", DTLSFingerprint{ServerGroups: true}, false, false},
	} {
		c.rule.Then = cut
		set := func() Set { return Set{DTLSFingerprint: []*DTLSFingerprint{&c.rule}} }
		if got := fired(t, set(), pion); (len(got) > 0) != c.pion {
			t.Errorf("%s: pion: fired %q", c.name, got)
		}
		if got := fired(t, set(), openssl); (len(got) > 0) != c.openssl {
			t.Errorf("%s: OpenSSL: fired %q", c.name, got)
		}
		spares(t, set)
	}
	// Crafted after RFC 6347, section 4.2.1, and pion/dtls 409: a ServerHello with supported_groups.
	hello := "\xfe\xfd" + string(make([]byte, 32)) + "\x00" + "\xc0\x2b" + "\x00" + "\x00\x08" + "\x00\x0a\x00\x04\x00\x02\x00\x1d"
	n := len(hello)
	message := "\x02\x00\x00" + string(rune(n)) + "\x00\x01" + "\x00\x00\x00" + "\x00\x00" + string(rune(n)) + hello
	record := "\x16\xfe\xfd" + "\x00\x00" + "\x00\x00\x00\x00\x00\x01" + "\x00" + string(rune(len(message))) + message
	frames := firewalltest.Conn(t, firewall.UDP, "192.0.2.10:40000", "203.0.113.20:40001", 0, ">stun", "<"+record)
	if got := fired(t, Set{DTLSFingerprint: []*DTLSFingerprint{{ServerGroups: true, Then: cut}}}, frames); len(got) != 1 {
		t.Errorf("fired %q", got)
	}
}
