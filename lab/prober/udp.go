package prober

import (
	"bytes"
	"context"
	"encoding/binary"
)

// UDP: OpenVPN, WireGuard, IKE, QUIC, and what B3 names. Silence says little here: WireGuard is silent to whoever does
// not know its key, and so is OpenVPN with tls-auth.

const (
	ikeSpeaks  = "IKE"
	quicSpeaks = "QUIC's version negotiation"
)

var udpProbes = []Probe{
	udpProbe("OpenVPN's reset", (*Target).reset, openvpnSpeaks, func(_, got []byte) bool { return isReset(got) }),
	udpProbe("WireGuard's initiation, nonsense inside", func(t *Target) []byte {
		return append([]byte{1, 0, 0, 0}, t.random(144)...)
	}, "WireGuard", func(_, got []byte) bool {
		return len(got) == 92 && got[0] == 2 || len(got) == 64 && got[0] == 3
	}),
	udpProbe("IKE SA_INIT", ikeInit, ikeSpeaks, func(sent, got []byte) bool {
		return len(got) >= 28 && bytes.Equal(got[:8], sent[:8]) && got[18] == 34
	}),
	udpProbe("QUIC of an unknown version", func(t *Target) []byte {
		// RFC 9000, 17.2 and 6.1: a long header, version 0x1a2a3a4a, two connection ids, 1200 bytes.
		b := append([]byte{0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8}, t.random(8)...)
		b = append(append(b, 8), t.random(8)...)
		return append(b, make([]byte, 1200-len(b))...)
	}, quicSpeaks, func(_, got []byte) bool {
		return len(got) > 7 && got[0]&0x80 != 0 && binary.BigEndian.Uint32(got[1:]) == 0
	}),
	udpProbe("STUN", func(*Target) []byte { return stun }, "STUN", func(sent, got []byte) bool {
		return len(got) >= 20 && bytes.Equal(got[4:20], sent[4:20])
	}),
	udpProbe("DNS version.bind", func(*Target) []byte { return query("\x07version\x04bind", 16, 3) }, "DNS",
		func(sent, got []byte) bool {
			return len(got) >= 12 && bytes.Equal(got[:2], sent[:2]) && got[2]&0x80 != 0
		}),
	udpProbe("221 random bytes", func(t *Target) []byte { return t.random(221) }, "", nil),
	simple{Kind{Name: identical, Family: "replay", Network: "udp", Delayed: true},
		func(ctx context.Context, t *Target) Answer {
			if len(t.Recorded) == 0 {
				return notSent("nothing was recorded")
			}
			return t.talk(ctx, false, t.Recorded[0])
		}},
}

// udpProbe sends a datagram, and names the answer if it is one.
func udpProbe(name string, make func(*Target) []byte, speaks string, is func(sent, got []byte) bool) Probe {
	return simple{Kind{Name: name, Family: "udp", Network: "udp", Knocks: true}, func(ctx context.Context, t *Target) Answer {
		b := make(t)
		a, got := t.hear(ctx, false, b)
		if is != nil && is(b, got) {
			a.What = speaks
		}
		return a
	}}
}

// ikeInit is an IKE_SA_INIT request (RFC 7296, 1.2): one proposal that everybody knows (AES-CBC-128, HMAC-SHA2-256-128,
// PRF-HMAC-SHA2-256, group 19), a key share and a nonce that are random. A group 19 share must be on the curve, so many a
// responder says INVALID_SYNTAX: that is an answer, too.
func ikeInit(t *Target) []byte {
	payload := func(next byte, body []byte) []byte {
		return append(binary.BigEndian.AppendUint16([]byte{next, 0}, uint16(4+len(body))), body...)
	}
	transforms := []byte{
		3, 0, 0, 12, 1, 0, 0, 12, 0x80, 14, 0, 128, // ENCR_AES_CBC, key length
		3, 0, 0, 8, 2, 0, 0, 5, // PRF_HMAC_SHA2_256
		3, 0, 0, 8, 3, 0, 0, 12, // AUTH_HMAC_SHA2_256_128
		0, 0, 0, 8, 4, 0, 0, 19, // a 256-bit random ECP group
	}
	proposal := append([]byte{0, 0, 0, byte(8 + len(transforms)), 1, 1, 0, 4}, transforms...)
	body := payload(34, proposal)
	body = append(body, payload(40, append([]byte{0, 19, 0, 0}, t.random(64)...))...)
	body = append(body, payload(0, t.random(32))...)
	head := append(t.random(8), make([]byte, 8)...)     // the responder's SPI is not known yet
	head = append(head, 33, 0x20, 34, 0x08, 0, 0, 0, 0) // SA next, version 2.0, IKE_SA_INIT, the initiator's
	head = binary.BigEndian.AppendUint32(head, uint32(28+len(body)))
	return append(head, body...)
}
