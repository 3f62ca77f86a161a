package wire

import (
	"encoding/binary"
	"net/netip"

	"github.com/godwit-vpn/godwit/internal/flow"
)

// HELLO is what a knock says behind the door.
//
//	+--------------+-----------+---------------+---------------+-----------+-----------------+----------------+
//	| version (16) | flags (16)| features (64) | session (128) | next (64) | device key (256)| signature (512)|
//	+--------------+-----------+---------------+---------------+-----------+-----------------+----------------+
//	+-------------------+----------------
//	| certificate length (16) | certificate …
//	+-------------------+----------------
//
// session was chosen at random by the client; flag 1 (new) says that it may begin now if the gateway does not know it.
// next is the client's cumulative acknowledgement. Flag 2 (enrol) asks for a certificate for the device key, and then
// none is shown. Flag 4 (renew) asks for a fresh one. What the signature covers is told in package link.

// The flags of a HELLO.
const (
	HelloNew   = 1
	HelloEnrol = 2
	HelloRenew = 4
)

// FeatureShape is the part of a HELLO's features that says how much the client wants the beginnings of streams shaped, and
// of a WELCOME's that says how much the gateway does: a number as package shape has them.
const FeatureShape = 3

// SessionID names a session at both ends. Alone it opens nothing.
type SessionID [16]byte

// MaxCert is the longest certificate a HELLO or WELCOME carries.
const MaxCert = 1024

// Hello is a parsed HELLO.
type Hello struct {
	Version   uint16
	Flags     uint16
	Features  uint64
	Session   SessionID
	Next      uint64
	DeviceKey [32]byte
	Signature [64]byte
	Cert      []byte
}

const helloFixed = 2 + 2 + 8 + 16 + 8 + 32 + 64 + 2

// MaxHello is the longest body of a HELLO that a gateway reads; the room above today's fields is for later versions.
const MaxHello = helloFixed + MaxCert + 256

// AppendHello appends h.
func AppendHello(b []byte, h Hello) []byte {
	at := len(b)
	b = begin(b, TypeHello)
	b = binary.BigEndian.AppendUint16(b, h.Version)
	b = binary.BigEndian.AppendUint16(b, h.Flags)
	b = binary.BigEndian.AppendUint64(b, h.Features)
	b = append(b, h.Session[:]...)
	b = binary.BigEndian.AppendUint64(b, h.Next)
	b = append(b, h.DeviceKey[:]...)
	b = append(b, h.Signature[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(h.Cert)))
	return end(append(b, h.Cert...), at)
}

// ParseHello parses a body. Cert is a copy.
func ParseHello(body []byte) (h Hello, err error) {
	if err := need(body, helloFixed, "HELLO"); err != nil {
		return h, err
	}
	h.Version = binary.BigEndian.Uint16(body)
	h.Flags = binary.BigEndian.Uint16(body[2:])
	h.Features = binary.BigEndian.Uint64(body[4:])
	copy(h.Session[:], body[12:])
	h.Next = binary.BigEndian.Uint64(body[28:])
	copy(h.DeviceKey[:], body[36:])
	copy(h.Signature[:], body[68:])
	h.Cert, err = parseCert(body[132:])
	return h, err
}

func parseCert(body []byte) ([]byte, error) {
	n := int(binary.BigEndian.Uint16(body))
	if n > MaxCert || len(body) < 2+n {
		return nil, malformed("certificate of %d bytes in %d", n, len(body)-2)
	}
	if n == 0 {
		return nil, nil
	}
	return append([]byte(nil), body[2:2+n]...), nil
}

// WELCOME is the gateway's answer to a HELLO it accepts.
//
//	+--------------+-----------+---------------+-----------+------------+------------+-------------+
//	| version (16) | flags (16)| features (64) | next (64) | clock (64) | IPv4 (32)  | IPv6 (128)  |
//	+--------------+-----------+---------------+-----------+------------+------------+-------------+
//	+--------------+------------+-------------+-------------------------+---------------
//	| families (8) | sleep (32) | window (32) | certificate length (16) | certificate …
//	+--------------+------------+-------------+-------------------------+---------------
//
// Flag 1 (resumed) says that the session was already there, flag 2 (forward) that packets of every protocol are carried. next is the gateway's cumulative acknowledgement, clock its
// time in seconds since 1970. IPv4 and IPv6 are the session's tunnel addresses. families are the flow.Families the
// gateway reaches. sleep is how many seconds the session is kept without a link, window how many bytes of a new stream
// the gateway takes before its first WINDOW. A certificate is there when one was asked for.

// The flags of a WELCOME.
const (
	WelcomeResumed = 1 // the session was already there
	WelcomeForward = 2 // the gateway carries packets of every protocol, each as it is
)

// Welcome is a parsed WELCOME.
type Welcome struct {
	Version  uint16
	Flags    uint16
	Features uint64
	Next     uint64
	Clock    uint64
	Addr4    netip.Addr
	Addr6    netip.Addr
	Families flow.Families
	Sleep    uint32
	Window   uint32
	Cert     []byte
}

const welcomeFixed = 2 + 2 + 8 + 8 + 8 + 4 + 16 + 1 + 4 + 4 + 2

// AppendWelcome appends w. Addr4 and Addr6 must be valid and of their family.
func AppendWelcome(b []byte, w Welcome) []byte {
	at := len(b)
	b = begin(b, TypeWelcome)
	b = binary.BigEndian.AppendUint16(b, w.Version)
	b = binary.BigEndian.AppendUint16(b, w.Flags)
	b = binary.BigEndian.AppendUint64(b, w.Features)
	b = binary.BigEndian.AppendUint64(b, w.Next)
	b = binary.BigEndian.AppendUint64(b, w.Clock)
	a4, a6 := w.Addr4.As4(), w.Addr6.As16()
	b = append(append(b, a4[:]...), a6[:]...)
	b = append(b, byte(w.Families))
	b = binary.BigEndian.AppendUint32(b, w.Sleep)
	b = binary.BigEndian.AppendUint32(b, w.Window)
	b = binary.BigEndian.AppendUint16(b, uint16(len(w.Cert)))
	return end(append(b, w.Cert...), at)
}

// ParseWelcome parses a body. Cert is a copy.
func ParseWelcome(body []byte) (w Welcome, err error) {
	if err := need(body, welcomeFixed, "WELCOME"); err != nil {
		return w, err
	}
	w.Version = binary.BigEndian.Uint16(body)
	w.Flags = binary.BigEndian.Uint16(body[2:])
	w.Features = binary.BigEndian.Uint64(body[4:])
	w.Next = binary.BigEndian.Uint64(body[12:])
	w.Clock = binary.BigEndian.Uint64(body[20:])
	w.Addr4 = netip.AddrFrom4([4]byte(body[28:32]))
	w.Addr6 = netip.AddrFrom16([16]byte(body[32:48]))
	w.Families = flow.Families(body[48])
	w.Sleep = binary.BigEndian.Uint32(body[49:])
	w.Window = binary.BigEndian.Uint32(body[53:])
	w.Cert, err = parseCert(body[57:])
	return w, err
}

// REFUSED is the gateway's answer to a HELLO it does not accept; the link ends with it.
//
//	+------------+---------------+------------+
//	| cause (16) | retry (32)    | clock (64) |
//	+------------+---------------+------------+
//
// retry is after how many seconds another try makes sense, 0 for never with these credentials. clock is the gateway's
// time in seconds since 1970.

// Cause is why a link was refused.
type Cause uint16

// The causes. Numbers are never reused.
const (
	CauseVersion        Cause = 1  // the gateway speaks no version this client does: update
	CauseProof          Cause = 2  // the signature does not match
	CauseKeyRevoked     Cause = 3  // the access key was taken back
	CauseKeyExpired     Cause = 4  // the access key's time is over
	CauseTooManyDevices Cause = 5  // the access key's devices are all taken
	CauseDeviceRevoked  Cause = 6  // this device was taken out
	CauseCertExpired    Cause = 7  // the certificate's time is over: renew
	CauseClock          Cause = 8  // the certificate is not valid yet: a clock is wrong
	CauseSessionUnknown Cause = 9  // begin a new session
	CauseBusy           Cause = 10 // the gateway is full or draining
	CauseNoControl      Cause = 11 // enrolling needs control, which cannot be reached now
	CauseKeyUnknown     Cause = 12 // the access key is not one of this network's
	CauseQuota          Cause = 13 // the access key's monthly limit is reached: retry says when to ask again
)

// Refused is a parsed REFUSED.
type Refused struct {
	Cause Cause
	Retry uint32
	Clock uint64
}

// AppendRefused appends r.
func AppendRefused(b []byte, r Refused) []byte {
	at := len(b)
	b = binary.BigEndian.AppendUint16(begin(b, TypeRefused), uint16(r.Cause))
	b = binary.BigEndian.AppendUint32(b, r.Retry)
	return end(binary.BigEndian.AppendUint64(b, r.Clock), at)
}

// ParseRefused parses a body.
func ParseRefused(body []byte) (r Refused, err error) {
	if err := need(body, 14, "REFUSED"); err != nil {
		return r, err
	}
	r.Cause = Cause(binary.BigEndian.Uint16(body))
	r.Retry = binary.BigEndian.Uint32(body[2:])
	r.Clock = binary.BigEndian.Uint64(body[6:])
	return r, nil
}
