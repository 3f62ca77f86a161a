package load

import (
	"encoding/binary"
	"errors"
	"net"
	"time"
)

// A numbered datagram. The client sends it, the target fills in what it knows and sends it back, and so the two ways
// are told apart, which they can be because both ends read one machine's clock:
//
//	0      8    12   16     24        32
//	┌──────┬────┬────┬──────┬─────────┬─────────┐
//	│ flow │ no │ of │ sent │ arrived │ padding │   flow: which test, at random; sent, arrived: Unix nanoseconds
//	└──────┴────┴────┴──────┴─────────┴─────────┘   of: how many of the flow had arrived with it
//
// All numbers are big endian. Whatever is shorter than the header is dropped.
const udpHeader = 32

// udpBuffer is how much a socket of either end may hold: what is lost is to be lost on the way.
const udpBuffer = 4 << 20

// echoDatagrams is the target's side. It ends when pc is closed. An entry for each flow stays until the process ends.
func echoDatagrams(pc *net.UDPConn) {
	pc.SetReadBuffer(udpBuffer)
	arrived := make(map[uint64]uint32)
	buf := make([]byte, 64<<10)
	for {
		n, from, err := pc.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n < udpHeader {
			continue
		}
		flow := binary.BigEndian.Uint64(buf)
		arrived[flow]++
		binary.BigEndian.PutUint32(buf[12:], arrived[flow])
		binary.BigEndian.PutUint64(buf[24:], uint64(time.Now().UnixNano()))
		pc.WriteToUDPAddrPort(buf[:n], from)
	}
}
