package rules

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/godwit-vpn/godwit/lab/firewall"
)

// shapes are the first bytes of protocols, as a filter that allows only some tells them: cheaply, and without a doubt about
// what follows.
var shapes = []struct {
	name string
	fits func(proto uint8, b []byte) bool
}{
	// A record of a handshake, of a length that can be.
	{"tls", func(proto uint8, b []byte) bool {
		return proto == firewall.TCP && len(b) >= 5 && b[0] == 0x16 && b[1] == 3 && b[2] >= 1 && b[2] <= 3 &&
			plausible(int(binary.BigEndian.Uint16(b[3:])), 1, 1<<14)
	}},
	{"http", func(proto uint8, b []byte) bool {
		return proto == firewall.TCP && len(b) >= 8 && slices.ContainsFunc(verbs, func(verb []byte) bool { return bytes.HasPrefix(b, verb) })
	}},
	// A query with one question; over TCP its length goes before it.
	{"dns", func(proto uint8, b []byte) bool {
		if proto == firewall.TCP {
			if len(b) < 2 || !plausible(int(binary.BigEndian.Uint16(b)), 12, 4096) {
				return false
			}
			b = b[2:]
		}
		return len(b) >= 12 && b[2]&0xf8 == 0 && b[4] == 0 && b[5] == 1 && b[6] == 0 && b[7] == 0 && b[8] == 0 && b[9] == 0
	}},
	{"ssh", func(proto uint8, b []byte) bool { return proto == firewall.TCP && bytes.HasPrefix(b, sshBanner) }},
	// A long header, of version 1 or 2 (RFC 9000, section 17.2).
	{"quic", func(proto uint8, b []byte) bool {
		return proto == firewall.UDP && len(b) >= 1200 && b[0]&0xc0 == 0xc0 &&
			(binary.BigEndian.Uint32(b[1:]) == 1 || binary.BigEndian.Uint32(b[1:]) == 0x6b3343cf)
	}},
}

var verbs = [][]byte{[]byte("GET "), []byte("POST "), []byte("HEAD "), []byte("CONNECT "), []byte("OPTIONS "), []byte("DELETE "), []byte("PUT ")}

func plausible(n, low, high int) bool { return n >= low && n <= high }

// shape names what a connection's first bytes from its client look like, of those that are known; empty if of none.
func shape(proto uint8, b []byte) string {
	for _, s := range shapes {
		if s.fits(proto, b) {
			return s.name
		}
	}
	return ""
}

// checkShapes says which of a parameter's names is none.
func checkShapes(field string, names []string) error {
	var known []string
	for _, s := range shapes {
		known = append(known, s.name)
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return wrong(field, "%q is not known; there are %s", name, strings.Join(known, ", "))
		}
	}
	return nil
}
