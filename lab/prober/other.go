package prober

// Requests of other protocols that B3 names, and SSH: ordinary servers answer those of theirs.

var (
	otherKind = Kind{Family: "other", Network: "tcp", Knocks: true}

	otherProbes = []Probe{
		fixed(otherKind.named("SSH"), []byte("SSH-2.0-OpenSSH_9.2\r\n")),
		// RFC 8489: a binding request, framed as over TCP.
		fixed(otherKind.named("STUN"), stun),
		// RFC 5936: AXFR of the root, and version.bind, each behind its length.
		fixed(otherKind.named("DNS AXFR"), overTCP(query("", 252, 1))),
		fixed(otherKind.named("DNS version.bind"), overTCP(query("\x07version\x04bind", 16, 3))),
		// TPKT and COTP's connection request, as of a Siemens S7.
		fixed(otherKind.named("S7"), []byte{3, 0, 0, 22, 17, 0xe0, 0, 0, 0, 1, 0, 0xc1, 2, 1, 0, 0xc2, 2, 1, 2, 0xc0, 1, 9}),
		// Read device identification.
		fixed(otherKind.named("Modbus"), []byte{0, 1, 0, 0, 0, 5, 0, 0x2b, 0x0e, 1, 0}),
		fixed(otherKind.named("SMTP"), []byte("EHLO probe.example\r\n")),
	}

	stun = append([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42}, "probe-stun-1"...)
)

// query is a DNS query; name is in wire form without its last zero.
func query(name string, kind, class byte) []byte {
	b := append([]byte{0x13, 0x37, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}, name...)
	return append(b, 0, 0, kind, 0, class)
}

func overTCP(b []byte) []byte { return append([]byte{0, byte(len(b))}, b...) }
