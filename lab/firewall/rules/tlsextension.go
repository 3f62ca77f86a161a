package rules

import (
	"errors"

	"github.com/godwit-vpn/godwit/internal/clienthello"
	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/look"
)

// esniExtension is encrypted_server_name of draft-ietf-tls-esni-02 to -06.
const esniExtension = 0xffce

// ESNI looks for TLS whose server name is encrypted in the way of the drafts until 2020.
//
// China, 2020-07 on, every port: client to server is dropped, no resets, from one second or more later, by 3-tuple for 120
// to 180 s, which retries do not prolong; a first segment of 4 bytes or less is not looked at, and the numbers of ECH's
// drafts, 0xff02 to 0xff04, are let be (gfw.report, 2020-08).
type ESNI struct {
	To Nets `toml:"to"`
	// Least is how many bytes the client's first segment has at least; otherwise the connection is let be.
	Least   int     `toml:"least"`
	Records bool    `toml:"records"` // as in TLSName
	Chance  float64 `toml:"chance"`
	Then    Then    `toml:"then"`
}

func (r *ESNI) check(place firewall.Place) error {
	return errors.Join(chance("chance", r.Chance), r.Then.check(place))
}

// Watch looks at what the client says first.
func (r *ESNI) Watch(f *firewall.Flow) firewall.Watcher {
	if f.Proto != firewall.TCP || !r.To.Covers(f.Server.Addr()) || !f.Chance(or(r.Chance, 1)) {
		return nil
	}
	return firewall.WatchFunc(r.packet)
}

func (r *ESNI) packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	if !p.FromClient || len(p.Payload) == 0 {
		return
	}
	if f.FromClient.Data == 1 && len(p.Payload) < r.Least {
		do.Done()
		return
	}
	hello, done := tlsHello(do, r.Records)
	if done {
		do.Done()
	}
	if hello == nil {
		return
	}
	if _, ok := hello.Extension(esniExtension); ok {
		r.Then.do(f, do, "the server's name is encrypted (ESNI)")
	}
}

// tlsHello reads the hello that the packet in hand of a client completes, and says when none is to come any more.
func tlsHello(do *firewall.Action, records bool) (hello *clienthello.Hello, done bool) {
	text := do.Text()
	if len(text) == 0 {
		return nil, false
	}
	hello, err := look.ClientHello(text, records)
	return hello, !errors.Is(err, look.ErrMore)
}

// ECH looks for hellos that hide another: those with the extension of RFC 9849, if their outer name is on a list and the
// server is where it is looked for. The extension alone means nothing, since browsers send it filled with noise to everyone.
//
// Russia, 2024-11 on: the hello is dropped if it has the extension, and the outer name is the one that Cloudflare gives, and
// the address is Cloudflare's; TLS and QUIC (Niere et al., FOCI 2025; net4people/bbs 417).
type ECH struct {
	Names Names `toml:"names"` // outer names; there has to be one
	To    Nets  `toml:"to"`
	// Records is as in TLSName, Reassemble as in QUICName.
	Records    bool    `toml:"records"`
	Reassemble bool    `toml:"reassemble"`
	Chance     float64 `toml:"chance"`
	Then       Then    `toml:"then"`
}

func (r *ECH) check(place firewall.Place) error {
	if len(r.Names) == 0 {
		return wrong("names", "is missing: browsers send this extension to everyone, so outer names say when it counts")
	}
	return errors.Join(chance("chance", r.Chance), r.Then.check(place))
}

// Watch looks at what the client says first.
func (r *ECH) Watch(f *firewall.Flow) firewall.Watcher {
	if !r.To.Covers(f.Server.Addr()) || !f.Chance(or(r.Chance, 1)) {
		return nil
	}
	switch f.Proto {
	case firewall.TCP:
		return firewall.WatchFunc(r.packet)
	case firewall.UDP:
		return &quicWatcher{reassemble: r.Reassemble, find: r.find}
	}
	return nil
}

func (r *ECH) packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	if !p.FromClient {
		return
	}
	hello, done := tlsHello(do, r.Records)
	if done {
		do.Done()
	}
	if hello != nil {
		r.find(f, do, hello)
	}
}

func (r *ECH) find(f *firewall.Flow, do *firewall.Action, hello *clienthello.Hello) {
	if _, ok := hello.Extension(clienthello.ECH); !ok {
		return
	}
	if pattern := r.Names.Match(look.ServerName(hello)); pattern != "" {
		r.Then.do(f, do, "another name is encrypted (ECH) behind one that matches %s", pattern)
	}
}
