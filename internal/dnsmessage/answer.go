package dnsmessage

import (
	"encoding/binary"
	"net/netip"
	"time"
)

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
