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
	"net/netip"
	"strings"
	"time"
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

// Question is what is asked, apart from who asks.
type Question struct {
	wire   string // the name as on the wire, in lower case
	Type   uint16
	class  uint16
	DO, CD bool // with signatures; unchecked
}

// NewQuestion makes one for a name in text form, without escapes. It reports false if there can be no such name.
func NewQuestion(name string, typ uint16) (Question, bool) {
	var b []byte
	if name = strings.TrimSuffix(name, "."); name != "" {
		for label := range strings.SplitSeq(name, ".") {
			if label == "" || len(label) > maxLabel {
				return Question{}, false
			}
			b = append(append(b, byte(len(label))), lower(label)...)
		}
	}
	b = append(b, 0)
	return Question{wire: string(b), Type: typ, class: classIN}, len(b) <= maxName
}

func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// Name is the name in text form, in lower case and without the last dot; the root is "". Bytes that are not plain are
// escaped as \DDD, so that no name looks like another one.
func (q Question) Name() string {
	var s strings.Builder
	for i := 0; i < len(q.wire) && q.wire[i] != 0; i += 1 + int(q.wire[i]) {
		if i > 0 {
			s.WriteByte('.')
		}
		for _, c := range []byte(q.wire[i+1 : i+1+int(q.wire[i])]) {
			if c <= ' ' || c > '~' || c == '.' || c == '\\' {
				s.Write([]byte{'\\', '0' + c/100, '0' + c/10%10, '0' + c%10})
			} else {
				s.WriteByte(c)
			}
		}
	}
	return s.String()
}

// Query is a question with what its asker said beside it.
type Query struct {
	Question
	id     uint16
	flags  uint16
	asked  string // the question in the asker's own spelling
	edns   bool
	size   int   // of an answer by UDP
	badAsk RCode // what is wrong with it, though it can be read
}

var (
	errShort    = errors.New("the message ends too soon")
	errName     = errors.New("a name that is none")
	errAnswer   = errors.New("not the answer to the question")
	errQuestion = errors.New("not a question")
)

// ParseQuery reads a question. If that is none to look for an answer to, ok is false, and reply what to say to it, or nil
// if nothing is.
func ParseQuery(b []byte) (q Query, reply []byte, ok bool) {
	if len(b) < headLen || len(b) > MaxQuery {
		return Query{}, nil, false
	}
	q.id, q.flags = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	if q.flags&flagQR != 0 {
		return Query{}, nil, false
	}
	if q.flags&maskOpcode != 0 {
		return q, q.Fail(NotImp), false
	}
	if err := q.parse(b); err != nil {
		return q, q.Fail(FormErr), false
	}
	if q.badAsk != 0 {
		return q, q.Fail(q.badAsk), false
	}
	return q, nil, true
}

func (q *Query) parse(b []byte) error {
	if binary.BigEndian.Uint16(b[4:]) != 1 {
		return errQuestion
	}
	n, err := skipName(b, headLen, false)
	if err != nil {
		return err
	}
	if len(b) < n+4 {
		return errShort
	}
	q.wire = lower(string(b[headLen:n]))
	q.Type, q.class = binary.BigEndian.Uint16(b[n:]), binary.BigEndian.Uint16(b[n+2:])
	q.asked = string(b[headLen : n+4])
	q.CD = q.flags&flagCD != 0
	err = records(b, n+4, func(section int, r record) error {
		if r.typ != TypeOPT {
			return nil
		}
		if section != additional || q.edns || r.end-r.start != 11+int(r.length) { // its name is the root
			return errQuestion
		}
		q.edns, q.size, q.DO = true, int(r.class), r.ttl&flagDO != 0
		if r.ttl>>16&0xff != 0 {
			q.badAsk = badVers
		}
		return nil
	})
	if err != nil {
		return err
	}
	switch {
	case q.badAsk != 0:
	case q.class != classIN:
		q.badAsk = Refused // such as who the resolver is
	case q.Type == typeAXFR || q.Type == typeIXFR || q.Type == TypeOPT || q.Type == 0:
		q.badAsk = NotImp // answers of several messages, and what is none
	}
	return nil
}

// Append appends the question as it is asked of a resolver, with an id: nothing in it tells who asks. So there are no
// options, such as a client's subnet (RFC 7871).
func (q Question) Append(b []byte, id uint16) []byte {
	flags := uint16(flagRD)
	if q.CD {
		flags |= flagCD
	}
	b = binary.BigEndian.AppendUint16(b, id)
	b = binary.BigEndian.AppendUint16(b, flags)
	b = append(b, 0, 1, 0, 0, 0, 0, 0, 1)
	b = q.appendTo(b)
	return appendOPT(b, safeUDP, 0, q.DO)
}

func (q Question) appendTo(b []byte) []byte {
	b = append(b, q.wire...)
	b = binary.BigEndian.AppendUint16(b, q.Type)
	return binary.BigEndian.AppendUint16(b, q.class)
}

func appendOPT(b []byte, size int, extended RCode, do bool) []byte {
	b = append(b, 0, 0, TypeOPT)
	b = binary.BigEndian.AppendUint16(b, uint16(size))
	ttl := uint32(extended) << 24
	if do {
		ttl |= flagDO
	}
	b = binary.BigEndian.AppendUint32(b, ttl)
	return append(b, 0, 0)
}

// Fail is an answer that has nothing but a code.
func (q Query) Fail(code RCode) []byte { return q.Reply(q.Made(code), 0, 0) }

// Answer is an answer without its asker: no id, no OPT. Its bytes are never altered.
type Answer struct {
	b        []byte
	question int   // where the question ends
	ttls     []int // where they are
	addrs    int   // A and AAAA among the answers
	Code     RCode
	// TTL is how long it may be kept; 0 is not at all.
	TTL time.Duration
}

// Len is how many bytes it takes.
func (a *Answer) Len() int { return len(a.b) + 8*len(a.ttls) }

// Negative reports whether the answer is that there is nothing (RFC 2308).
func (a *Answer) Negative() bool {
	return a.Code == NXDomain || a.Code == Success && !a.answers()
}

// answers reports whether there are answers, or at least an alias.
func (a *Answer) answers() bool { return len(a.b) >= headLen && binary.BigEndian.Uint16(a.b[6:]) > 0 }

// Limits of what is kept, whatever a zone says (RFC 8767, section 4; RFC 2308, section 5; RFC 9520, section 3.2).
const (
	maxTTL      = 24 * time.Hour
	maxNegative = 3 * time.Hour
	failureTTL  = time.Second
)

// Answers reports whether b is an answer to q, whatever its id.
func (q Question) Answers(b []byte) bool {
	if len(b) < headLen || b[2]&0x80 == 0 || binary.BigEndian.Uint16(b[4:]) != 1 || len(b)-headLen < len(q.wire)+4 {
		return false
	}
	n := headLen + len(q.wire)
	return lower(string(b[headLen:n])) == q.wire && binary.BigEndian.Uint16(b[n:]) == q.Type &&
		binary.BigEndian.Uint16(b[n+2:]) == q.class
}

// Truncated reports whether b says that there would be more.
func Truncated(b []byte) bool { return len(b) >= headLen && b[2]&(flagTC>>8) != 0 }

// ParseAnswer reads the answer to q.
func ParseAnswer(q Question, b []byte) (*Answer, error) {
	if !q.Answers(b) {
		return nil, errAnswer
	}
	if len(b) > MaxMessage {
		return nil, errAnswer
	}
	flags := binary.BigEndian.Uint16(b[2:])
	a := &Answer{question: headLen + len(q.wire) + 4, Code: RCode(flags & 15)}
	end, kept := a.question, 0
	least, soa := uint32(1<<31-1), uint32(0)
	haveSOA, seen := false, false
	err := records(b, a.question, func(section int, r record) error {
		if r.typ == TypeOPT && section == additional {
			if !seen {
				a.Code |= RCode(r.ttl >> 24 << 4)
			}
			seen = true
		}
		if seen {
			return nil
		}
		end = r.end
		if section == additional {
			kept++
		}
		a.ttls = append(a.ttls, r.data-6)
		ttl := r.ttl
		if ttl > 1<<31-1 {
			ttl = 0 // RFC 2181, section 8
		}
		switch {
		case section == answers:
			least = min(least, ttl)
			if r.typ == TypeA && r.length == 4 || r.typ == TypeAAAA && r.length == 16 {
				a.addrs++
			}
		case section == authority && r.typ == TypeSOA && r.length >= 22:
			haveSOA = true
			soa = min(ttl, binary.BigEndian.Uint32(b[r.end-4:]))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	a.b = append([]byte(nil), b[:end]...)
	binary.BigEndian.PutUint16(a.b[10:], uint16(kept))
	a.b[0], a.b[1] = 0, 0
	switch seconds := func(n uint32) time.Duration { return time.Duration(n) * time.Second }; {
	case a.Code != Success && a.Code != NXDomain:
		a.TTL = failureTTL
	case a.Code == Success && a.answers() && !haveSOA:
		a.TTL = min(seconds(least), maxTTL)
	case haveSOA: // nothing, or an alias that leads to nothing
		a.TTL = min(seconds(min(least, soa)), maxNegative)
	}
	if flags&flagTC != 0 {
		a.TTL = 0
	}
	return a, nil
}

// Made is an answer of our own to q: a code and records, which share a TTL.
func (q Question) Made(code RCode, records ...Record) *Answer {
	a := &Answer{b: make([]byte, headLen, headLen+len(q.wire)+4+28*len(records)), Code: code}
	if q.wire == "" { // it could not be read
		return a
	}
	a.b[5] = 1
	a.b = q.appendTo(a.b)
	a.question = len(a.b)
	for _, r := range records {
		a.b = append(a.b, 0xc0, headLen)
		a.b = binary.BigEndian.AppendUint16(a.b, r.Type)
		a.b = binary.BigEndian.AppendUint16(a.b, classIN)
		a.ttls = append(a.ttls, len(a.b))
		a.b = binary.BigEndian.AppendUint32(a.b, r.TTL)
		a.b = binary.BigEndian.AppendUint16(a.b, uint16(len(r.Data)))
		a.b = append(a.b, r.Data...)
		a.b[7]++
		if r.Type == TypeA || r.Type == TypeAAAA {
			a.addrs++
		}
	}
	return a
}

// Record is a record of the question's name.
type Record struct {
	Type uint16
	TTL  uint32
	Data []byte
}

// Reply is a as the asker of q is told it, after so long in a cache. most is how long it may be by UDP; 0 is a
// stream's limit. A longer one is cut to what says so (RFC 2181, section 9).
func (q Query) Reply(a *Answer, age time.Duration, most int) []byte {
	b := make([]byte, len(a.b), len(a.b)+11)
	copy(b, a.b)
	if a.question > 0 && a.question == headLen+len(q.asked) {
		copy(b[headLen:], q.asked) // as it was asked: some check the case
	}
	for _, at := range a.ttls {
		left := binary.BigEndian.Uint32(b[at:])
		if left > 1<<31-1 {
			left = 0
		}
		binary.BigEndian.PutUint32(b[at:], left-min(left, uint32(age/time.Second)))
	}
	limit := MaxMessage
	if most > 0 {
		limit = min(most, minUDP)
		if q.edns {
			limit = min(most, max(q.size, minUDP))
		}
	}
	flags := uint16(flagQR|flagRA) | q.flags&(flagRD|flagCD|maskOpcode) | uint16(a.Code&15)
	from := binary.BigEndian.Uint16(a.b[2:])
	if q.DO || q.flags&flagAD != 0 {
		flags |= from & flagAD
	}
	flags |= from & flagTC
	opt := 0
	if q.edns {
		opt = 11
	}
	if len(b)+opt > limit {
		b = b[:a.question]
		clear(b[6:headLen])
		flags |= flagTC
	}
	binary.BigEndian.PutUint16(b, q.id)
	binary.BigEndian.PutUint16(b[2:], flags)
	if q.edns {
		b = appendOPT(b, safeUDP, a.Code>>4, q.DO)
		binary.BigEndian.PutUint16(b[10:], binary.BigEndian.Uint16(b[10:])+1)
	}
	return b
}

// Addrs calls do with the addresses among the answers, and how long each is good for.
func (a *Answer) Addrs(do func(addr netip.Addr, ttl time.Duration)) {
	if a.addrs == 0 {
		return
	}
	records(a.b, a.question, func(section int, r record) error { // which was read before
		data := a.b[r.data:r.end]
		if section != answers || !(r.typ == TypeA && r.length == 4 || r.typ == TypeAAAA && r.length == 16) {
			return nil
		}
		addr, _ := netip.AddrFromSlice(data)
		do(addr, time.Duration(min(r.ttl, 1<<31-1))*time.Second)
		return nil
	})
}

// Bytes is the message, with id 0. It is not to be altered.
func (a *Answer) Bytes() []byte { return a.b }

// Stale is a with a TTL of so many seconds in every record.
func (a *Answer) Stale(seconds uint32) *Answer {
	c := *a
	c.b = append([]byte(nil), a.b...)
	for _, at := range c.ttls {
		binary.BigEndian.PutUint32(c.b[at:], seconds)
	}
	return &c
}

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
