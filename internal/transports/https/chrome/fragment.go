package chrome

import (
	"encoding/binary"
	mrand "math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/godwit-vpn/godwit/internal/transport"
)

// Fragmented returns a connection that cuts a ClientHello which is written to it, for a firewall that looks for a name in
// one packet or in one TLS record. conn must have TCP_NODELAY, as Go's have.
//
//	none     [16 03 01 n  ............ site.exam ple ............]
//	tcp      [16 03 01 n  ............ site.exam] [ple ............]      two writes
//	record   [16 03 01 k  ............ site.exam 16 03 01 n-k ple ............]
//	both     [16 03 01 k  ............ site.exam] [16 03 01 n-k ple ............]
//
// Each part that is written alone is a TCP segment, or several where it is longer than one. A second hello, which a server
// asks for that is not a gateway, is not cut.
func Fragmented(conn net.Conn, how transport.Fragment) net.Conn {
	if how == transport.FragmentNone {
		return conn
	}
	return &fragmented{Conn: conn, how: how}
}

type fragmented struct {
	net.Conn
	how transport.Fragment
	cut bool // the TLS client's writer alone uses it
}

// leastWait and mostWait bound how much later the second part is written. The kernel puts writes into one segment while an
// earlier one has not left the machine (tcp_autocorking).
const (
	leastWait = 3 * time.Millisecond
	mostWait  = 15 * time.Millisecond
)

// Write implements net.Conn for TLS.
func (f *fragmented) Write(b []byte) (int, error) {
	if f.cut {
		return f.Conn.Write(b)
	}
	f.cut = true
	at := cutAt(b)
	if at == 0 { // not our hello
		return f.Conn.Write(b)
	}
	first, second := b[:at], b[at:]
	if f.how != transport.FragmentTCP {
		first, second = record(b[:3], b[recordHead:at]), record(b[:3], second)
	}
	if f.how == transport.FragmentRecord {
		first, second = slices.Concat(first, second), nil
	}
	if _, err := f.Conn.Write(first); err != nil {
		return 0, err
	}
	if len(second) > 0 {
		time.Sleep(leastWait + mrand.N(mostWait-leastWait))
		if _, err := f.Conn.Write(second); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

const recordHead = 5

// record is a TLS record with content, of the kind and version that head has.
func record(head, content []byte) []byte {
	return append(binary.BigEndian.AppendUint16(slices.Clone(head), uint16(len(content))), content...)
}

// cutAt is where a record with a ClientHello is cut: inside the server's name, in the label that a list of banned names
// would have, or inside the session id if there is no name. 0 is "nowhere": it is something else.
func cutAt(b []byte) int {
	const sessionID, sessionIDLen = recordHead + 4 + 2 + 32 + 1, 32
	if len(b) < sessionID+sessionIDLen || b[0] != 22 || b[recordHead] != 1 {
		return 0
	}
	from, to := serverName(b)
	if to == 0 {
		return sessionID + 1 + mrand.IntN(sessionIDLen-1)
	}
	label, end := from, to
	name := string(b[from:to])
	if dot := strings.LastIndexByte(name, '.'); dot > 0 { // the last label is a whole country's
		to = from + dot
		if dot = strings.LastIndexByte(name[:dot], '.'); dot >= 0 {
			label += dot + 1
		}
	}
	places := cuts(b, label, to)
	if len(places) == 0 { // a label of one letter
		places = cuts(b, label, end)
	}
	if len(places) == 0 {
		return min(label+1, len(b)-1) // in front of a letter that nothing comes after
	}
	return places[mrand.IntN(len(places))]
}

// cuts lists the places inside b[from:to] that leave no part whole. The head of a second record ends with the low byte of
// its length: where that is the letter cut off, a firewall that reads bytes would find the name again behind it.
func cuts(b []byte, from, to int) (places []int) {
	for at := from + 1; at < to; at++ {
		if byte(len(b)-at) != b[at-1] {
			places = append(places, at)
		}
	}
	return places
}

// serverName finds the name in a record with a ClientHello (RFC 8446, section 4.1.2; RFC 6066, section 3).
func serverName(b []byte) (from, to int) {
	at := recordHead + 4 + 2 + 32
	length := func(size int) int { // of what follows
		if at+size > len(b) {
			at = len(b)
			return 0
		}
		n := 0
		for _, x := range b[at : at+size] {
			n = n<<8 | int(x)
		}
		at += size
		return n
	}
	for _, size := range []int{1, 2, 1} { // session id, cipher suites, compression methods
		n := length(size)
		at += n
	}
	for length(2); at < len(b); {
		number, n := length(2), length(2)
		if Code(number) != extServerName {
			at += n
			continue
		}
		length(2) // the list
		length(1) // the kind of name
		if n = length(2); n > 0 && at+n <= len(b) {
			return at, at + n
		}
		break
	}
	return 0, 0
}
