package wire

import (
	"encoding/binary"
	"net/netip"

	"github.com/godwit-vpn/godwit/internal/flow"
)

// RESOLVE asks the gateway for a name's addresses.
//
//	+----------+---------+---------+-------
//	| seq (64) | id (32) | len (8) | name …
//	+----------+---------+---------+-------

// Resolve is a parsed RESOLVE.
type Resolve struct {
	ID   uint32
	Name string
}

// AppendResolve appends r with sequence number 0.
func AppendResolve(b []byte, r Resolve) []byte {
	at := len(b)
	b = binary.BigEndian.AppendUint32(beginNumbered(b, TypeResolve), r.ID)
	b = append(b, byte(len(r.Name)))
	return end(append(b, r.Name...), at)
}

// ParseResolve parses what follows the sequence number.
func ParseResolve(body []byte) (r Resolve, err error) {
	if err := need(body, 5, "RESOLVE"); err != nil {
		return r, err
	}
	r.ID = binary.BigEndian.Uint32(body)
	n := int(body[4])
	if n == 0 || n > flow.MaxHost || len(body) < 5+n {
		return r, malformed("RESOLVE has a name of %d bytes in %d", n, len(body)-5)
	}
	r.Name = string(body[5 : 5+n])
	return r, nil
}

// RESOLVED answers a RESOLVE.
//
//	+----------+---------+-----------+-----------+--------------------------
//	| seq (64) | id (32) | code (16) | count (8) | count × address (128)
//	+----------+---------+-----------+-----------+--------------------------
//
// IPv4 addresses are IPv4-mapped. count is 0 when code is not.

// MaxAddrs is how many addresses a RESOLVED carries at most.
const MaxAddrs = 32

// Resolved is a parsed RESOLVED.
type Resolved struct {
	ID    uint32
	Code  flow.Code
	Addrs []netip.Addr
}

// AppendResolved appends r with sequence number 0 and the first MaxAddrs addresses.
func AppendResolved(b []byte, r Resolved) []byte {
	at := len(b)
	b = binary.BigEndian.AppendUint32(beginNumbered(b, TypeResolved), r.ID)
	b = binary.BigEndian.AppendUint16(b, uint16(r.Code))
	addrs := r.Addrs[:min(len(r.Addrs), MaxAddrs)]
	b = append(b, byte(len(addrs)))
	for _, a := range addrs {
		a16 := a.As16()
		b = append(b, a16[:]...)
	}
	return end(b, at)
}

// ParseResolved parses what follows the sequence number.
func ParseResolved(body []byte) (r Resolved, err error) {
	if err := need(body, 7, "RESOLVED"); err != nil {
		return r, err
	}
	r.ID = binary.BigEndian.Uint32(body)
	r.Code = flow.Code(binary.BigEndian.Uint16(body[4:]))
	n := int(body[6])
	body = body[7:]
	if n > MaxAddrs || len(body) < 16*n {
		return r, malformed("RESOLVED says %d addresses in %d bytes", n, len(body))
	}
	for ; n > 0; n, body = n-1, body[16:] {
		r.Addrs = append(r.Addrs, netip.AddrFrom16([16]byte(body[:16])).Unmap())
	}
	return r, nil
}
