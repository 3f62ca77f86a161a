package proxy

import (
	"encoding/binary"
	"errors"
	"io"
	"net/netip"

	"github.com/godwit-vpn/godwit/internal/flow"
)

// The SOCKS5 messages of RFC 1928 and RFC 1929, numbers big-endian. Each reader takes exactly its message and leaves
// what follows.
//
//	greeting   +---+---+- - - - -+          choice  +---+---+
//	           | 5 | n | n bytes |                  | 5 | m |   m: 0 none, 2 login, 0xff refused
//	           +---+---+- - - - -+                  +---+---+
//
//	login      +---+---+- - - -+---+- - - -+  login's +---+---+
//	           | 1 | u | user  | p | pass  |  answer  | 1 | 0 |  0: come in
//	           +---+---+- - - -+---+- - - -+          +---+---+
//
//	request    +---+---+---+- - - - -+      reply   +---+---+---+- - - - -+
//	           | 5 |cmd| 0 | address |              | 5 |rep| 0 | address |
//	           +---+---+---+- - - - -+              +---+---+---+- - - - -+
//
//	address    +---+---------------+------+
//	           | 1 | IPv4 (4)      | port |
//	           +---+---+-----------+------+
//	           | 3 | n | name (n)  | port |
//	           +---+---+-----------+------+
//	           | 4 | IPv6 (16)     | port |
//	           +---+---------------+------+
const (
	socks4Version = 4
	socks5Version = 5
	loginVersion  = 1

	methodNone    = 0x00
	methodLogin   = 0x02
	methodRefused = 0xff

	cmdConnect   = 1
	cmdAssociate = 3

	addrIPv4 = 1
	addrName = 3
	addrIPv6 = 4
)

var (
	errSocks    = errors.New("malformed SOCKS5 message")
	errAddrType = errors.New("unknown SOCKS5 address type")
)

// address is where a SOCKS5 message points: a name, or ip if there is no name.
type address struct {
	name string
	ip   netip.Addr // unmapped
	port uint16
}

// target checks what no stream could be opened to.
func (a address) target() (flow.Target, error) {
	if a.name != "" {
		return flow.NewTarget(a.name, a.port)
	}
	return flow.NewTarget(a.ip.String(), a.port)
}

// readGreeting returns the methods the client offers.
func readGreeting(r io.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	if head[0] != socks5Version {
		return nil, errSocks
	}
	methods := make([]byte, head[1])
	_, err := io.ReadFull(r, methods)
	return methods, err
}

// readLogin returns an RFC 1929 user and password.
func readLogin(r io.Reader) (user, password string, err error) {
	var version [1]byte
	if _, err := io.ReadFull(r, version[:]); err != nil {
		return "", "", err
	}
	if version[0] != loginVersion {
		return "", "", errSocks
	}
	if user, err = readCounted(r); err != nil {
		return "", "", err
	}
	password, err = readCounted(r)
	return user, password, err
}

// readCounted reads one length byte and so many bytes.
func readCounted(r io.Reader) (string, error) {
	var n [1]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return "", err
	}
	b := make([]byte, n[0])
	_, err := io.ReadFull(r, b)
	return string(b), err
}

// readRequest returns a request's command and address. After errAddrType the message's end is unknown.
func readRequest(r io.Reader) (cmd byte, a address, err error) {
	var buf [4 + 1 + 255 + 2]byte
	if _, err := io.ReadFull(r, buf[:5]); err != nil {
		return 0, address{}, err
	}
	if buf[0] != socks5Version {
		return 0, address{}, errSocks
	}
	n, err := addressLen(buf[3:5])
	if err != nil {
		return buf[1], address{}, err
	}
	if _, err := io.ReadFull(r, buf[5:3+n]); err != nil {
		return 0, address{}, err
	}
	a, _, err = parseAddress(buf[3 : 3+n])
	return buf[1], a, err
}

// addressLen is the length of the address of which b holds at least two bytes.
func addressLen(b []byte) (int, error) {
	switch b[0] {
	case addrIPv4:
		return 1 + 4 + 2, nil
	case addrIPv6:
		return 1 + 16 + 2, nil
	case addrName:
		return 1 + 1 + int(b[1]) + 2, nil
	}
	return 0, errAddrType
}

// parseAddress parses the address b begins with and returns what follows it.
func parseAddress(b []byte) (a address, rest []byte, err error) {
	if len(b) < 2 {
		return address{}, nil, errSocks
	}
	n, err := addressLen(b)
	if err != nil {
		return address{}, nil, err
	}
	if len(b) < n {
		return address{}, nil, errSocks
	}
	body := b[1 : n-2]
	if b[0] == addrName {
		a.name = string(body[1:])
		if a.name == "" {
			return address{}, nil, errSocks
		}
	} else {
		ip, _ := netip.AddrFromSlice(body)
		a.ip = ip.Unmap()
	}
	a.port = binary.BigEndian.Uint16(b[n-2:])
	return a, b[n:], nil
}

// appendAddress appends the address form of ap; an invalid one counts as 0.0.0.0:0.
func appendAddress(dst []byte, ap netip.AddrPort) []byte {
	ip := ap.Addr().Unmap()
	switch {
	case ip.Is6():
		dst = append(dst, addrIPv6)
	case ip.Is4():
		dst = append(dst, addrIPv4)
	default:
		dst, ip = append(dst, addrIPv4), netip.IPv4Unspecified()
	}
	dst = append(dst, ip.AsSlice()...)
	return binary.BigEndian.AppendUint16(dst, ap.Port())
}

// appendReply appends a reply.
func appendReply(dst []byte, reply byte, bound netip.AddrPort) []byte {
	return appendAddress(append(dst, socks5Version, reply, 0), bound)
}
