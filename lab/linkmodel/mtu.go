package linkmodel

import (
	"encoding/binary"
	"slices"
)

const (
	etherTypeIPv4 = 0x0800
	etherTypeIPv6 = 0x86dd
	protoICMP     = 1
	protoICMPv6   = 58
	// fragHeader is where IPv4 keeps its flags and the offset of a fragment.
	fragHeader = 6
	flagDF     = 1 << 14
	flagMF     = 1 << 13
)

// narrow is what a router before a link of the given MTU does with a frame that is too long for it: it cuts an IPv4
// packet that may be cut, and answers the sender of any other. All else is dropped without a word: both are nil then.
func narrow(mtu int, f []byte) (parts [][]byte, answer []byte) {
	switch ip := f[minFrame:]; binary.BigEndian.Uint16(f[12:]) {
	case etherTypeIPv4:
		if len(ip) < 20 || ip[0]>>4 != 4 {
			return nil, nil
		}
		header, total := int(ip[0]&15)*4, int(binary.BigEndian.Uint16(ip[2:]))
		if header < 20 || total < header || total > len(ip) {
			return nil, nil
		}
		ip = ip[:total]
		if binary.BigEndian.Uint16(ip[fragHeader:])&flagDF == 0 || total <= mtu {
			return fragment(mtu, f[:minFrame], ip[:header], ip[header:]), nil
		}
		return nil, fragmentationNeeded(mtu, f[:minFrame], ip, header)
	case etherTypeIPv6:
		if len(ip) < 40 || ip[0]>>4 != 6 {
			return nil, nil
		}
		return nil, packetTooBig(mtu, f[:minFrame], ip)
	}
	return nil, nil
}

// fragment cuts an IPv4 packet (RFC 791, section 3.2). Every part gets all options.
func fragment(mtu int, ether, header, payload []byte) (parts [][]byte) {
	flags := binary.BigEndian.Uint16(header[fragHeader:])
	size := (mtu - len(header)) &^ 7
	for at := 0; at == 0 || at < len(payload); at += size {
		n := min(size, len(payload)-at)
		part := slices.Concat(ether, header, payload[at:at+n])
		ip := part[len(ether):]
		offset := flags + uint16(at/8) // a fragment may be cut again
		if at+n < len(payload) {
			offset |= flagMF
		}
		binary.BigEndian.PutUint16(ip[2:], uint16(len(header)+n))
		binary.BigEndian.PutUint16(ip[fragHeader:], offset)
		binary.BigEndian.PutUint16(ip[10:], 0)
		binary.BigEndian.PutUint16(ip[10:], checksum(ip[:len(header)]))
		parts = append(parts, part)
	}
	return parts
}

// fragmentationNeeded is the answer of RFC 792 and RFC 1191. It comes from the address that the packet was going to,
// because a path has none of its own.
func fragmentationNeeded(mtu int, ether, ip []byte, header int) []byte {
	const most = 576 - 20 - 8 // RFC 1812, section 4.3.2.3
	first := binary.BigEndian.Uint16(ip[fragHeader:])&(flagMF-1) == 0
	isError := ip[9] == protoICMP && (len(ip) == header || !slices.Contains([]byte{0, 8, 13, 14}, ip[header]))
	if ether[0]&1 != 0 || !first || isError {
		return nil // RFC 1122, section 3.2.2
	}
	quoted := ip[:min(len(ip), most)]
	icmp := append([]byte{3, 4, 0, 0, 0, 0, byte(mtu >> 8), byte(mtu)}, quoted...)
	binary.BigEndian.PutUint16(icmp[2:], checksum(icmp))
	reply := make([]byte, 20)
	reply[0], reply[8], reply[9] = 0x45, 64, protoICMP
	binary.BigEndian.PutUint16(reply[2:], uint16(len(reply)+len(icmp)))
	copy(reply[12:16], ip[16:20])
	copy(reply[16:20], ip[12:16])
	binary.BigEndian.PutUint16(reply[10:], checksum(reply))
	return slices.Concat(back(ether), reply, icmp)
}

// packetTooBig is the answer of RFC 4443, section 3.2, from the packet's destination likewise.
func packetTooBig(mtu int, ether, ip []byte) []byte {
	const most = 1280 - 40 - 8
	isError := ip[6] == protoICMPv6 && (len(ip) == 40 || ip[40] < 128)
	if ether[0]&1 != 0 || isError {
		return nil
	}
	quoted := ip[:min(len(ip), most)]
	icmp := append([]byte{2, 0, 0, 0, 0, 0, byte(mtu >> 8), byte(mtu)}, quoted...)
	reply := make([]byte, 40)
	reply[0], reply[6], reply[7] = 0x60, protoICMPv6, 64
	binary.BigEndian.PutUint16(reply[4:], uint16(len(icmp)))
	copy(reply[8:24], ip[24:40])
	copy(reply[24:40], ip[8:24])
	pseudo := slices.Concat(reply[8:40], []byte{0, 0, byte(len(icmp) >> 8), byte(len(icmp)), 0, 0, 0, protoICMPv6})
	binary.BigEndian.PutUint16(icmp[2:], checksum(slices.Concat(pseudo, icmp)))
	return slices.Concat(back(ether), reply, icmp)
}

// back is the Ethernet header of an answer.
func back(ether []byte) []byte { return slices.Concat(ether[6:12], ether[0:6], ether[12:14]) }

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i]) << 8
		if i+1 < len(b) {
			sum += uint32(b[i+1])
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
