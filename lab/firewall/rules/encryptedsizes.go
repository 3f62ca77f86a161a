package rules

import (
	"github.com/godwit-vpn/godwit/lab/firewall"
)

// EncryptedSizes looks for proxies that are encrypted from the first byte on by the sizes of a page load inside of them: the
// client sends several large packets, and the server some.
//
// Russia, 2024-04 on, against Shadowsocks and VMess: "at least 3 packets, each of which is 411 bytes or larger, and the
// server sends packets" (users' tests, net4people/bbs 363). It depended on the server's network and on the port (443 and
// 5555 fared differently), and at Beeline alone on the first packet's size. Not known, and so parameters: what the server
// has to send, whether the packets must be in a row, how far into a flow it looks, whether known protocols are spared (here
// they are), and for how long what is blocked; that it blocks at all is what was seen.
type EncryptedSizes struct {
	Aim
	// Packets of the client's with at least so many bytes; zero is 3 of 411.
	Packets int `toml:"packets"`
	Least   int `toml:"least"`
	// Server is how many packets of ServerLeast bytes or more the server sends; zero is 1 of any size.
	Server      int `toml:"server"`
	ServerLeast int `toml:"server-least"`
	// First, if set, bounds the size of the client's first packet.
	First [2]int `toml:"first"`
	// Row wants the client's large packets without a smaller one between them.
	Row bool `toml:"row"`
	// Within is how many packets with data it looks at; zero is 30.
	Within int `toml:"within"`
	// Known looks at flows too that begin like TLS, HTTP or SSH.
	Known bool `toml:"known"`
	Then  Then `toml:"then"`
}

func (r *EncryptedSizes) check(place firewall.Place) error {
	if r.First[0] < 0 || r.First[0] > r.First[1] {
		return wrong("first", "wants the least and the most, as [200, 600]")
	}
	return checkAll(&r.Aim, &r.Then, place, positive("packets", r.Packets), positive("least", r.Least), positive("server", r.Server),
		positive("server-least", r.ServerLeast), positive("within", r.Within))
}

// Watch counts packets.
func (r *EncryptedSizes) Watch(f *firewall.Flow) firewall.Watcher {
	if f.Proto != firewall.TCP || !r.at(f) {
		return nil
	}
	return &encryptedSizes{rule: r}
}

type encryptedSizes struct {
	rule           *EncryptedSizes
	client, server int // large packets so far
}

func (w *encryptedSizes) Packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	r, size := w.rule, len(p.Payload)
	if size == 0 {
		return
	}
	switch {
	case f.FromClient.Data == 0, // the server speaks first
		f.FromClient.Data+f.FromServer.Data > or(r.Within, 30),
		p.FromClient && f.FromClient.Data == 1 &&
			(!r.Known && known(p.Payload) || r.First[1] != 0 && (size < r.First[0] || size > r.First[1])):
		do.Done()
		return
	case !p.FromClient:
		if size >= r.ServerLeast {
			w.server++
		}
	case size >= or(r.Least, 411):
		w.client++
	case r.Row:
		w.client = 0
	}
	if w.client >= or(r.Packets, 3) && w.server >= or(r.Server, 1) {
		do.Done()
		r.Then.do(f, do, "%d packets of %d bytes or more, %d of the server", w.client, or(r.Least, 411), w.server)
	}
}

// known reports whether a flow's first bytes are those of a protocol that a firewall reads.
func known(b []byte) bool {
	return isTLS(b) || isHTTP(b) || isSSH(b)
}
