package rules

import (
	"slices"

	"github.com/godwit-vpn/godwit/internal/clienthello"
	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/look"
)

// DTLSFingerprint looks at the first messages of DTLS, as Snowflake and other WebRTC have it, on either side: who is called
// says hello there, so it may come from outside.
//
// Russia, against Snowflake: 2021-12, supported_groups in the ServerHello (pion/dtls 409); 2022-05, the groups 001d 0017 0018
// at a fixed place in the ClientHello (pion/dtls 474); 2022-07, a HelloVerifyRequest (net4people/bbs 223, pion/webrtc 2433);
// from 2026-03-30 JA3 or JA4 of pion's ClientHello, while DTLS 1.3 and randomised hellos pass (net4people/bbs 603). All were
// found by the projects' own tests. That places are fixed is not modelled: here the list has to be just that.
type DTLSFingerprint struct {
	Aim
	// JA3 and JA4 are lists of ClientHellos; what ends in "*" is the beginning of a JA4. Ciphers are beginnings of the list
	// of suites, Groups whole lists of groups, each written "001d 0017 0018".
	JA3     []string `toml:"ja3"`
	JA4     []string `toml:"ja4"`
	Ciphers []string `toml:"ciphers"`
	Groups  []string `toml:"groups"`
	// HelloVerify is hit by a HelloVerifyRequest, ServerGroups by a ServerHello with supported_groups.
	HelloVerify  bool `toml:"hello-verify"`
	ServerGroups bool `toml:"server-groups"`
	Then         Then `toml:"then"`
}

func (r *DTLSFingerprint) check(place firewall.Place) error {
	if !r.hello() && !r.HelloVerify && !r.ServerGroups {
		return wrong("ja4", "is missing, and so are ja3, ciphers, groups, hello-verify and server-groups: there is nothing to look for")
	}
	return checkAll(&r.Aim, &r.Then, place, checkJA3("ja3", r.JA3))
}

func (r *DTLSFingerprint) hello() bool {
	return len(r.JA3)+len(r.JA4)+len(r.Ciphers)+len(r.Groups) > 0
}

// maxDTLS is how many packets of a flow may come before DTLS: STUN does.
const maxDTLS = 60

// Watch looks at the first packets of both.
func (r *DTLSFingerprint) Watch(f *firewall.Flow) firewall.Watcher {
	if f.Proto != firewall.UDP || !r.at(f) {
		return nil
	}
	return firewall.WatchFunc(func(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
		if f.FromClient.Packets+f.FromServer.Packets > maxDTLS {
			do.Done()
			return
		}
		m, err := look.DTLS(p.Payload)
		if err != nil {
			return
		}
		if what := r.match(m); what != "" {
			do.Done()
			r.Then.do(f, do, "DTLS: %s", what)
		}
	})
}

func (r *DTLSFingerprint) match(m look.DTLSHandshake) string {
	switch m.Type {
	case look.DTLSHelloVerifyRequest:
		if r.HelloVerify {
			return "a HelloVerifyRequest"
		}
	case look.DTLSServerHello:
		if r.ServerGroups && slices.Contains(m.ServerExtensions(), clienthello.SupportedGroups) {
			return "groups in the ServerHello"
		}
	case look.DTLSClientHello:
		h, err := m.ClientHello()
		if err != nil || !r.hello() {
			return ""
		}
		if groups := clienthello.Codes(h.List(clienthello.SupportedGroups)); slices.Contains(r.Groups, groups) {
			return "groups " + groups
		}
		if len(r.JA3)+len(r.JA4)+len(r.Ciphers) > 0 {
			return listed(h, r.JA3, r.JA4, r.Ciphers, "")
		}
	}
	return ""
}
