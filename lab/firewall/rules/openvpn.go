package rules

import (
	"encoding/binary"
	"math/bits"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/look"
)

// OpenVPN looks for its messages, over UDP and TCP, at any port. tls-auth and tls-crypt hide none of what it looks at.
//
//	[length 2, over TCP] | opcode 5 bits, key id 3 bits | session 8 (not in data) | …
//
//	1, 7, 10: the client resets    2, 8: the server does    3: soft reset    4: control    5: acknowledgement    6, 9: data
//
// By "opcodes" (Xue et al., USENIX Security 2022): at least 4 opcodes among the first messages, those of the two resets not
// again after them. That more than 10 are too many is ours, against what is random. With AnyOpcodes their values do not
// matter, so that XORing the first byte hides nothing; a browser's QUIC passed for OpenVPN at times then, so that what says
// it is QUIC is left out, which is ours too. How many messages count as the first was not in what we read: a parameter.
//
// By "acks" (the same): the client's third packet is the size of an acknowledgement, and packets of that size are many in the
// first bins of ten packets and none later. The limits were not in what we read either. OpenVPN 2.6 acknowledges in control
// messages first, and several at once: it takes nth = 4 and slack = 4.
//
// By "resets" (OpenGFW's openvpn.go): the client's reset, then the server's.
//
// By "sessions" (nDPI's openvpn.c): resets under 1200 bytes with key id 0, and control messages that repeat the sessions.
//
// China, Iran, Egypt, Myanmar and Pakistan block OpenVPN by unpublished means; Russia, since 2023-08, to foreign servers
// alone and only after the handshake, with more than 15 data packets (users' tests, net4people/bbs 274).
type OpenVPN struct {
	Aim
	// By is "opcodes", "acks", "resets" or "sessions".
	By string `toml:"by"`
	// Packets is how many messages are the first; zero is 20 by opcodes, 10 by resets and sessions.
	Packets int `toml:"packets"`
	// Distinct is the least number of opcodes; zero is 4.
	Distinct   int         `toml:"distinct"`
	AnyOpcodes bool        `toml:"any-opcodes"`
	ACKs       OpenVPNACKs `toml:"acks"`
	// Data lets so many data packets by, both ways, before it acts.
	Data int  `toml:"data"`
	Then Then `toml:"then"`
}

// OpenVPNACKs are the limits of acknowledgements.
type OpenVPNACKs struct {
	// Nth of the client's packets is an acknowledgement; zero is 3. The others are up to Slack bytes larger.
	Nth   int `toml:"nth"`
	Slack int `toml:"slack"`
	// Least is how many there are in the first Early bins; zero is 3 in 2. In the others, to Bins, are none; zero is 5.
	Least int `toml:"least"`
	Early int `toml:"early"`
	Bins  int `toml:"bins"`
}

func (r *OpenVPN) check(place firewall.Place) error {
	if r.ACKs != (OpenVPNACKs{}) && r.By != "acks" {
		return wrong("acks", `counts nothing unless by is "acks"`)
	}
	if early, bins := or(r.ACKs.Early, 2), or(r.ACKs.Bins, 5); early >= bins {
		return wrong("acks.early", "%d bins are not the first of %d", early, bins)
	}
	return checkAll(&r.Aim, &r.Then, place, oneOf("by", r.By, "opcodes", "acks", "resets", "sessions"), positive("packets", r.Packets),
		positive("distinct", r.Distinct), positive("data", r.Data))
}

// Watch reads messages.
func (r *OpenVPN) Watch(f *firewall.Flow) firewall.Watcher {
	if f.Proto != firewall.TCP && f.Proto != firewall.UDP || !r.at(f) {
		return nil
	}
	if r.By == "acks" {
		return &openVPNACKs{rule: r}
	}
	return &openVPN{rule: r}
}

// openVPN reads one flow's messages. Over TCP it reads them off the text until it has found what it looks for, and counts
// packets thereafter.
type openVPN struct {
	rule     *OpenVPN
	read     [2]int // of the text
	messages int
	data     int
	found    bool

	begun   [2]bool // the client, the server
	reset   [2]byte // their first opcodes
	seen    uint32  // opcodes
	session [2][8]byte
	again   [2]int // messages with the same session
}

const (
	openVPNDataV1 = 6
	openVPNDataV2 = 9
	openVPNLast   = 11
)

func (w *openVPN) Packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	if len(p.Payload) == 0 {
		return
	}
	ok := true
	switch {
	case w.messages == 0 && isQUIC(p.Payload):
		ok = false
	case f.Proto == firewall.UDP:
		ok = w.message(p.Payload, side(p))
	case w.found:
		w.data++
	default:
		ok = w.stream(f, p)
	}
	switch {
	case !ok, !w.found && f.FromClient.Data+f.FromServer.Data > 10*w.first():
		do.Done()
	case w.found && (w.rule.Data == 0 || w.data > w.rule.Data):
		do.Done()
		w.rule.Then.do(f, do, "OpenVPN by %s, %d data packets", or(w.rule.By, "opcodes"), w.data)
	}
}

func (w *openVPN) first() int {
	if or(w.rule.By, "opcodes") == "opcodes" {
		return or(w.rule.Packets, 20)
	}
	return or(w.rule.Packets, 10)
}

// stream reads what messages there are of one side's.
func (w *openVPN) stream(f *firewall.Flow, p *firewall.Packet) bool {
	const largest = 4096
	text, s := f.Text(p.FromClient), side(p)
	for {
		rest := text[min(w.read[s], len(text)):]
		if len(rest) < 3 {
			return true
		}
		size := int(binary.BigEndian.Uint16(rest))
		if size == 0 || size > largest {
			return false
		}
		if len(rest) < 2+size {
			return w.begun[s] || w.mayBegin(rest[2], s)
		}
		w.read[s] += 2 + size
		if !w.message(rest[2:2+size], s) {
			return false
		}
	}
}

// mayBegin reports whether a side may begin with a byte.
func (w *openVPN) mayBegin(b byte, side int) bool {
	op := b >> 3
	switch {
	case w.rule.AnyOpcodes:
		return side == 0 || w.begun[0] && op != w.reset[0]
	case side == 0:
		return op == 1 || op == 7 || op == 10
	}
	return w.begun[0] && (op == 2 || op == 8)
}

// message takes one in; false says that this is not OpenVPN.
func (w *openVPN) message(b []byte, s int) bool {
	op := b[0] >> 3
	if op == openVPNDataV1 || op == openVPNDataV2 {
		w.data++
	}
	if w.found {
		return true
	}
	w.messages++
	opens := !w.begun[s]
	if opens {
		if !w.mayBegin(b[0], s) {
			return false
		}
		w.begun[s], w.reset[s] = true, op
	} else if !w.rule.AnyOpcodes && (op == 0 || op > openVPNLast) {
		return false
	}
	switch w.rule.By {
	case "resets":
		const shortest = 6
		w.found = w.begun[0] && w.begun[1]
		return len(b) >= shortest && w.messages <= w.first()
	case "sessions":
		return w.sessions(b, s, opens) && w.messages <= w.first()
	}
	least := or(w.rule.Distinct, 4)
	if distinct := bits.OnesCount32(w.seen); !opens && distinct >= least && (op == w.reset[0] || w.begun[1] && op == w.reset[1]) {
		return false
	}
	w.seen |= 1 << op
	if w.messages < w.first() {
		return true
	}
	const most = 10
	distinct := bits.OnesCount32(w.seen)
	w.found = distinct >= least && distinct <= most && w.begun[1]
	return w.found
}

// sessions compares a message's with the reset's of its side: twice at each, or four times at one, is enough.
func (w *openVPN) sessions(b []byte, s int, opens bool) bool {
	const most, keyID = 1200, 7
	switch op := b[0] >> 3; {
	case op == openVPNDataV1 || op == openVPNDataV2:
		return true // has none
	case len(b) < 9, opens && (b[0]&keyID != 0 || len(b) >= most):
		return false
	case opens:
		copy(w.session[s][:], b[1:9])
		return true
	case string(b[1:9]) != string(w.session[s][:]):
		return false
	}
	w.again[s]++
	w.found = w.again[0] >= 2 && w.again[1] >= 2 || w.again[0] >= 4 || w.again[1] >= 4
	return true
}

// isQUIC reports whether a flow's first packet is a QUIC Initial by its header, version 1 or 2.
func isQUIC(b []byte) bool {
	if len(b) < 1200 || b[0]&0xc0 != 0xc0 {
		return false
	}
	v := binary.BigEndian.Uint32(b[1:])
	return v == look.QUICv1 || v == look.QUICv2
}

// openVPNACKs counts packets of an acknowledgement's size.
type openVPNACKs struct {
	rule   *OpenVPN
	size   int
	small  [2]int // early, late
	client int
}

const openVPNBin = 10

func (w *openVPNACKs) Packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	size, a := len(p.Payload), &w.rule.ACKs
	if size == 0 {
		return
	}
	n := f.FromClient.Data + f.FromServer.Data
	early, bins := or(a.Early, 2)*openVPNBin, or(a.Bins, 5)*openVPNBin
	if p.FromClient {
		w.client++
	}
	if w.size == 0 && p.FromClient && w.client == or(a.Nth, 3) {
		w.size = size
	}
	if w.size != 0 && size >= w.size && size <= w.size+a.Slack {
		if n <= early {
			w.small[0]++
		} else {
			w.small[1]++
		}
	}
	const largest = 150 // an acknowledgement under several wrappings
	if w.size > largest || w.small[1] > 0 || n > early && w.small[0] < or(a.Least, 3) {
		do.Done()
		return
	}
	if n >= bins+w.rule.Data {
		do.Done()
		w.rule.Then.do(f, do, "%d packets of %d bytes among the first %d, none to %d", w.small[0], w.size, early, n)
	}
}
