package packet

import (
	"encoding/binary"
	"net/netip"
)

const headerTCP = 20

// AppendTCP appends a TCP segment without options, window or payload to b: all that a reset needs.
func AppendTCP(b []byte, src, dst netip.AddrPort, seq, ack uint32, flags byte) ([]byte, error) {
	b, err := appendHeader(b, src.Addr(), dst.Addr(), ProtoTCP, headerTCP)
	if err != nil {
		return b, err
	}
	at := len(b)
	b = binary.BigEndian.AppendUint16(b, src.Port())
	b = binary.BigEndian.AppendUint16(b, dst.Port())
	b = binary.BigEndian.AppendUint32(b, seq)
	b = binary.BigEndian.AppendUint32(b, ack)
	b = append(b, headerTCP/4<<4, flags, 0, 0, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(b[at+16:], ^fold(sum(pseudo(src.Addr().Unmap(), dst.Addr().Unmap(), ProtoTCP, headerTCP), b[at:])))
	return b, nil
}

// FinishChecksum makes the checksum that a network card would make: at holds the sum of the pseudo-header, of what begins
// with b.
func FinishChecksum(b []byte, at int) {
	c := ^fold(sum(0, b))
	if c == 0 {
		c = 0xffff // zero means that there is none, in UDP; it is as good elsewhere
	}
	binary.BigEndian.PutUint16(b[at:], c)
}
