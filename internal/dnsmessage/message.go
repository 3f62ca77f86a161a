// Package dnsmessage is DNS messages (RFC 1035) as a forwarder sees them: it reads a question, and of an answer what is
// needed to keep it, age it and pass it on, with all other bytes left as they came. It frames them for streams, too.
//
//	 0                   1
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5
//	+-------------------------------+
//	|              id               |
//	|Q|opcode |A|T|R|R|Z|A|C| rcode |     QR AA TC RD RA - AD CD
//	| questions     1 │ answers     |     16 bits each
//	| authority       │ additional  |
//	+-------------------------------+
//	| name, type, class             |     the question, in no shorthand
//	| records ...                   |     name, type, class, TTL(32), length, data
//	+-------------------------------+
//
// Of the additional records OPT (RFC 6891), and what is behind it, is taken off an answer: it is between neighbours. What
// is behind the last record counted is ignored. Anything else that does not fit is an error.
package dnsmessage

import (
	"encoding/binary"
	"errors"
)

const (
	headLen  = 12
	maxName  = 255
	maxLabel = 63
	// MaxQuery is the longest question that is read: names are short, and whoever pads (RFC 8467) does so to 128 bytes.
	MaxQuery = 4096
	// MaxMessage is the longest message that a stream can carry.
	MaxMessage = 1<<16 - 1
	// minUDP is what everybody takes over UDP (RFC 1035, section 4.2.1), safeUDP what crosses every path unfragmented (DNS
	// flag day 2020).
	minUDP  = 512
	safeUDP = 1232
)

// Types that matter here; all others are carried unseen.
const (
	TypeA     = 1
	TypeSOA   = 6
	TypePTR   = 12
	TypeAAAA  = 28
	TypeOPT   = 41
	TypeSVCB  = 64
	TypeHTTPS = 65
	typeIXFR  = 251
	typeAXFR  = 252
	classIN   = 1
)

// RCode is how a question fared.
type RCode uint16

// The codes (RFC 1035, RFC 2136, RFC 6891).
const (
	Success  RCode = 0
	FormErr  RCode = 1
	ServFail RCode = 2
	NXDomain RCode = 3
	NotImp   RCode = 4
	Refused  RCode = 5
	badVers  RCode = 16
)

const (
	flagQR     = 1 << 15
	maskOpcode = 15 << 11
	flagAA     = 1 << 10
	flagTC     = 1 << 9
	flagRD     = 1 << 8
	flagRA     = 1 << 7
	flagAD     = 1 << 5
	flagCD     = 1 << 4
	flagDO     = 1 << 15 // of OPT's TTL
)

var (
	errShort    = errors.New("the message ends too soon")
	errName     = errors.New("a name that is none")
	errAnswer   = errors.New("not the answer to the question")
	errQuestion = errors.New("not a question")
)

// The sections.
const (
	answers = iota
	authority
	additional
)

// record is where one is in its message.
type record struct {
	start, data, end int
	typ, class       uint16
	ttl              uint32
	length           uint16
}

// records calls do with each record from n on.
func records(b []byte, n int, do func(section int, r record) error) error {
	for section := range 3 {
		for range binary.BigEndian.Uint16(b[6+2*section:]) {
			r := record{start: n}
			fixed, err := skipName(b, n, true)
			if err != nil {
				return err
			}
			if len(b) < fixed+10 {
				return errShort
			}
			r.typ, r.class = binary.BigEndian.Uint16(b[fixed:]), binary.BigEndian.Uint16(b[fixed+2:])
			r.ttl, r.length = binary.BigEndian.Uint32(b[fixed+4:]), binary.BigEndian.Uint16(b[fixed+8:])
			r.data = fixed + 10
			r.end = r.data + int(r.length)
			if len(b) < r.end {
				return errShort
			}
			if err := do(section, r); err != nil {
				return err
			}
			n = r.end
		}
	}
	return nil
}

// skipName returns what is behind the name at n. A pointer ends a name, where there may be one.
func skipName(b []byte, n int, pointers bool) (int, error) {
	for start := n; n < len(b); {
		switch c := b[n]; {
		case c == 0:
			if n+1-start > maxName {
				return 0, errName
			}
			return n + 1, nil
		case c <= maxLabel:
			n += 1 + int(c)
		case c >= 0xc0 && pointers:
			if n+2 > len(b) {
				return 0, errShort
			}
			return n + 2, nil
		default:
			return 0, errName
		}
	}
	return 0, errShort
}
