package packet

import (
	"encoding/binary"
	"time"
)

// Reassembly puts IPv4 and IPv6 fragments together (RFC 791 §3.2, RFC 8200 §4.5): datagrams cross a session whole. It is for
// what the machine's own kernel makes for a TUN, in order and without a loss, so that nothing clever is needed: what comes
// otherwise is dropped. The zero value is ready. Used by one goroutine.
type Reassembly struct {
	under []*datagram // the oldest first
}

type datagram struct {
	id    fragmentID
	since time.Time
	whole []byte // header, and what came so far
	head  int    // how long the header is
}

type fragmentID struct {
	addrs [32]byte
	id    uint32
	proto byte
	v6    bool
}

const (
	mostDatagrams  = 32
	reassemblyTime = 5 * time.Second
)

// Add takes a packet. It reports whether that is a fragment, and returns the whole datagram with the last one.
func (r *Reassembly) Add(b []byte, now time.Time) (whole []byte, isPiece bool) {
	id, offset, more, head, data, ok := parseFragment(b)
	if !ok {
		return nil, false
	}
	for len(r.under) > 0 && now.Sub(r.under[0].since) > reassemblyTime {
		r.under = r.under[1:]
	}
	at := -1
	for i, d := range r.under {
		if d.id == id {
			at = i
		}
	}
	if offset == 0 {
		if at >= 0 {
			r.drop(at)
		}
		d := &datagram{id: id, since: now, head: len(head), whole: append(append(make([]byte, 0, maxLength), head...), data...)}
		if !more { // IPv6 has such (RFC 6946)
			return d.finish(), true
		}
		if len(r.under) == mostDatagrams {
			r.drop(0)
		}
		r.under = append(r.under, d)
		return nil, true
	}
	if at < 0 {
		return nil, true
	}
	d := r.under[at]
	if offset != len(d.whole)-d.head || offset+len(data) > maxLength {
		r.drop(at)
		return nil, true
	}
	if d.whole = append(d.whole, data...); more {
		return nil, true
	}
	r.drop(at)
	return d.finish(), true
}

func (r *Reassembly) drop(at int) { r.under = append(r.under[:at], r.under[at+1:]...) }

// parseFragment takes a fragment apart: head is the header of the datagram that it is of.
func parseFragment(b []byte) (id fragmentID, offset int, more bool, head, data []byte, ok bool) {
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		flags := binary.BigEndian.Uint16(b[6:])
		n := int(b[0]&15) * 4
		if flags&0x3fff == 0 || n < 20 || n > len(b) || int(binary.BigEndian.Uint16(b[2:])) != len(b) {
			return
		}
		copy(id.addrs[:], b[12:20])
		id.id, id.proto = uint32(binary.BigEndian.Uint16(b[4:])), b[9]
		return id, int(flags&0x1fff) * 8, flags&0x2000 != 0, b[:n], b[n:], true
	case len(b) >= 48 && b[0]>>4 == 6 && b[6] == 44: // right behind the header, as kernels put it
		if int(binary.BigEndian.Uint16(b[4:]))+40 != len(b) {
			return
		}
		copy(id.addrs[:], b[8:40])
		at := binary.BigEndian.Uint16(b[42:])
		id.id, id.proto, id.v6 = binary.BigEndian.Uint32(b[44:]), b[40], true
		return id, int(at &^ 7), at&1 != 0, b[:40], b[48:], true
	}
	return
}

// finish makes the header that of a whole packet.
func (d *datagram) finish() []byte {
	b := d.whole
	if d.id.v6 {
		if len(b)-40 > 0xffff {
			return nil
		}
		b[6] = d.id.proto
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
		return b
	}
	AdjustChecksum(b[10:], uint64(binary.BigEndian.Uint16(b[2:]))+uint64(binary.BigEndian.Uint16(b[6:])), uint64(len(b)), true)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	binary.BigEndian.PutUint16(b[6:], 0)
	return b
}
